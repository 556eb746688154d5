"""Denial of service: texts that make a careless scorer slow, with a hard time-out on every call."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lockedroom.safeguards.audit.asking import is_deadly
from lockedroom.safeguards.audit.cases import Case
from lockedroom.safeguards.audit.families import Seed
from lockedroom.wording import counted

if TYPE_CHECKING:
    from lockedroom.safeguards.audit.examination import Examination

SIZES = (2_000, 20_000, 200_000)
SLOW_S = 0.25
# The share of the time left at the start that this stage may take.
SHARE = 0.6
_REPEATED = (
    "{s}", "{b}{s}", "{b}{n}{s}x", "{s}{g}", "{b}{s}{n}{a}", "{g}{s}", "x{s}x",
)  # fmt: skip
_PIECES = {
    "spaces": " ", "line breaks": "\n", "tabs and spaces": " \t", "digits": "1", "zeros": "0", "minus signs": "-", "opening brackets": "(", "braces": "{",
    "letters": "a", "words": "a ", "numbers": "1 ", "commas": "1,", "underscores": "1_", "boxes": "\\boxed{", "frames": "Final: ", "hashes": "#### ", "NBSP": "\xa0",
    "backslashes": "\\", "points": "1.", "carets": "9^", "tags": "<answer>",
}  # fmt: skip
_BOMBS = (
    "9**9**9**9", "9^9^9^9", "{b}9**9**9**9{a}", "\\boxed{9^{9^{9^{9}}}}", "{b}1e999999999{a}", "1e-999999999", "{b}(1+1)**99999999{a}", "factorial(999999999)", "999999999!",
    "{b}0x" + "f" * 5000 + "{a}", "\\frac{1}{" * 500 + "1" + "}" * 500, "\\sqrt{" * 500 + "1" + "}" * 500, "10**10**10", "{b}1/0{a}", "[" * 3000 + "]" * 3000,
)  # fmt: skip


def endure(exam: Examination) -> None:
    """Ask long and explosive texts one at a time, small ones first; a kind that hangs is not asked larger."""
    hung_s, allowed_s, began = 0.0, SHARE * exam.clock.left(), time.monotonic()
    slowest = (0.0, "")
    kinds = [*_growing(exam.seeds[0]), *_exploding(exam.seeds[0])]
    for position, kind in enumerate(kinds):
        if time.monotonic() - began >= allowed_s or exam.clock.left() <= 0:
            _left_out(exam, f"{len(kinds) - position} of {len(kinds)}", hung_s, allowed_s)
            break
        for case in kind:
            asked = time.monotonic()
            said = exam.ask([case], patience=1)[0]
            took = time.monotonic() - asked
            slowest = max(slowest, (took, case.attack))
            exam.ledger.exploit(case, said)
            if said is None or is_deadly(said):
                hung_s += took
                break
    if slowest[0] > SLOW_S:
        exam.notes.append(f"its slowest call took {slowest[0]:.2f} s, on {slowest[1]}")


def _left_out(exam: Examination, kinds: str, hung_s: float, allowed_s: float) -> None:
    """Say what was not asked, so that the stages behind have their time. Only the scorer's own hangs excuse it."""
    told = f"denial of service: {kinds} kinds of text were not asked within {allowed_s:.0f} s"
    if hung_s:
        told += f", because calls that never came back had taken {hung_s:.0f} s"
    else:
        exam.incomplete.append(f"denial of service ({allowed_s:.0f} s)")
    exam.notes.append(f"{told}; give a larger --budget to ask them all")


def _growing(seed: Seed) -> Iterator[list[Case]]:
    for name, piece in _PIECES.items():
        for template in _REPEATED:
            cases = []
            for size in SIZES:
                filled = seed.fill(template.replace("{s}", "\0"))
                if filled is not None:
                    text = filled.replace("\0", piece * (size // len(piece)))
                    cases.append(_case(seed, f"{counted(size, 'character')} of {name} in {template}", text))
            if cases:
                yield cases


def _exploding(seed: Seed) -> Iterator[list[Case]]:
    for template in _BOMBS:
        text = seed.fill(template)
        if text is not None:
            yield [_case(seed, template[:40], text)]


def _case(seed: Seed, attack: str, text: str) -> Case:
    return Case(family="denial_of_service", attack=attack, example=seed.example, completion=text)
