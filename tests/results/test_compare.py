"""What a comparison of two runs in one room says, and what it does not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from comparing import DECLARED, RIGHT, SHAPELESS, WRONG, make_run, reseal, same_policy, table

from lockedroom.errors import BadInput, NotComparable
from lockedroom.loops.evaluate import evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.results.compare import Against, CompareOptions, compare
from lockedroom.results.comparison.rendering import render_certificate, satisfied
from lockedroom.safeguards.manifest import Origin, read_manifest
from lockedroom.stats.verdict import Verdict

GRADED = """
SPEC = {"name": "graded", "version": 1, "codes": [
    {"name": "whole", "outcome": "correct", "meaning": "right"},
    {"name": "part", "outcome": "wrong", "meaning": "half right"}]}


def score(example, completion):
    whole = completion == "Final: 7"
    return {"reward": 1.0 if whole else len(completion) / 100, "details": {"code": "whole" if whole else "part"}}
"""


def against(a: Path, b: Path, **options: object) -> Against:
    return compare([a, b], msgspec.convert(options, CompareOptions)).against[0]


def pair(folder: Path, a: list[str], b: list[str], **options: object) -> Against:
    return against(make_run(folder, "a", a), make_run(folder, "b", b), **options)


def test_the_published_table_of_400_examples_gives_its_numbers(tmp_path: Path) -> None:
    found = pair(tmp_path, *table(both=200, a_only=14, b_only=26, neither=160))
    numbers = found.numbers
    assert (numbers.examples, numbers.wins, numbers.losses, numbers.ties) == (400, 26, 14, 360)
    assert numbers.difference == pytest.approx(0.03)
    assert numbers.standard_error == pytest.approx(0.0157598, abs=5e-8)
    assert numbers.difference / (numbers.standard_error or 0) == pytest.approx(1.904, abs=5e-4)
    assert numbers.test.method == "mcnemar exact"
    assert numbers.test.p_value == pytest.approx(0.080690, abs=5e-7)
    assert found.verdict is Verdict.INCONCLUSIVE


def test_pairing_narrows_the_interval_and_the_unpaired_one_is_shown_beside_it(tmp_path: Path) -> None:
    numbers = pair(tmp_path, *table(both=200, a_only=14, b_only=26, neither=160)).numbers
    assert numbers.unpaired.standard_error is not None
    assert numbers.standard_error is not None
    assert numbers.unpaired.difference == pytest.approx(numbers.difference)
    assert numbers.unpaired.standard_error > 1.7 * numbers.standard_error


def test_a_difference_is_b_minus_a(tmp_path: Path) -> None:
    a, b = (make_run(tmp_path, name, drawn) for name, drawn in zip("ab", table(20, 2, 18, 10), strict=True))
    forth, back = against(a, b), against(b, a)
    assert (forth.numbers.mean_a, forth.numbers.mean_b) == (22 / 50, 38 / 50)
    assert forth.numbers.difference == -back.numbers.difference == pytest.approx(0.32)
    assert (forth.verdict, back.verdict) == (Verdict.BETTER, Verdict.WORSE)
    assert (forth.numbers.wins, back.numbers.wins) == (18, 2)


def test_equivalent_needs_a_named_margin(tmp_path: Path) -> None:
    a, b = (make_run(tmp_path, name, drawn) for name, drawn in zip("ab", table(200, 2, 2, 196), strict=True))
    assert against(a, b).verdict is Verdict.INCONCLUSIVE
    assert against(a, b, margin=0.03).verdict is Verdict.EQUIVALENT
    assert against(a, b, margin=0.001).verdict is Verdict.INCONCLUSIVE


def test_zero_discordant_pairs_are_no_evidence_and_no_point_interval(tmp_path: Path) -> None:
    found = pair(tmp_path, *table(both=10, a_only=0, b_only=0, neither=10))
    assert found.numbers.test.no_evidence
    assert found.numbers.test.p_value == 1
    assert found.numbers.interval is not None
    assert found.numbers.interval.low < 0 < found.numbers.interval.high
    assert found.numbers.detectable is None
    assert found.verdict is Verdict.INCONCLUSIVE


def test_all_ties_of_several_draws_have_no_interval_and_no_verdict(tmp_path: Path) -> None:
    draws = [[RIGHT, WRONG]] * 5
    found = against(make_run(tmp_path, "a", draws), make_run(tmp_path, "b", [[WRONG, RIGHT]] * 5), margin=0.5)
    assert found.numbers.ties == 5
    assert found.numbers.interval is None
    assert (found.verdict, found.not_worse) == (Verdict.INCONCLUSIVE, False)


def test_one_example_decides_nothing(tmp_path: Path) -> None:
    found = pair(tmp_path, [WRONG], [RIGHT])
    assert (found.numbers.difference, found.numbers.standard_error) == (1.0, None)
    assert found.verdict is Verdict.INCONCLUSIVE


def test_several_draws_are_tested_by_sign_flips_drawn_from_the_seed(tmp_path: Path) -> None:
    a = make_run(tmp_path, "a", [[WRONG, WRONG, RIGHT]] * 30)
    b = make_run(tmp_path, "b", [[WRONG, RIGHT, RIGHT]] * 24 + [[WRONG, WRONG, WRONG]] * 6)
    first, again, other = (against(a, b, seed=seed).numbers.test for seed in (1, 1, 2))
    assert first.method == "sign-flip, drawn"
    assert first == again
    assert first.p_value != other.p_value or first.p_value < 0.01


def test_another_number_of_draws_is_effort_and_is_said(tmp_path: Path) -> None:
    a = make_run(tmp_path, "a", [[RIGHT, WRONG]] * 8)
    b = make_run(tmp_path, "b", [RIGHT] * 8)
    found = against(a, b)
    assert found.turned.knobs == ("policy",)
    assert "measurement effort" in found.notes[0]
    assert found.migration.counts is None
    assert found.migration.shares == [("ok", 0.5, 1.0), ("wrong_answer", 0.5, 0.0)]


def test_examples_that_failed_on_one_side_are_left_out_counted_and_bounded(tmp_path: Path) -> None:
    a, b = table(both=10, a_only=0, b_only=10, neither=10)
    found = against(make_run(tmp_path, "a", a), make_run(tmp_path, "b", [None, None, *b[2:]]))
    bounds = found.bounds
    assert bounds is not None
    assert (bounds.failed_a, bounds.failed_b, bounds.left_out) == (0, 2, 2)
    assert bounds.left_out_first == ["ex-0000", "ex-0001"]
    assert found.numbers.examples == 28
    assert bounds.lowest is not None
    assert bounds.highest is not None
    assert bounds.lowest.difference == pytest.approx(8 / 30)
    assert bounds.highest.difference == pytest.approx(10 / 30)
    assert found.verdict is Verdict.BETTER  # even if both had been wrong


def test_a_verdict_that_the_failures_could_turn_is_withheld(tmp_path: Path) -> None:
    a, b = table(both=10, a_only=0, b_only=10, neither=10)
    found = against(make_run(tmp_path, "a", a), make_run(tmp_path, "b", [*[None] * 9, *b[9:]]))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reasons == ["the judged attempts alone would say BETTER, but the failures could turn it"]


def test_a_failed_draw_of_an_example_with_others_leaves_the_example_in(tmp_path: Path) -> None:
    found = against(
        make_run(tmp_path, "a", [[RIGHT, WRONG]] * 4), make_run(tmp_path, "b", [[RIGHT, RIGHT]] * 3 + [[RIGHT]])
    )
    assert found.bounds is not None
    assert (found.bounds.failed_b, found.bounds.left_out, found.numbers.examples) == (1, 0, 4)
    assert found.numbers.mean_b == 1.0


def test_runs_without_one_example_judged_in_both_have_no_difference(tmp_path: Path) -> None:
    a, b = make_run(tmp_path, "a", [RIGHT, None]), make_run(tmp_path, "b", [None, RIGHT])
    with pytest.raises(NotComparable, match="no example has a judged attempt in both runs"):
        against(a, b)


def test_failures_under_a_scorer_without_a_range_bound_nothing(tmp_path: Path) -> None:
    scorer = tmp_path / "free.py"
    scorer.write_text("def score(example, completion):\n    return {'reward': len(completion) / 8, 'details': {}}\n")
    a = make_run(tmp_path, "a", [SHAPELESS] * 20, scorer=f"{scorer}:score")
    b = make_run(tmp_path, "b", [None, *[RIGHT, RIGHT + " "] * 9, RIGHT], scorer=f"{scorer}:score")
    found = against(a, b, metric="reward")
    assert found.bounds is not None
    assert found.bounds.lowest is None
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "declares no range" in render_certificate(compare([a, b], CompareOptions(metric="reward")))


def test_the_policy_is_the_knob_when_other_completions_were_judged(tmp_path: Path) -> None:
    turned = pair(tmp_path, [RIGHT], [WRONG]).turned
    assert turned.word == "policy"
    assert turned.differences[0] == "policy.identity.model: a in A, b in B"


def test_other_completions_of_one_declared_policy_may_be_resampling(tmp_path: Path) -> None:
    a, b = make_run(tmp_path, "a", [RIGHT]), make_run(tmp_path, "b", [WRONG])
    completions = read_manifest(b).inputs
    assert "or the same one drawn again" in against(a, same_policy(b, a, inputs=completions)).turned.meaning


def test_the_same_completions_judged_twice_turn_nothing(tmp_path: Path) -> None:
    a = make_run(tmp_path, "a", [RIGHT, WRONG])
    config = EvaluateConfig(dataset=str(tmp_path / "seven.jsonl"), completions=str(tmp_path / "a.completions.jsonl"),
                            declare=(*DECLARED, "policy.model=a"))  # fmt: skip
    found = against(a, evaluate(config, tmp_path / "again").path)
    assert found.turned.word == "nothing"
    assert found.notes == ["its records are byte-identical with A's"]
    assert found.verdict is Verdict.INCONCLUSIVE


def test_a_difference_without_a_turned_knob_is_never_called_better(tmp_path: Path) -> None:
    a, b = (make_run(tmp_path, name, drawn) for name, drawn in zip("ab", table(0, 0, 20, 5), strict=True))
    found = against(a, same_policy(b, a))
    assert found.turned.word == "nothing"
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "would say BETTER" in found.reasons[0]


def test_the_seed_alone_is_resampling(tmp_path: Path) -> None:
    a, b = (make_run(tmp_path, name, [RIGHT] * 3) for name in "ab")
    found = against(a, same_policy(b, a, seed=1))
    assert found.turned.word == "resampling"
    assert "luck" in found.turned.meaning


def test_best_of_eight_against_one_is_selection_not_learning(tmp_path: Path) -> None:
    a, b = (make_run(tmp_path, name, drawn) for name, drawn in zip("ab", table(5, 0, 20, 5), strict=True))
    best_of = {"draws": 1, "selector": "majority", "n": 8}
    found = against(a, same_policy(b, a, selection=best_of))
    assert found.turned.knobs == ("selection",)
    assert "selection, not learning" in found.turned.meaning
    assert found.verdict is Verdict.BETTER


def test_a_selection_from_a_rescored_run_is_not_that_run(tmp_path: Path) -> None:
    a, b = (make_run(tmp_path, name, drawn) for name, drawn in zip("ab", table(5, 0, 20, 5), strict=True))
    origin = Origin(read_manifest(a).run_id, "0" * 64)
    reseal(a, inputs=msgspec.structs.replace(read_manifest(a).inputs, rescored_from=origin))
    found = against(a, same_policy(b, a, selection={"draws": 1, "selector": "majority", "n": 8}))
    assert found.turned.knobs == ("selection",)


def test_two_knobs_at_once_are_refused_unless_both_are_named(tmp_path: Path) -> None:
    a, b = make_run(tmp_path, "a", [RIGHT]), make_run(tmp_path, "b", [WRONG])
    reseal(b, selection={"draws": 1, "selector": "majority", "n": 8})
    for knobs in ([], ["policy"], ["selection"]):
        with pytest.raises(NotComparable, match="--knobs policy,selection"):
            against(a, b, knobs=knobs)
    assert against(a, b, knobs=["policy", "selection"]).turned.word == "policy and selection"


def test_a_knob_that_was_not_the_named_one_is_refused(tmp_path: Path) -> None:
    a, b = make_run(tmp_path, "a", [RIGHT]), make_run(tmp_path, "b", [WRONG])
    with pytest.raises(NotComparable, match="policy changed"):
        against(a, b, knobs=["selection"])
    with pytest.raises(BadInput, match="no such knob"):
        against(a, b, knobs=["prompt"])


def test_several_runs_are_adjusted_by_holm(tmp_path: Path) -> None:
    a, b = table(20, 2, 12, 16)
    runs = [make_run(tmp_path, name, drawn) for name, drawn in (("a", a), ("b", b), ("c", a[::-1]))]
    certificate = compare(runs, CompareOptions())
    alone = against(runs[0], runs[1])
    assert certificate.against[0].p_value == pytest.approx(2 * alone.p_value)
    assert alone.numbers.interval == certificate.against[0].numbers.interval
    text = render_certificate(certificate)
    assert "# 2 runs against A" in text
    assert "p, Holm" in text
    assert " in A, c in C" in text


def test_anytime_decides_by_the_e_value(tmp_path: Path) -> None:
    a, b = (make_run(tmp_path, name, drawn) for name, drawn in zip("ab", table(0, 0, 6, 4), strict=True))
    found = against(a, b, anytime=True)
    assert found.numbers.anytime is not None
    assert found.numbers.anytime.e_value == pytest.approx(64 / 7)
    assert found.verdict is Verdict.INCONCLUSIVE  # 64/7 < 20, though p = .03125
    assert "e-value 9.143" in render_certificate(compare([a, b], CompareOptions(anytime=True)))


def test_anytime_is_refused_for_several_draws_and_with_a_margin(tmp_path: Path) -> None:
    a, b = make_run(tmp_path, "a", [[RIGHT, WRONG]] * 3), make_run(tmp_path, "b", [[RIGHT, RIGHT]] * 3)
    with pytest.raises(BadInput, match="one draw an example"):
        against(a, b, anytime=True)
    with pytest.raises(BadInput, match="--anytime with --margin"):
        against(a, b, anytime=True, margin=0.1)


def test_mean_rewards_are_compared_when_asked_and_hinted_at_when_not(tmp_path: Path) -> None:
    scorer = tmp_path / "graded.py"
    scorer.write_text(GRADED)
    a = make_run(tmp_path, "a", ["x" * 20] * 12, scorer=f"{scorer}:score")
    b = make_run(tmp_path, "b", ["x" * n for n in (30, 31, 32) * 4], scorer=f"{scorer}:score")
    assert "--metric reward" in against(a, b).notes[0]
    found = against(a, b, metric="reward")
    assert found.numbers.difference == pytest.approx(0.11)
    assert found.numbers.test.method == "sign-flip exact"
    assert found.verdict is Verdict.BETTER


def test_a_migration_table_says_which_codes_moved_where(tmp_path: Path) -> None:
    migration = pair(tmp_path, [RIGHT, RIGHT, WRONG, SHAPELESS], [WRONG, RIGHT, RIGHT, RIGHT]).migration
    assert migration.codes_a == ["ok", "wrong_answer", "missing_prefix"]
    assert migration.codes_b == ["ok", "wrong_answer"]
    assert migration.counts == [[1, 1], [1, 0], [1, 0]]


def test_many_codes_are_gathered_into_others(tmp_path: Path) -> None:
    scorer = tmp_path / "free.py"
    scorer.write_text("def score(example, completion):\n    return {'reward': 0, 'details': {'code': completion}}\n")
    words = [f"w{i}" for i in range(15)]
    a = make_run(tmp_path, "a", words, scorer=f"{scorer}:score")
    b = make_run(tmp_path, "b", words[::-1], scorer=f"{scorer}:score")
    migration = against(a, b).migration
    assert len(migration.codes_a) == 12
    assert migration.codes_a[-1] == "(others)"
    assert migration.counts is not None
    assert sum(map(sum, migration.counts)) == 15


def test_discordant_examples_come_with_both_completions(tmp_path: Path) -> None:
    found = pair(tmp_path, [RIGHT, WRONG, RIGHT], [RIGHT, RIGHT, SHAPELESS], show=1).discordant
    assert (found.wins, found.losses) == (["ex-0001"], ["ex-0002"])
    assert [(item.id, item.a.completion, item.b.completion) for item in found.shown] == [("ex-0001", WRONG, RIGHT)]


def test_of_several_draws_the_telling_ones_are_shown(tmp_path: Path) -> None:
    a, b = make_run(tmp_path, "a", [[RIGHT, WRONG, WRONG]]), make_run(tmp_path, "b", [[WRONG, RIGHT, RIGHT]])
    shown = against(a, b).discordant.shown[0]
    assert (shown.a.draw, shown.b.draw) == (1, 1)


def test_hostile_completions_cannot_reach_the_terminal(tmp_path: Path) -> None:
    hostile = "\x1b[2J\u202eFinal: 7\u200b\udc80"
    a, b = make_run(tmp_path, "a", [hostile, RIGHT]), make_run(tmp_path, "b", [RIGHT, RIGHT])
    text = render_certificate(compare([a, b], CompareOptions()))
    assert "␛[2J⟨U+202E⟩Final: 7⟨U+200B⟩⟨U+DC80⟩" in text
    assert not set("\x1b\u202e\u200b\udc80") & set(text)


def test_required_verdicts_are_met_or_not(tmp_path: Path) -> None:
    a, b = (make_run(tmp_path, name, drawn) for name, drawn in zip("ab", table(20, 2, 18, 10), strict=True))
    better = compare([a, b], CompareOptions(margin=0.05))
    worse = compare([b, a], CompareOptions(margin=0.05))
    assert [satisfied(better, required) for required in (None, "better", "not-worse")] == [True, True, True]
    assert [satisfied(worse, required) for required in (None, "better", "not-worse")] == [True, False, False]


def test_not_worse_looks_at_the_lower_end_and_at_the_worst_case(tmp_path: Path) -> None:
    a, b = table(both=60, a_only=1, b_only=1, neither=40)
    run_a, run_b = make_run(tmp_path, "a", a), make_run(tmp_path, "b", b)
    failing = make_run(tmp_path, "c", [*[None] * 20, *b[20:]])
    assert against(run_a, run_b, margin=0.1).not_worse is True
    assert against(run_a, run_b, margin=0.001).not_worse is False
    assert against(run_a, failing, margin=0.1).not_worse is False
