"""Numbers as the page writes them: a difference that is not nothing never reads as ±0.0000."""

from __future__ import annotations

from lockedroom.stats.intervals import Interval

DECIMALS = 4


def signed(value: float, decimals: int = DECIMALS) -> str:
    """With its sign; 0 only when it is 0, and with an exponent where the decimals would not show it."""
    if value == 0:
        return "0"
    return f"{value:+.1e}" if round(value, decimals) == 0 else f"{value:+.{decimals}f}"


def signed_span(interval: Interval | None) -> str:
    return "undefined" if interval is None else f"{signed(interval.low)} to {signed(interval.high)}"


def span(interval: Interval | None) -> str:
    return "undefined" if interval is None else f"{interval.low:.{DECIMALS}f} to {interval.high:.{DECIMALS}f}"
