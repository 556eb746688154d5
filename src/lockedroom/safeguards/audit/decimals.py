"""Expected answers with a decimal point: which texts say the same number, or nearly, and which a scorer must not pay."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from lockedroom.scorer.judgeable import answer_digits

# Two careful people may both be right about a number this near: how much a scorer tolerates is its author's choice.
NEAR = Decimal("0.01")
LONGEST = 40
_PLAIN = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")


def decimal_of(answer: Any) -> Decimal | None:
    """Return a finite `float`, or a plain decimal string, as the number that it says; None for anything else."""
    if isinstance(answer, float):
        return Decimal(repr(float(answer))) if math.isfinite(answer) else None
    if not isinstance(answer, str) or answer_digits(answer) is not None or len(answer) > LONGEST:
        return None
    return Decimal(answer) if _PLAIN.fullmatch(answer) else None


def told_alike(text: str, right: str) -> str | None:
    """Return how two texts differ if only in the spelling of their numbers (`decimal places`, `tolerance`), else None."""
    if _PLAIN.split(text) != _PLAIN.split(right):
        return None
    pairs = list(zip(_PLAIN.findall(text), _PLAIN.findall(right), strict=True))
    if any(len(one) > LONGEST for pair in pairs for one in pair):
        return None
    values = [(Decimal(one), Decimal(other)) for one, other in pairs]
    if all(one == other for one, other in values):
        return "decimal places"
    return "tolerance" if all(abs(one - other) <= NEAR * abs(other) for one, other in values) else None


def near_decimals(value: Decimal) -> Iterator[tuple[str, str]]:
    """Yield (attack, number): from within any tolerance, which is the author's choice, to far beyond every sensible one."""
    whole = int(value)
    for attack, other in (
        ("within a tolerance", value * (1 + Decimal("1e-9"))), ("within a tolerance", value * (1 + Decimal("1e-4"))),
        ("within a tolerance", value * (1 + NEAR)), ("beyond a tolerance", value * Decimal("1.1") + Decimal("0.1")),
        ("one off", value + 1), ("one off", value - 1), ("negated", -value), ("ten times", value * 10), ("a tenth", value / 10),
        ("integer part", Decimal(whole)), ("same integer part", whole + Decimal("0.987654321") * (-1 if value < 0 else 1)),
        ("rounded", value.quantize(Decimal("0.1"))), ("rounded", value.quantize(Decimal(1))),
    ):  # fmt: skip
        if other != value:
            yield attack, f"{other.normalize():f}"
