"""What an imperfect verifier would pick from draws that were made, without bias: no probability has to be known.

`verified_accuracy` of `selection.py` is a polynomial in p of degree n, so c passes of N draws estimate it without bias for
every n up to N, just as pass@k is estimated: by taking n of the N draws without replacement.
"""

from __future__ import annotations

from collections.abc import Sequence

from lockedroom.errors import BadInput
from lockedroom.wording import counted


def verified_accuracy_of_draws(
    draws: int, passes: int, true_positive_rate: float, false_positive_rate: float, ns: Sequence[int]
) -> list[float]:
    """Return, for each n of `ns`, the accuracy of taking the first of n draws that the verifier accepts (any if none).

    The unbiased estimate of `verified_accuracy(p, t, f, n)`; with t = 1 and f = 0 it is `pass_at_k`. The n draws are taken
    from the N without replacement; `weight_J[j]` is the probability that j correct draws and no wrong ones beyond them were
    seen so far and all were rejected. Raises BadInput unless 0 <= passes <= draws, 0 <= rates <= 1 and 1 <= n <= draws.
    """
    import numpy as np

    t, f = true_positive_rate, false_positive_rate
    if not (0 <= passes <= draws and 0 <= t <= 1 and 0 <= f <= 1) or any(not 1 <= n <= draws for n in ns):
        raise BadInput(
            f"needs 0 <= {passes} <= {counted(draws, 'draw')}, rates {t} and {f} in [0, 1], and every n from 1 to {draws}"
        )
    correct_J = np.arange(passes + 1.0)
    weight_J = np.zeros(passes + 1)
    weight_J[0] = 1.0
    accepted, found = 0.0, {}
    for k in range(max(ns, default=0)):
        left = draws - k
        next_right_J = weight_J * (passes - correct_J) / left
        next_wrong_J = weight_J * np.maximum(left - (passes - correct_J), 0.0) / left
        accepted += t * float(next_right_J.sum())
        weight_J = next_wrong_J * (1 - f)
        weight_J[1:] += next_right_J[:-1] * (1 - t)
        found[k + 1] = accepted + float((weight_J * correct_J).sum()) / (k + 1)
    return [found[n] for n in ns]
