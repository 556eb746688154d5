"""Choosing one of n draws, averaged over every n of the N that were made: exact, and free of the order of the draws.

A selector that ranks draws takes the best of any n. So the chance of each draw to be taken, over all C(N, n) subsets, follows
from its rank alone, and the mean over subsets is the U-statistic of "draw n, choose one" (Hoeffding 1948): without bias, and of
no greater variance than the mean over ⌊N/n⌋ disjoint groups, which is a mean over some of the subsets. Draws that are alike to
the selector make a tier, and share its chance. pass@k is the case of two tiers.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias

# Of an example: subsets whose choice is right, whose choice was judged, all. They are whole numbers, unless tiers share.
Rate: TypeAlias = tuple[int | Fraction, int | Fraction, int]


@functools.cache
def subsets_won(draws: int, n: int) -> tuple[int, ...]:
    """Return in how many subsets of n each draw is the best, from the best of all on: C(N − 1 − rank, n − 1)."""
    return tuple(math.comb(draws - 1 - rank, n - 1) for rank in range(draws))


def ranked_rate(right: Sequence[int], judged: Sequence[int], n: int) -> Rate:
    """Return the rate of a selector with a strict order. right, judged: 0 or 1 of each draw, the best first.

    No `judged` stands for all of them.
    """
    won = subsets_won(len(right), n)
    every = math.comb(len(right), n)
    return sum(itertools.compress(won, right)), sum(itertools.compress(won, judged)) if judged else every, every


@functools.lru_cache(maxsize=100_000)
def tiered_rate(tiers: tuple[tuple[int, int, int], ...], n: int) -> Rate:
    """Return the rate of a selector that takes any draw of the best tier there is, each with one chance.

    Each tier is (draws, of which right, of which judged), the best first.
    """
    left = sum(size for size, _, _ in tiers)
    every = math.comb(left, n)
    right, judged = Fraction(0), Fraction(0)
    for size, passed, scored in tiers:
        if size:
            share = Fraction(math.comb(left, n) - math.comb(left - size, n), size)
            right, judged = right + share * passed, judged + share * scored
            left -= size
    return _whole(right), _whole(judged), every


def _whole(number: Fraction) -> int | Fraction:
    return number.numerator if number.denominator == 1 else number
