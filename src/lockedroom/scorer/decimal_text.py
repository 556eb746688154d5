"""The decimal digits of an integer of any size.

`str(int)` refuses more than 4,300 digits by default, because it is quadratic. Longer ones are put together in
`decimal`, whose multiplication is not: a million digits take a fraction of a second. This is the method of CPython's
own `_pylong.int_to_decimal_string` (3.12).
"""

from __future__ import annotations

import decimal

# 2**2048 has 617 digits; the interpreter's limit on str(int) cannot be set below 640, so str() never refuses these.
_STR_BITS = 2048
_LEAF_BITS = 256

# The context is passed explicitly, so neither the caller's decimal context nor any other global is read or changed.
# Inexact is trapped: a digit is either right or an exception.
_EXACT = decimal.Context(
    prec=decimal.MAX_PREC,
    Emax=decimal.MAX_EMAX,
    Emin=decimal.MIN_EMIN,
    traps=[decimal.Inexact, decimal.InvalidOperation],
)


def decimal_string(value: int) -> str:
    """Return what `str(value)` would: the canonical decimal digits, for an integer of any size."""
    if value.bit_length() <= _STR_BITS:
        return str(value)
    sign = "-" if value < 0 else ""
    magnitude = abs(value)
    powers = [decimal.Decimal(1 << _LEAF_BITS)]  # powers[k] is 2 ** (_LEAF_BITS << k)
    while _LEAF_BITS << len(powers) < magnitude.bit_length():
        powers.append(_EXACT.multiply(powers[-1], powers[-1]))
    return sign + str(_as_decimal(magnitude, len(powers) - 1, powers))


def _as_decimal(value: int, level: int, powers: list[decimal.Decimal]) -> decimal.Decimal:
    """Convert a value below `powers[level] ** 2` by splitting it at `powers[level]`."""
    if value.bit_length() <= _LEAF_BITS:
        return decimal.Decimal(value)
    width = _LEAF_BITS << level
    high = value >> width
    low = value - (high << width)
    scaled = _EXACT.multiply(_as_decimal(high, level - 1, powers), powers[level])
    return _EXACT.add(scaled, _as_decimal(low, level - 1, powers))
