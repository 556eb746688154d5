"""What a step of learning is refused for, at the very share that was set."""

from __future__ import annotations

import pytest

from lockedroom.errors import BadInput
from lockedroom.loops.learning.batch import Draw
from lockedroom.loops.learning.guards import refuse_undrawn
from lockedroom.loops.learning.opening import LearnConfig
from lockedroom.records import Completion, Failure, FailureCode, FinishReason, Sampling

FAILED = Failure(FailureCode.POLICY_ERROR, "no answer")


def test_the_share_that_hit_the_limit_is_one_of_what_was_drawn() -> None:
    """Of two completions one was cut off: a half, however many draws failed beside them."""
    drawn = [Completion("a", finish_reason=reason) for reason in (FinishReason.LENGTH, FinishReason.STOP)]
    draw = Draw([], [*drawn, FAILED, FAILED], [FAILED] * 4, (0.0, 0.0))

    refuse_undrawn(LearnConfig(dataset="", max_failed=1.0, max_truncated=0.5), draw, 0)
    with pytest.raises(BadInput, match=r"1 of 2 completions hit the limit of 8 tokens, more than --max-truncated 0\.4"):
        refuse_undrawn(
            LearnConfig(dataset="", max_failed=1.0, max_truncated=0.4, sampling=Sampling(max_tokens=8)), draw, 0
        )
