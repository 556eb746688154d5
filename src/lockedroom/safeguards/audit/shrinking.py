"""Making a finding small: delete what is not needed for the scorer to stay wrong in the same way."""

from __future__ import annotations

from collections.abc import Callable

MOST_TRIES = 300


def shrink(text: str, still_wrong: Callable[[str], bool], tries: int = MOST_TRIES) -> str:
    """Return a text from which no single character can be deleted while `still_wrong` holds, or the best after `tries`.

    Delta debugging (Zeller & Hildebrandt 2002): ever smaller stretches are deleted, from the end on.
    """
    size = max(len(text) // 2, 1)
    while size and tries > 0:
        end = len(text)
        progress = False
        while end > 0 and tries > 0:
            start = max(end - size, 0)
            shorter = text[:start] + text[end:]
            tries -= 1
            if still_wrong(shorter):
                text, progress = shorter, True
            end = start
        if not (progress and size == 1):
            size //= 2
    return text
