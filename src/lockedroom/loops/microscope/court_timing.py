"""What an estimator costs: CPU time of one update's arithmetic, on one batch for all.

Letters: N completions (rows), P prompts, G completions of each, T tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from lockedroom.learning.foreign import Rows

if TYPE_CHECKING:
    from torch import Tensor

TIMED_PROMPTS, TIMED_GROUP, TIMED_TOKENS = 64, 8, 8


def timed(update: Callable[[], object]) -> float:
    """Return the CPU time of one update in milliseconds, the least of three after a first."""
    update()
    spent = []
    for _ in range(3):
        began = time.process_time()
        update()
        spent.append(time.process_time() - began)
    return 1000 * min(spent)


def timed_rows() -> tuple[Rows, Tensor]:
    """Return the batch that everything is timed on, and its rewards_PG."""
    generator = torch.Generator().manual_seed(0)
    rows = TIMED_PROMPTS * TIMED_GROUP
    logprobs_NT = -torch.rand(rows, TIMED_TOKENS, generator=generator, dtype=torch.float64)
    lengths_N1 = torch.randint(1, TIMED_TOKENS + 1, (rows, 1), generator=generator)
    mask_NT = torch.arange(TIMED_TOKENS) < lengths_N1
    rewards_PG = (torch.rand(TIMED_PROMPTS, TIMED_GROUP, generator=generator) < 0.4).double()
    return Rows(logprobs_NT, logprobs_NT, logprobs_NT - 0.1, rewards_PG.flatten() - 0.4, mask_NT), rewards_PG
