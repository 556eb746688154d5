"""What a policy can be asked for: settings that are a distribution, a prompt that fits, and a completion after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from lockedroom.errors import BadInput
from lockedroom.records import Sampling
from lockedroom.wording import counted


def check_sampling(sampling: Sampling) -> None:
    """Raise BadInput for settings that are no distribution."""
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        raise BadInput(f"temperature: {sampling.temperature}; give a finite number, 0 (greedy) or above")
    if sampling.top_k < 0:
        raise BadInput(f"top_k: {sampling.top_k}; give 0 (keep every token) or the number of tokens to keep")
    if not 0 < sampling.top_p <= 1:
        raise BadInput(f"top_p: {sampling.top_p}; give a share above 0 and up to 1 (keep every token)")
    if sampling.max_tokens is not None and sampling.max_tokens < 1:
        raise BadInput(f"max_tokens: {sampling.max_tokens}; give 1 or more")
    if "" in sampling.stop:
        raise BadInput("stop: an empty stop string would end every completion at once; remove it")


def fitting_prompt(
    render: Callable[[str], tuple[int, ...]], prompt: str, *, context: int, included: str, example_id: str | None
) -> tuple[int, ...]:
    """Return a prompt's ids as `render` makes them. Raises BadInput where it cannot, and where no token fits behind them.

    `included` says what the ids hold besides the prompt.
    """
    where = "prompt" if example_id is None else f"example {example_id!r}: prompt"
    try:
        ids = render(prompt)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None
    if len(ids) >= context:
        raise BadInput(
            f"{where}: {counted(len(ids), 'token')}, {included} included, leave no room in this policy's context of {context}; "
            "shorten the prompt"
        )
    return ids


def token_limit(context: int, prompt: Sequence[int], sampling: Sampling) -> int:
    """Return how many tokens a completion may have, end token included: `max_tokens`, or what the context leaves."""
    room = context - len(prompt)
    if sampling.max_tokens is not None and sampling.max_tokens > room:
        raise BadInput(
            f"max_tokens: {sampling.max_tokens} after a prompt of {counted(len(prompt), 'token')} exceeds this "
            f"policy's context of {context}; give at most {room}, or none to use what is left"
        )
    return sampling.max_tokens or room
