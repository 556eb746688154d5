"""Accuracy at n is the mean over every n of the N draws: against brute force, and whatever the order of the draws."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from lockedroom.records import Completion, Score
from lockedroom.results.selection.numbers import Selection, finish
from lockedroom.results.selection.picking import Plan, Pool, make_pool, pick, places_of, tiers_of
from lockedroom.results.selection.selectors import Ties, builtin_selector, parser
from lockedroom.results.selection.sums import SelectionSums
from lockedroom.stats.subsets import ranked_rate, subsets_won, tiered_rate
from lockedroom.testkit.selections import records_of

TEXTS = ("Final: 2", "Final: 3", "Final: 7", "two", "Final:  2")
EXACT = (
    "logprob",
    "mean-logprob",
    "majority-vote",
    "best-of-n",
    "kl-regularized",
    "rejection-sampling",
    "first",
    "random",
)
SYMMETRIC = [name for name in EXACT if name not in ("first", "random", "rejection-sampling")]
N = 6
NS = (1, 2, 3, 4, 5, 6)


def _drawn(seed: int, failures: bool) -> list[str | Completion | None]:
    rng = random.Random(seed)
    return [
        None if failures and rng.random() < 0.3
        else Completion(rng.choice(TEXTS), -rng.random() * 9, -rng.random() * 9, None, tuple(range(rng.randint(1, 5))))
        for _ in range(N)
    ]  # fmt: skip


def _pool(drawn: Sequence[str | Completion | None], name: str = "e", tie: Ties | None = None) -> Pool:
    example, records, told = records_of(name, drawn)
    return make_pool(example, records, told, tie or Ties())


def _selection(selector: str, pools: Sequence[Pool], ns: Sequence[int] = NS) -> Selection:
    plan = Plan(selector=selector, ns=tuple(ns), parse="final-int", resamples=0)
    parse = parser("final-int")
    made = builtin_selector(selector, seed=0, beta=0.1, parse=parse)
    assert made is not None
    sums = SelectionSums(plan, len(pools[0].records), parse)
    for pool in pools:
        sums.add(pool, pick(made, pool, ns), tiers_of(made, pool, places_of(made, pool)))
    return finish(sums, source_run_id="run")


def _right(pool: Pool, i: int) -> int | None:
    result = pool.records[i].result
    return int(result.details.outcome.value == "correct") if isinstance(result, Score) else None


def _brute(selector: str, drawn: Sequence[str | Completion | None], n: int, *, orders: bool) -> float | None:
    """Choose in every subset (in every order, for a selector to which the order matters); the mean over judged picks."""
    made = builtin_selector(selector, seed=0, beta=0.1, parse=parser("final-int"))
    assert made is not None
    found = []
    for subset in (itertools.permutations if orders else itertools.combinations)(range(N), n):
        pool = _pool([drawn[i] for i in subset])
        found.append(_right(pool, pick(made, pool, (n,)).picks[0][0]))
    judged = [one for one in found if one is not None]
    return math.fsum(judged) / len(judged) if judged else None


@pytest.mark.parametrize("failures", [False, True], ids=["all drawn", "some failed"])
@pytest.mark.parametrize("selector", SYMMETRIC)
def test_accuracy_is_the_mean_over_all_subsets(selector: str, failures: bool) -> None:
    for seed in range(12):
        drawn = _drawn(seed, failures)
        for n, at in zip(NS, _selection(selector, [_pool(drawn)]).at_n, strict=True):
            if failures and selector == "majority-vote" and n not in (1, 2, N):
                continue  # held in groups, as docs/loop-b.md says
            expected = _brute(selector, drawn, n, orders=False)
            assert (None if at.accuracy is None else at.accuracy.mean) == (
                None if expected is None else pytest.approx(expected, abs=1e-12)
            ), (seed, n)


@pytest.mark.parametrize("failures", [False, True], ids=["all drawn", "some failed"])
def test_rejection_sampling_is_the_mean_over_all_orders(failures: bool) -> None:
    for seed in range(4):
        drawn = _drawn(seed, failures)
        for n, at in zip(NS[:4], _selection("rejection-sampling", [_pool(drawn)]).at_n, strict=False):
            expected = _brute("rejection-sampling", drawn, n, orders=True)
            assert (None if at.accuracy is None else at.accuracy.mean) == (
                None if expected is None else pytest.approx(expected, abs=1e-12)
            ), (seed, n)


@pytest.mark.parametrize("selector", ["first", "random"])
def test_choosing_blindly_is_as_good_as_one_draw(selector: str) -> None:
    drawn = _drawn(3, failures=False)
    at_n = _selection(selector, [_pool(drawn)]).at_n
    assert at_n[0].accuracy is not None
    for at in at_n[:-1]:  # at n = N there is one group, and what was picked from it is a record of the run
        assert at.accuracy is not None
        assert at.accuracy.mean == at_n[0].accuracy.mean


@pytest.mark.parametrize("selector", EXACT)
def test_the_order_of_the_draws_does_not_matter(selector: str) -> None:
    drawn = [_drawn(seed, failures=False) for seed in range(5)]
    turned = [[one[i] for i in (3, 0, 5, 1, 4, 2)] for one in drawn]
    found = [
        [(at.accuracy, at.ceiling, at.majority, at.told) for at in
         _selection(selector, [_pool(one, f"e{i}") for i, one in enumerate(some)], NS[:-1]).at_n]
        for some in (drawn, turned)
    ]  # fmt: skip
    assert found[0] == found[1]


def test_the_ceiling_is_pass_at_k() -> None:
    selection = _selection("logprob", [_pool(_drawn(seed, failures=False), f"e{seed}") for seed in range(9)])
    assert selection.pass_at_k is not None
    for at, point in zip(selection.at_n, selection.pass_at_k.points, strict=True):
        assert at.ceiling is not None
        assert at.ceiling.mean == pytest.approx(point.estimate, abs=1e-12)
        assert at.ceiling.standard_error == pytest.approx(point.standard_error, abs=1e-12)


def test_a_vote_in_few_subsets_is_held_in_all_of_them_and_in_many_in_groups() -> None:
    rng = random.Random(1)
    drawn = [Completion(rng.choice(TEXTS[:3]), -rng.random(), None, None, (1,)) for _ in range(12)]
    few, many = (_selection("best-of-n", [_pool(drawn[:size])], (4,)).at_n[0].majority for size in (8, 12))
    assert few is not None
    assert many is not None
    assert few.mean * math.comb(8, 4) == pytest.approx(round(few.mean * math.comb(8, 4)), abs=1e-9)
    assert few.mean * 2 != round(few.mean * 2)
    assert many.mean * 3 == pytest.approx(round(many.mean * 3))


def test_graded_rewards_are_averaged_over_all_subsets() -> None:
    rewards = [0.1, 0.9, 0.4, 0.4, 0.0, 0.7]
    example, records, told = records_of("e", ["Final: 2"] * N)
    told = [Score(reward, one.details) for reward, one in zip(rewards, told, strict=True) if isinstance(one, Score)]
    pool = make_pool(example, records, told)
    for n, at in zip(NS, _selection("best-of-n", [pool]).at_n, strict=True):
        assert at.told is not None
        best = [max(some) for some in itertools.combinations(rewards, n)]
        assert at.told.mean == pytest.approx(math.fsum(best) / len(best))


def test_the_spread_over_repeated_pools_is_no_greater_than_that_of_groups() -> None:
    """One example drawn anew 400 times: both means are right, and subsets vary less."""
    rng = random.Random(5)
    subsets, groups = [], []
    for _ in range(400):
        drawn = [
            Completion("Final: 2" if rng.random() < 0.4 else "Final: 3", -rng.random(), None, None, (1,))
            for _ in range(8)
        ]
        pool = _pool(drawn)
        made = builtin_selector("logprob", seed=0, beta=0.1, parse=parser("final-int"))
        assert made is not None
        row = pick(made, pool, (4,)).picks[0]
        groups.append(math.fsum(_right(pool, i) or 0 for i in row) / 2)
        accuracy = _selection("logprob", [pool], (4,)).at_n[0].accuracy
        assert accuracy is not None
        subsets.append(accuracy.mean)
    means = [math.fsum(values) / 400 for values in (subsets, groups)]
    assert means == pytest.approx([0.4, 0.4], abs=0.06)
    spreads = [
        math.fsum((x - mean) ** 2 for x in values) for values, mean in zip((subsets, groups), means, strict=True)
    ]
    assert spreads[0] < 0.9 * spreads[1]


def test_every_subset_has_one_best_draw() -> None:
    assert sum(subsets_won(64, 7)) == math.comb(64, 7)
    assert ranked_rate(b"\1" * 9, b"", 4) == (126, 126, 126)


def test_two_tiers_are_pass_at_k() -> None:
    right, judged, every = tiered_rate(((3, 3, 3), (7, 0, 7)), 5)
    assert float(right / every) == pytest.approx(11 / 12)
    assert judged == every


def test_a_pool_is_read_from_a_run(tmp_path: Path) -> None:
    """`selection.json` of accuracy at n = 2 for right, wrong, wrong, right, whatever comes first: 5/6 of the pairs hold a pass."""
    from lockedroom.loops.select import select
    from lockedroom.loops.selecting.opening import SelectConfig
    from lockedroom.results.verify import verify

    run = _two_right_of_four(tmp_path)
    done = select(SelectConfig(run=str(run), selector="best-of-n", resamples=0), tmp_path / "best")
    assert done.selection.at_n[1].accuracy is not None
    assert done.selection.at_n[1].accuracy.mean == pytest.approx(5 / 6)
    verify(done.path)


def _two_right_of_four(folder: Path) -> Path:
    from comparing import RIGHT, WRONG, make_run

    return make_run(folder, "run", [(RIGHT, WRONG, WRONG, RIGHT), (WRONG, WRONG, RIGHT, RIGHT)])
