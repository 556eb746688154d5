"""Sums of floats that are exact, so that a streamed summary has the same bits whatever the order, batches or workers.

Every finite double is an integer multiple of 2**-1074, and every product of two doubles of 2**-2148. A sum of either is
therefore one Python integer that counts units of 2**-2148; nothing is rounded until the result is read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from lockedroom.errors import BadInput

UNIT_EXPONENT = 2148  # one unit is 2**-2148: the square of the smallest positive double
_CANONICAL = re.compile(r"0x0p0|-?0x(?P<digits>[1-9a-f][0-9a-f]*)p(?P<exponent>0|-?[1-9][0-9]*)", re.ASCII)


class ExactSum:
    """An exact sum of finite floats and of products of two floats. Merging two of them loses nothing.

    It is a class because a stream needs state. Equal sums have equal `to_text()`, in whatever order they were made.
    """

    __slots__ = ("_ones", "_units")

    def __init__(self) -> None:
        self._ones = 0
        self._units = 0

    def add(self, value: float, times: int = 1) -> None:
        """Add `value`, `times` times over. Raises BadInput if it is not finite."""
        if value == 1.0:  # binary rewards are the common case
            self._ones += times
        elif value != 0.0:
            self._units += times * units_of(value)

    def add_product(self, left: float, right: float, times: int = 1) -> None:
        """Add the exact product `left * right`, `times` times over. Raises BadInput if a factor is not finite."""
        if left == 0.0 or right == 0.0:
            _refuse_non_finite(left, right)
            return
        if left == 1.0:
            self.add(right, times)
        elif right == 1.0:
            self.add(left, times)
        else:
            self._units += times * ((units_of(left) * units_of(right)) >> UNIT_EXPONENT)

    def extend(self, values: Iterable[float]) -> None:
        """Add every value. Raises BadInput at the first that is not finite; those before it stay added."""
        for value in values:
            self.add(value)

    def merge(self, other: ExactSum) -> None:
        """Add all that `other` holds; `other` is unchanged."""
        self._ones += other._ones
        self._units += other._units

    def units(self) -> int:
        """The sum as a whole number of units of 2**-2148."""
        return (self._ones << UNIT_EXPONENT) + self._units

    def value(self) -> float:
        """The sum, correctly rounded to the nearest double. Raises BadInput if it exceeds the largest double."""
        return ratio(self.units(), 1 << UNIT_EXPONENT)

    def to_text(self) -> str:
        """The exact sum as `[-]0xDIGITSpEXPONENT`, with an odd number before the `p`; the one text for that sum."""
        units = self.units()
        if units == 0:
            return "0x0p0"
        shift = (units & -units).bit_length() - 1
        return f"{units >> shift:#x}p{shift - UNIT_EXPONENT}"

    @classmethod
    def from_text(cls, text: str) -> ExactSum:
        """The sum that `to_text` wrote. Raises BadInput for any other text."""
        match = _CANONICAL.fullmatch(text)
        if match is None:
            raise BadInput(f"exact sum {text[:80]!r} is not of the form [-]0xDIGITSpEXPONENT; write it with to_text()")
        total = cls()
        if match["digits"] is not None:
            exponent = int(match["exponent"])
            odd = match["digits"][-1] in "13579bdf"
            if not odd or not -UNIT_EXPONENT <= exponent <= UNIT_EXPONENT:
                raise BadInput(f"exact sum {text[:80]!r} is even or out of range; write it with to_text()")
            magnitude = int(match["digits"], 16) << (exponent + UNIT_EXPONENT)
            total._units = -magnitude if text.startswith("-") else magnitude
        return total

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExactSum) and self.units() == other.units()

    __hash__ = None  # type: ignore[assignment]  # it changes while it streams, so it must not be a dict key

    def __repr__(self) -> str:
        return f"ExactSum.from_text({self.to_text()!r})"


def units_of(value: float) -> int:
    """`value` as a whole number of units of 2**-2148. Raises BadInput if it is not finite."""
    if not math.isfinite(value):
        raise BadInput(f"cannot sum {value!r}: a reward must be a finite number; record a failure instead")
    numerator, denominator = value.as_integer_ratio()
    return numerator << (UNIT_EXPONENT + 1 - denominator.bit_length())


def ratio(numerator: int, denominator: int) -> float:
    """The correctly rounded quotient of two integers. Raises BadInput if it exceeds the largest double."""
    try:
        return numerator / denominator
    except OverflowError:
        raise BadInput("a sum of rewards exceeds the largest double (1.8e308); rescale the rewards") from None


def exact_variance(total: ExactSum, total_of_squares: ExactSum, count: int) -> float:
    """Unbiased variance (divisor `count - 1`) from exact Σx and Σx², correctly rounded: zero only if all x are equal.

    Raises BadInput if `count` < 2. Without rounding, (Σx² − (Σx)²/n)/(n − 1) has no cancellation to fear.
    """
    if count < 2:
        raise BadInput(f"a variance needs at least 2 values, found {count}")
    first, second = total.units(), total_of_squares.units()
    numerator = ((second * count) << UNIT_EXPONENT) - first * first
    return ratio(numerator, (count * (count - 1)) << (2 * UNIT_EXPONENT))


def _refuse_non_finite(*values: float) -> None:
    for value in values:
        units_of(value)
