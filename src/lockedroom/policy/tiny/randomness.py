"""Random numbers that belong to one draw of one example, whoever computes it and when.

The number for token t of a completion is a function of (run seed, step, example id, draw, t) alone: bytes of BLAKE2b over
those five. So a completion is the same in any batch, order, group or worker, and can be drawn again on its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SEED_SCHEME = "blake2b(seed, step, example id, draw, token)"
TOKENS_PER_HASH = 8  # BLAKE2b gives 64 bytes: eight numbers of 53 bits
_PERSON = b"lockedroom-u01"  # separates these hashes from every other use of BLAKE2b


def uniforms(seed: int, step: int, rows: Sequence[tuple[str, int]], block: int) -> NDArray[np.float64]:
    """Return u_RT in [0, 1): row r is for `rows[r]` = (example id, draw), columns are tokens 8·block … 8·block + 7."""
    head = hashlib.blake2b(f"{seed}/{step}/{block}/".encode(), digest_size=64, person=_PERSON)
    digests: list[bytes] = []
    for example_id, draw in rows:
        state = head.copy()
        state.update(f"{draw}/{example_id}".encode("utf-8", "surrogatepass"))
        digests.append(state.digest())
    words_RT = np.frombuffer(b"".join(digests), dtype="<u8").reshape(len(rows), TOKENS_PER_HASH)
    return (words_RT >> np.uint64(11)).astype(np.float64) * 2.0**-53
