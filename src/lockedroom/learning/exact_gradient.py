"""Sampled gradients of a real policy beside its exact ∇J: running sums, so that no list of gradients is kept.

Letters: X examples, N listed token sequences, T tokens, D parameters. Intervals are normal approximations over batches
and accuse falsely in at most 1 of 1,000 cases.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import torch

from lockedroom.errors import BadInput
from lockedroom.learning.court import TWO_SIDED_999, Verdict

if TYPE_CHECKING:
    from torch import Tensor

FEWEST_BATCHES, MOST_BATCHES = 100, 100_000
TWO_SIDED_9995 = 3.4808  # standard normal quantile: two tests at half the error each


def pass_probabilities(logprobs_NT: Tensor, example_N: Tensor, examples: int) -> Tensor:
    """Return p_X, with gradients: the summed probability of the token sequences listed for each example.

    Exact where the sequences are all those that are paid: one text has several, and to the policy each is another event.
    logprobs_NT is 0 outside each sequence. Summed in float64.
    """
    paths_N = logprobs_NT.double().sum(-1).exp()
    return torch.zeros(examples, dtype=torch.float64).index_add(0, example_N, paths_N)


class GradientFinding(msgspec.Struct, frozen=True, kw_only=True):
    """How the sampled gradients of an estimator compare with the exact ∇J.

    length: of the expected gradient along ∇J, in units of ∇J, with its 99.9 % interval. cosine: of the mean of all batches
    with ∇J; cosine_of_noise: what a gradient exactly along ∇J would show, on average, after as many batches as noisy;
    cosine_single: mean over single batches. bias: ‖E g − ∇J‖ / ‖∇J‖, in [bias_low, bias_high]. spread: trace of the
    variance of a batch's gradient, in units of ‖∇J‖² and brought to length one; None where no length can be told from 0.
    """

    batches: int
    length: float
    length_low: float
    length_high: float
    cosine: float
    cosine_of_noise: float
    cosine_single: float
    bias: float
    bias_low: float
    bias_high: float
    spread: float | None
    verdict: Verdict
    said: str


class GradientTally:
    """Takes a planned number of gradients one by one. Raises BadInput for a ∇J of zero: nothing compares with it.

    The first half of the batches gives the direction in which the gradient seems to be off; the second half is measured
    along it. A mean along a direction chosen without it is at most the length of the bias, whatever the dimension. A wrong
    length is seen better along ∇J itself, from all batches; each test has half of the error.
    """

    def __init__(self, target_D: Tensor, batches: int) -> None:
        if not FEWEST_BATCHES <= batches <= MOST_BATCHES:
            raise BadInput(f"--batches {batches}: expected {FEWEST_BATCHES} to {MOST_BATCHES:,}")
        self.target_D = target_D.double()
        self.size = float(self.target_D.norm())
        if not self.size > 0:
            raise BadInput("the exact gradient is zero: these examples are always or never passed; choose others")
        self.batches = batches
        self.sum_D = torch.zeros_like(self.target_D)
        self.off_D: Tensor | None = None
        self.squares: list[float] = []
        self.along: list[float] = []  # g·∇J / ‖∇J‖²
        self.second: list[float] = []

    def add(self, gradient_D: Tensor) -> None:
        """Take one batch's estimate of ∇J."""
        gradient_D = gradient_D.double()
        self.squares.append(float(gradient_D @ gradient_D))
        self.along.append(float(gradient_D @ self.target_D) / self.size**2)
        if self.off_D is not None:
            self.second.append(float((gradient_D - self.target_D) @ self.off_D))
        self.sum_D += gradient_D
        if len(self.squares) == self.batches // 2:
            off_D = self.sum_D / len(self.squares) - self.target_D
            self.off_D = off_D / off_D.norm().clamp(min=1e-300)

    def finding(self) -> GradientFinding:
        """Return what all batches say together."""
        n = len(self.squares)
        assert n == self.batches, "a finding is made when all planned batches are in"
        mean_D, size = self.sum_D / n, self.size
        mean_square = float(mean_D @ mean_D)
        spread = max(0.0, math.fsum(self.squares) - n * mean_square) / (n - 1)
        length, error = _mean_and_error(self.along)
        low, high = length - TWO_SIDED_999 * error, length + TWO_SIDED_999 * error
        along_off, off_error = _mean_and_error(self.second)
        bias_low = max(0.0, (along_off - TWO_SIDED_9995 * off_error) / size, abs(length - 1) - TWO_SIDED_9995 * error)
        off = float((mean_D - self.target_D).norm())
        verdict, said = _verdict(bias_low, length, low, high)
        signal = length * size
        return GradientFinding(
            batches=n,
            length=length,
            length_low=low,
            length_high=high,
            cosine=_over(length * size, math.sqrt(mean_square)),
            cosine_of_noise=_over(abs(signal), math.sqrt(signal**2 + spread / n)),
            cosine_single=math.fsum(
                _over(a * size, math.sqrt(s)) for a, s in zip(self.along, self.squares, strict=True)
            )
            / n,
            bias=math.sqrt(max(0.0, off**2 - spread / n)) / size,
            bias_low=bias_low,
            bias_high=(off + TWO_SIDED_999 * math.sqrt(spread / n)) / size,
            spread=spread / signal**2 if low > 0 else None,
            verdict=verdict,
            said=said,
        )


def _verdict(bias_low: float, length: float, low: float, high: float) -> tuple[Verdict, str]:
    if bias_low == 0:
        return "UNBIASED", "no bias can be told from noise"
    if high <= 0:
        return "BROKEN", f"the expected gradient points away from ∇J: {length:.3g} × ∇J along it"
    if low <= 0:
        return "BROKEN", "the expected gradient has no part along ∇J that can be told from noise"
    return "BIASED", f"off by at least {bias_low:.1%} of ∇J; {length:.3g} × ∇J along it"


def _mean_and_error(values: list[float]) -> tuple[float, float]:
    """Return the mean and its standard error."""
    n = len(values)
    mean = math.fsum(values) / n
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)


def _over(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
