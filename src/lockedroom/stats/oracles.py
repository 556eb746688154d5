"""Every number this package is held to, as data: the tests and `lockedroom selftest` replay this one table.

*Published* numbers come from R, VassarStats, the test data of statsmodels or scipy, or a paper; *computed* ones were
worked out from the formula, apart from this code. An expected number is kept as text, because its digits are the claim:
the replayed one must agree to half a unit of the last digit. `must_differ` marks a well-known wrong answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from lockedroom.errors import BadInput
from lockedroom.stats import intervals, one_run, paired, pass_at_k, power, selection, sequential


class Oracle(msgspec.Struct, frozen=True):
    """One known answer: `CALLS[function](*arguments)` must give `expected`, number by number."""

    name: str
    source: str
    function: str
    arguments: tuple[Any, ...]
    expected: tuple[str, ...]
    must_differ: bool = False


class Replay(msgspec.Struct, frozen=True):
    """An oracle, what this installation computes, and whether the two agree (or differ, if they must)."""

    oracle: Oracle
    found: tuple[float, ...]
    passed: bool


def replay(oracle: Oracle) -> Replay:
    """Compute one oracle here and now. Raises BadInput if it names an unknown function."""
    if oracle.function not in CALLS:
        raise BadInput(f"oracle {oracle.name!r}: unknown function {oracle.function!r}")
    found = CALLS[oracle.function](*oracle.arguments)
    same = len(found) == len(oracle.expected) and all(map(_agrees, found, oracle.expected))
    return Replay(oracle, found, same != oracle.must_differ)


def replay_all() -> Iterator[Replay]:
    """Replay the whole table, in its order."""
    return map(replay, ORACLES)


def _agrees(found: float, expected: str) -> bool:
    digits = len(expected.partition(".")[2])
    return abs(found - float(expected)) <= 0.5 * 10.0**-digits * (1 + 1e-9)


def _ends(interval: intervals.Interval) -> tuple[float, float]:
    return interval.low, interval.high


def _defined(*values: float | None) -> tuple[float, ...]:
    """The values, without those that are undefined: a missing one then fails the oracle by length."""
    return tuple(value for value in values if value is not None)


def _rows(*rows: str) -> one_run.RunSums:
    sums = one_run.RunSums()
    for row in rows:
        sums.add_example([float(reward) for reward in row])
    return sums


def _run(*rows: str) -> tuple[float, ...]:
    run = one_run.estimate_run(_rows(*rows))
    return () if run is None else _defined(run.mean, run.standard_error, run.variance_within, run.variance_between)


def _run_se(*rows: str) -> tuple[float, ...]:
    return _run(*rows)[1:2]


def _three_numbers(right: int, wrong: int, failed: int) -> tuple[float, ...]:
    sums = one_run.RunSums()
    sums.add_example([1.0], times=right)
    sums.add_example([0.0], times=wrong)
    sums.add_example([], failures=1, times=failed)
    three = one_run.with_failures(sums)
    return _defined(three.mean_scored, three.mean_failures_as_zero, three.lowest, three.highest)


def _curve(*passes: int, draws: int) -> tuple[pass_at_k.CurvePoint, ...]:
    return pass_at_k.pass_curve([draws] * len(passes), passes, resamples=0).points


def _paired(wins: int, losses: int, ties_right: int, ties_wrong: int) -> tuple[float, ...]:
    both = [1.0] * ties_right + [0.0] * ties_wrong
    q_a, q_b = [1.0] * wins + [0.0] * losses + both, [0.0] * wins + [1.0] * losses + both
    result = paired.paired_difference(q_a, q_b)
    if result.standard_error is None:
        return ()
    unpaired_z = paired.two_proportion_z(int(sum(q_a)), len(q_a), int(sum(q_b)), len(q_b))
    se = result.standard_error
    return _defined(result.difference, se, result.difference / se, unpaired_z)


CALLS: dict[str, Callable[..., tuple[float, ...]]] = {
    "wilson": lambda c, n: _ends(intervals.wilson(c, n)),
    "clopper_pearson": lambda c, n: _ends(intervals.clopper_pearson(c, n)),
    "binary_standard_error": lambda c, n: _defined(one_run.binary_standard_error(c, n)),
    "estimate_run": _run,
    "estimate_run: standard error": _run_se,
    "with_failures": _three_numbers,
    "pass_at_k": lambda n, c, k: (pass_at_k.pass_at_k(n, c, k),),
    "pass_hat_k": lambda n, c, k: (pass_at_k.pass_hat_k(n, c, k),),
    "pass_at_k_of_probability": lambda p, k: (pass_at_k.pass_at_k_of_probability(p, k),),
    "pass_curve": lambda draws, *c: tuple(point.estimate for point in _curve(*c, draws=draws)),
    "pass_curve: standard errors": lambda draws, *c: _defined(*(x.standard_error for x in _curve(*c, draws=draws))),
    "mcnemar_exact": lambda wins, losses: (paired.mcnemar_exact(wins, losses).p_value,),
    "mcnemar_exact: no evidence": lambda wins, losses: (float(paired.mcnemar_exact(wins, losses).no_evidence),),
    "paired_difference": _paired,
    "sample_size": lambda delta, between: (float(power.sample_size(delta, power.Noise(between))),),
    "unpaired_minimum_detectable_effect, points": lambda m, p: (100 * power.unpaired_minimum_detectable_effect(m, p),),
    "best_of_n_kl_bound": lambda n: (selection.best_of_n_kl_bound(n),),
    "best_of_n_kl_binary": lambda p, n: (selection.best_of_n_kl_binary(p, n),),
    "verified_accuracy": lambda p, t, f, n: (selection.verified_accuracy(p, t, f, n),),
    "verifier_ceiling": lambda p, t, f: (selection.verifier_ceiling(p, t, f),),
    "verifier_errors: highest false-positive rate": lambda *counts: (
        selection.verifier_errors(*counts).false_positive_interval.high,
    ),
    "expected_maximum_of_normals": lambda m: (selection.expected_maximum_of_normals(m),),
    "gao_best_of_n_peak": lambda a, b: msgspec.structs.astuple(selection.gao_best_of_n_peak(a, b)),
    "gao_best_of_n": lambda d, a, b: (selection.gao_best_of_n(d, a, b),),
    "robbins_interval": lambda c, n: _ends(sequential.robbins_interval(c, n)),
    "anytime_mcnemar: e-value": lambda wins, losses: (sequential.anytime_mcnemar(wins, losses).e_value,),
    "pocock_z": lambda looks: (sequential.pocock_z(looks),),
    "false_alarm_rate": lambda looks, z: (sequential.false_alarm_rate(looks, z),),
    "ladder": lambda step, *losses: sequential.ladder(losses, step),
}

_FIVE_BY_FOUR = ("1111", "1100", "0000", "1000", "1110")
_R = "published (R)"
_P = "published"
_C = "computed"

ORACLES: tuple[Oracle, ...] = (
    Oracle("Wilson 3/10", _R, "wilson", (3, 10), ("0.1077913", "0.6032219")),
    Oracle("Wilson 0/10", _R, "wilson", (0, 10), ("0.0000000", "0.2775328")),
    Oracle("Wilson 18/20", _R, "wilson", (18, 20), ("0.6989664", "0.9721335")),
    Oracle("Wilson 20/100", _C, "wilson", (20, 100), ("0.133367", "0.288829")),
    Oracle("Wilson 0/30", _R, "wilson", (0, 30), ("0.0000000", "0.1135134")),
    Oracle("Wilson 70/100", _C, "wilson", (70, 100), ("0.604151", "0.781051")),
    Oracle("Clopper-Pearson 3/10", _C, "clopper_pearson", (3, 10), ("0.06674", "0.652453")),
    Oracle("Clopper-Pearson 0/10", _R, "clopper_pearson", (0, 10), ("0.0000000", "0.3084971")),
    Oracle("Clopper-Pearson 18/20", _R, "clopper_pearson", (18, 20), ("0.6830173", "0.9876515")),
    Oracle("Clopper-Pearson 20/100", _R, "clopper_pearson", (20, 100), ("0.1266556", "0.2918427")),
    Oracle("Clopper-Pearson 0/30", _R, "clopper_pearson", (0, 30), ("0.0000000", "0.1157033")),
    Oracle("SE of 12/30", _P, "binary_standard_error", (12, 30), ("0.0910",)),
    Oracle("SE of 14/307", _P, "binary_standard_error", (14, 307), ("0.011926",)),
    Oracle("SE of 2/123", _P, "binary_standard_error", (2, 123), ("0.011450",)),
    Oracle("80 right, 10 wrong, 10 failed", _C, "with_failures", (80, 10, 10), ("0.8889", "0.80", "0.80", "0.90")),
    Oracle("5×4 draws", _C, "estimate_run", _FIVE_BY_FOUR, ("0.5", "0.1767767", "0.1666667", "0.1145833")),
    Oracle("5×4, pooled SE", _C, "estimate_run: standard error", _FIVE_BY_FOUR, ("0.1147079",), must_differ=True),
    Oracle("pass@1, 3 of 10", _C, "pass_at_k", (10, 3, 1), ("0.3000000000",)),
    Oracle("pass@2, 3 of 10", _C, "pass_at_k", (10, 3, 2), ("0.5333333333",)),
    Oracle("pass@5, 3 of 10", _C, "pass_at_k", (10, 3, 5), ("0.9166666667",)),
    Oracle("pass@7, 3 of 10", _C, "pass_at_k", (10, 3, 7), ("0.9916666667",)),
    Oracle("pass@8, 3 of 10", _C, "pass_at_k", (10, 3, 8), ("1.0000000000",)),
    Oracle("pass@5, plug-in", _C, "pass_at_k", (10, 3, 5), ("0.83193",), must_differ=True),
    Oracle("pass^2, 3 of 10", _C, "pass_hat_k", (10, 3, 2), ("0.0666666667",)),
    Oracle("pass@10, 10 of 200", _C, "pass_at_k", (200, 10, 10), ("0.408547866",)),
    Oracle("pass@100, 10 of 200", _C, "pass_at_k", (200, 10, 100), ("0.999228974",)),
    Oracle("pass@1, 1 of 4", _C, "pass_at_k", (4, 1, 1), ("0.2500000000",)),
    Oracle("pass@2, 1 of 4", _C, "pass_at_k", (4, 1, 2), ("0.5000000000",)),
    Oracle("pass@k curve, 5×4", _C, "pass_curve", (4, 4, 2, 0, 1, 3), ("0.5000", "0.6667", "0.7500", "0.8000")),
    Oracle(
        "pass@k curve, 5×4, SE",
        _C,
        "pass_curve: standard errors",
        (4, 4, 2, 0, 1, 3),
        ("0.1768", "0.1900", "0.1936", "0.2000"),
    ),
    Oracle("McNemar 70, 59", _P, "mcnemar_exact", (70, 59), ("0.378688",)),
    Oracle("McNemar 80, 59", _P, "mcnemar_exact", (80, 59), ("0.089452",)),
    Oracle("McNemar 30, 60", _P, "mcnemar_exact", (30, 60), ("0.002060",)),
    Oracle("McNemar 10, 30", _P, "mcnemar_exact", (10, 30), ("0.002221",)),
    Oracle("McNemar 10, 10", _P, "mcnemar_exact", (10, 10), ("1.000000",)),
    Oracle("McNemar 6, 0", _C, "mcnemar_exact", (6, 0), ("0.03125",)),
    Oracle("McNemar 9, 1", _C, "mcnemar_exact", (9, 1), ("0.021484",)),
    Oracle("McNemar 26, 14", _C, "mcnemar_exact", (26, 14), ("0.080690",)),
    Oracle("McNemar 0, 0", _C, "mcnemar_exact", (0, 0), ("1.000000",)),
    Oracle("McNemar 0, 0: no evidence", _C, "mcnemar_exact: no evidence", (0, 0), ("1.0",)),
    Oracle(
        "400 pairs, 26 won, 14 lost",
        _C,
        "paired_difference",
        (26, 14, 306, 54),  # pass rates .83 and .80: the unpaired z depends on them
        ("0.0300000", "0.0157598", "1.904", "1.093"),
    ),
    Oracle("Examples for 3 points", "published (Miller 2024)", "sample_size", (0.03, 1 / 9), ("969.0",)),
    Oracle("Unpaired, 164", _C, "unpaired_minimum_detectable_effect, points", (164, 0.5), ("15.5",)),
    Oracle("KL bound, best of 4", _C, "best_of_n_kl_bound", (4,), ("0.636294",)),
    Oracle("KL bound, best of 16", _C, "best_of_n_kl_bound", (16,), ("1.835089",)),
    Oracle("KL exact, p=.5, best of 2", _C, "best_of_n_kl_binary", (0.5, 2), ("0.130812",)),
    Oracle("KL exact, p=.5, best of 4", _C, "best_of_n_kl_binary", (0.5, 4), ("0.459356",)),
    Oracle("KL exact, p=.5, limit ln 2", _C, "best_of_n_kl_binary", (0.5, 10_000), ("0.6931471806",)),
    Oracle("Verifier, f=.05, N=8", _C, "verified_accuracy", (0.3, 1.0, 0.05, 8), ("0.861273",)),
    Oracle("Verifier, f=.05, ceiling", _C, "verifier_ceiling", (0.3, 1.0, 0.05), ("0.895522",)),
    Oracle("Gold pass@8, p=.3", _C, "pass_at_k_of_probability", (0.3, 8), ("0.942352",)),
    Oracle("Best of 2 normals", _C, "expected_maximum_of_normals", (2,), ("0.564190",)),
    Oracle("Best of 10 normals", _C, "expected_maximum_of_normals", (10,), ("1.538753",)),
    Oracle("Gao best-of-n peak", _C, "gao_best_of_n_peak", (1.0, 0.2), ("2.500", "1.250")),
    Oracle("Gao best-of-n at 2.5", _C, "gao_best_of_n", (2.5, 1.0, 0.2), ("1.250",)),
    Oracle("0 of 30 exploits", _R, "verifier_errors: highest false-positive rate", (30, 30, 0, 30), ("0.116",)),
    Oracle("Robbins 70/100", _C, "robbins_interval", (70, 100), ("0.542754", "0.830554")),
    Oracle("e-value 10, 30", _C, "anytime_mcnemar: e-value", (10, 30), ("31.637",)),
    Oracle("e-value 30, 60", _C, "anytime_mcnemar: e-value", (30, 60), ("20.210",)),
    Oracle("e-value 6, 0", _C, "anytime_mcnemar: e-value", (6, 0), ("9.142857142857",)),
    Oracle("Pocock, 5 looks", _P, "pocock_z", (5,), ("2.413",)),
    Oracle("5 naive looks at 1.96", _P, "false_alarm_rate", (5, 1.96), ("0.14",)),
    Oracle("Ladder .01", _C, "ladder", (0.01, 0.388, 0.382, 0.373, 0.363), ("0.39", "0.39", "0.37", "0.37")),
)
