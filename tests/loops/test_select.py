"""Loop B on recorded completions: the numbers, the run folder, what is refused, and that it all verifies."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lockedroom.errors import BadInput, NotComparable, Tampered
from lockedroom.jsonl import read_batches
from lockedroom.loops.evaluate import evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.loops.instrument.audit import AuditConfig, audit
from lockedroom.loops.select import Selected, select
from lockedroom.loops.selecting.opening import SelectConfig
from lockedroom.records import Failure, Record
from lockedroom.results.compare import CompareOptions, compare
from lockedroom.results.verify import verify
from lockedroom.stats.pass_at_k import pass_at_k
from lockedroom.stats.selection import best_of_n_kl_binary
from lockedroom.testkit.small_run import additions, write_rows

Drawn = str | dict[str, object]


def write_run(
    folder: Path, samples: Sequence[Sequence[Drawn]], name: str = "run", *, scorer: str = "final-int"
) -> Path:
    """A finished run: example e<i> (answer i + 1) with these draws."""
    dataset = write_rows(folder / f"{name}-d.jsonl", additions(len(samples)))
    rows = [{"id": f"e{i}", "samples": drawn} for i, drawn in enumerate(samples)]
    completions = write_rows(folder / f"{name}-c.jsonl", rows)
    config = EvaluateConfig(
        dataset=str(dataset), completions=str(completions), scorer=scorer, declare=DECLARED, split="toy"
    )
    return evaluate(config, folder / name).path


DECLARED = ("policy.model=toy", "prompts.template=plain", "sampling.temperature=1", "sampling.top_k=0", "sampling.top_p=1",
            "sampling.max_tokens=9", "sampling.stop=none", "sampling.seed_scheme=none")  # fmt: skip


def right(i: int, logprob: float = -1.0) -> Drawn:
    return {"completion": f"Final: {i + 1}", "logprob": logprob}


def wrong(i: int, logprob: float = -2.0) -> Drawn:
    return {"completion": f"Final: {i + 7}", "logprob": logprob}


def hedge(i: int) -> Drawn:
    return {"completion": f"{i + 1} or 0", "logprob": -0.1}


def four_draws(folder: Path) -> Path:
    """The 5×4 oracle of statistics.md: pass@k .5, .6667, .75, .8."""
    passes = (0, 1, 2, 3, 4)
    return write_run(folder, [[right(i) if j < c else wrong(i) for j in range(4)] for i, c in enumerate(passes)])


def selected(folder: Path, run: Path, selector: str = "first", out: str = "out", **settings: Any) -> Selected:
    config = msgspec.convert({"run": str(run), "selector": selector, "resamples": 200, **settings}, SelectConfig)
    return select(config, folder / out)


def test_pass_at_k_is_the_published_oracle(tmp_path: Path) -> None:
    curve = selected(tmp_path, four_draws(tmp_path), "best-of-n").selection.pass_at_k
    assert curve is not None
    assert [point.estimate for point in curve.points] == pytest.approx([0.5, 2 / 3, 0.75, 0.8])
    assert [point.standard_error for point in curve.points] == pytest.approx([0.1768, 0.19, 0.1936, 0.2], abs=5e-5)


def test_best_of_all_draws_reaches_the_ceiling(tmp_path: Path) -> None:
    last = selected(tmp_path, four_draws(tmp_path), "best-of-n").selection.at_n[-1]
    assert last.accuracy == last.ceiling
    assert last.accuracy is not None
    assert last.accuracy.mean == 0.8


def test_rescued_and_lost_examples_are_named_against_the_first_draw(tmp_path: Path) -> None:
    run = write_run(
        tmp_path, [[wrong(0, -5.0), right(0, -1.0)], [right(1, -5.0), wrong(1, -1.0)], [right(2), right(2)]]
    )
    selection = selected(tmp_path, run, "logprob").selection
    assert selection.rescued.first == ["e0"]
    assert selection.lost.first == ["e1"]


def test_the_records_are_the_picks_from_all_n_draws(tmp_path: Path) -> None:
    run = write_run(tmp_path, [[wrong(0, -1.0), right(0, -2.0)], [right(1, -2.0), right(1, -1.0)]])
    done = selected(tmp_path, run, "best-of-n")
    records = [record for batch in read_batches(done.path / "records.jsonl", Record) for record in batch.rows]
    assert [(record.id, record.draw) for record in records] == [("e0", 0), ("e1", 0)]
    assert [record.completion.logprob for record in records if record.completion] == [-2.0, -1.0]


@pytest.mark.parametrize(
    "selector", ["first", "random", "best-of-n", "logprob", "majority-vote", "weighted-vote", "rejection-sampling",
                 "proxy:permissive"],
)  # fmt: skip
def test_every_selection_verifies_and_compares_as_selection(tmp_path: Path, selector: str) -> None:
    run = write_run(tmp_path, [[right(i), wrong(i), hedge(i), wrong(i)] for i in range(6)])
    done = selected(tmp_path, run, selector)
    assert verify(done.path).attempts == 6
    (against,) = compare([run, done.path], CompareOptions()).against
    assert against.turned.knobs == ("selection",)
    assert "selection, not learning" in against.turned.meaning


def test_a_proxy_is_paid_while_the_strict_accuracy_falls(tmp_path: Path) -> None:
    # hedging completions please the proxy and are more probable, so they win its ties
    run = write_run(tmp_path, [[right(i), hedge(i), wrong(i), hedge(i)] for i in range(8)])
    done = selected(tmp_path, run, "proxy:permissive", ns=[1, 2, 4])
    at_1, _, at_4 = done.selection.at_n
    assert at_1.told is not None
    assert at_4.told is not None
    assert at_1.accuracy is not None
    assert at_4.accuracy is not None
    assert (at_1.told.mean, at_4.told.mean) == (0.75, 1.0)
    assert (at_1.accuracy.mean, at_4.accuracy.mean) == (0.25, 0.0)
    assert done.selection.verifier is not None
    assert done.selection.verifier.false_positive_rate == pytest.approx(2 / 3)
    assert done.manifest.selection["selector"] == "proxy:permissive"


def test_a_proxy_that_cannot_judge_is_counted_and_not_taken_for_a_zero(tmp_path: Path) -> None:
    (tmp_path / "proxy.py").write_text("def score(example, completion):\n    raise ValueError('no')\n")
    done = selected(tmp_path, four_draws(tmp_path), f"proxy:{tmp_path / 'proxy.py'}:score")
    assert done.selection.at_n[-1].told is None
    assert any("the proxy could not judge 20 draws" in note for note in done.selection.notes)
    assert "was not judged again" in verify(done.path).not_checked[0]


def test_a_run_in_which_nothing_could_be_judged_has_no_accuracy(tmp_path: Path) -> None:
    (tmp_path / "scorer.py").write_text("def score(example, completion):\n    raise ValueError('no')\n")
    run = write_run(tmp_path, [[right(0), wrong(0)]], scorer=f"{tmp_path / 'scorer.py'}:score")
    selection = selected(tmp_path, run, "best-of-n").selection
    assert selection.pass_at_k is None
    assert selection.at_n[-1].accuracy is None
    assert selection.at_n[-1].unjudged == 1


def test_another_scorer_may_measure(tmp_path: Path) -> None:
    run = write_run(tmp_path, [[hedge(i), wrong(i)] for i in range(4)], scorer="permissive")
    done = selected(tmp_path, run, "best-of-n", measure="final-int")
    assert done.manifest.room.scorer.name == "final-int"
    assert done.selection.at_n[-1].accuracy is not None
    assert done.selection.at_n[-1].accuracy.mean == 0.0
    verify(done.path)


def test_draws_saved_by_stopping_are_counted_and_match_the_law(tmp_path: Path) -> None:
    run = write_run(tmp_path, [[wrong(0), right(0), right(0), wrong(0)], [wrong(1)] * 4])
    last = selected(tmp_path, run, "rejection-sampling").selection.at_n[-1]
    assert last.stopped == (2 + 4) / 2
    # c = 2 of 4: 1 + 1/2 + 1/6 + 0; c = 0: 4
    assert last.stopped_law == pytest.approx((1 + 1 / 2 + 1 / 6 + 4) / 2)


def test_accuracy_at_n_averages_over_all_subsets(tmp_path: Path) -> None:
    run = write_run(tmp_path, [[wrong(0), wrong(0), right(0), right(0)]])
    at_2 = selected(tmp_path, run, "best-of-n", ns=[2]).selection.at_n[0]
    assert at_2.groups == 2
    assert at_2.accuracy is not None
    assert at_2.accuracy.mean == 5 / 6


def test_numbers_do_not_depend_on_the_order_of_the_completions(tmp_path: Path) -> None:
    rows = [{"id": f"e{i}", "samples": [right(i) if (i * j) % 3 else wrong(i) for j in range(4)]} for i in range(30)]
    found = []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        random.Random(seed).shuffle(rows)
        completions, dataset = write_rows(folder / "c.jsonl", rows), write_rows(folder / "d.jsonl", additions(30))
        run = evaluate(EvaluateConfig(dataset=str(dataset), completions=str(completions)), folder / "run").path
        selection = selected(folder, run, "majority-vote").selection
        found.append(msgspec.structs.replace(selection, source_run_id=""))
    assert found[0] == found[1]


def test_confirmation_on_fresh_draws_shows_what_luck_was(tmp_path: Path) -> None:
    run = write_run(tmp_path, [[right(i) if j == 0 else wrong(i) for j in range(4)] for i in range(6)])
    fresh = write_run(
        tmp_path, [[right(i) if i < 3 and j == 0 else wrong(i) for j in range(4)] for i in range(6)], "fresh"
    )
    done = selected(tmp_path, run, "best-of-n", confirm=str(fresh), ns=[1, 4])
    found = done.selection.confirmed
    assert found is not None
    assert found.fresh is not None
    assert (found.n, found.measured, found.fresh.mean, found.drop) == (4, 1.0, 0.5, 0.5)
    verify(done.path)


def test_draws_cannot_confirm_themselves(tmp_path: Path) -> None:
    run = four_draws(tmp_path)
    with pytest.raises(BadInput, match="same draws"):
        selected(tmp_path, run, "best-of-n", confirm=str(run))


def test_draws_of_other_examples_cannot_confirm(tmp_path: Path) -> None:
    other = write_run(tmp_path, [[right(0)] * 4], "other")
    with pytest.raises(NotComparable):
        selected(tmp_path, four_draws(tmp_path), "best-of-n", confirm=str(other))


def test_k_above_the_draws_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--n 5: every example has 4 draws"):
        selected(tmp_path, four_draws(tmp_path), "best-of-n", ns=[5])
    assert not (tmp_path / "out").exists()


def with_a_missing_draw(folder: Path) -> Path:
    return write_run(folder, [[right(0), wrong(0), wrong(0)], [right(1), wrong(1)], [wrong(2), wrong(2), right(2)]])


def test_unequal_draws_are_refused_and_nothing_is_left_behind(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="between 2 and 3 scored draws"):
        selected(tmp_path, with_a_missing_draw(tmp_path), "best-of-n")
    assert not (tmp_path / "out").exists()


def test_unequal_draws_may_be_cut_to_the_common_minimum_which_is_said(tmp_path: Path) -> None:
    done = selected(tmp_path, with_a_missing_draw(tmp_path), "best-of-n", unequal="common minimum")
    assert done.selection.pass_at_k is not None
    assert [point.k for point in done.selection.pass_at_k.points] == [1, 2]
    expected = (pass_at_k(3, 1, 2) + pass_at_k(2, 1, 2) + pass_at_k(3, 1, 2)) / 3
    assert done.selection.pass_at_k.points[1].estimate == pytest.approx(expected)
    assert any("common minimum" in note for note in done.selection.notes)
    assert done.selection.failed == 1
    verify(done.path)


def test_a_group_without_any_completion_is_a_counted_failure(tmp_path: Path) -> None:
    run = write_run(tmp_path, [[right(0), right(0)], []])
    done = selected(tmp_path, run, "best-of-n", unequal="common minimum")
    records = [record for batch in read_batches(done.path / "records.jsonl", Record) for record in batch.rows]
    assert isinstance(records[1].result, Failure)
    assert done.selection.at_n[-1].unjudged == 1
    assert done.selection.examples_without_score == 1
    verify(done.path)


def test_ties_everywhere_and_empty_completions_select_the_first_draw(tmp_path: Path) -> None:
    run = write_run(tmp_path, [["", "", ""], ["", "", ""]])
    done = selected(tmp_path, run, "best-of-n")
    lines = [json.loads(line) for line in (done.path / "choices.jsonl").read_text().splitlines()]
    assert [line["picks"][-1] for line in lines] == [[0], [0]]
    assert done.selection.at_n[-1].accuracy is not None
    assert done.selection.at_n[-1].accuracy.mean == 0.0


@pytest.mark.parametrize("selector", ["logprob", "weighted-vote", "mean-logprob", "kl-regularized"])
def test_logs_without_logprobs_are_refused(tmp_path: Path, selector: str) -> None:
    run = write_run(tmp_path, [["Final: 1", "Final: 2"]])
    with pytest.raises(BadInput, match="logprob"):
        selected(tmp_path, run, selector)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"selector": "best"}, "unknown selector"),
        ({"selector": "proxy:nope"}, "unknown scorer"),
        ({"confidence": 1.5}, "--confidence"),
        ({"beta": -1.0}, "--beta"),
        ({"verifier_errors": [0.1, 1.2]}, "--verifier-errors"),
        ({"parse": "mine"}, "--parse"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_settings_that_no_selection_can_have_are_refused(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        selected(tmp_path, four_draws(tmp_path), **{"selector": "first", **settings})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ns": (1.5,)}, "ns"),
        ({"ns": "12"}, "ns"),
        ({"selector": None}, "selector"),
        ({"tie_break": "longest"}, "tie_break"),
        ({"unequal": "common-minimum"}, "unequal"),
        ({"confidence": "high"}, "confidence"),
        ({"selector": "viable-beam"}, "token by token"),
        ({"selector": "majority-vote", "parse": "none"}, "--parse 'none'"),
    ],
)
def test_a_configuration_built_by_hand_is_checked_like_one_from_a_file(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    run = four_draws(tmp_path)
    config = SelectConfig(**{"run": run, "selector": "best-of-n", "resamples": 0, **settings})
    with pytest.raises(BadInput, match=message):
        select(config, tmp_path / "out")
    config = SelectConfig(run=run, selector="best-of-n", ns=[1, 2], resamples=0)  # type: ignore[arg-type]  # as people do
    assert select(config, tmp_path / "out").selection.plan.ns == (1, 2)


def test_a_selection_is_not_selected_from_again(tmp_path: Path) -> None:
    done = selected(tmp_path, four_draws(tmp_path), "first")
    with pytest.raises(BadInput, match="is a selection already"):
        selected(tmp_path, done.path, "first", "again")


HASHED = """
import re

def score(example, completion):
    found = re.search(r"#### (-?[0-9]+)", completion)
    right = found is not None and found[1] == str(example.expected_answer)
    return {"reward": float(right), "details": {"parsed": found and found[1]}}
"""


def hashed_run(folder: Path) -> tuple[Path, Path]:
    """Two of three draws say the right answer, behind ####; the third is the most probable."""
    scorer = folder / "hashed.py"
    scorer.write_text(HASHED)
    samples = [
        [{"completion": f"{word} #### {i + 1 + (word == 'no')}", "logprob": lp} for word, lp in (("a", -3), ("no", -1), ("b", -2))]
        for i in range(4)
    ]  # fmt: skip
    return write_run(folder, samples, scorer=f"{scorer}:score"), scorer


@pytest.mark.parametrize("selector", ["majority-vote", "weighted-vote"])
def test_answers_vote_as_the_persons_own_scorer_reads_them(tmp_path: Path, selector: str) -> None:
    run, _ = hashed_run(tmp_path)
    done = selected(tmp_path, run, selector, ns=[3])
    majority = done.selection.at_n[0].majority
    assert majority is not None
    assert majority.mean == 1.0
    assert done.selection.diversity.answers == 2.0
    assert done.manifest.selection["parse"] == "own:hashed.py:score"
    assert done.selection.at_n[0].accuracy is not None
    assert done.selection.at_n[0].accuracy.mean == (1.0 if selector == "majority-vote" else 0.0)
    assert any("answers were not read again" in line for line in verify(done.path).not_checked)


def test_a_reader_of_answers_is_told_no_right_answer(tmp_path: Path) -> None:
    run, scorer = hashed_run(tmp_path)
    liar = "def score(example, completion):\n    return {'reward': 0, 'details': {'parsed': str(example.expected_answer)}}\n"
    scorer.with_name("liar.py").write_text(liar)
    done = selected(tmp_path, run, "majority-vote", parse=f"{tmp_path}/liar.py:score")
    assert done.selection.diversity.answers == 1.0
    assert {line for line in (done.path / "answers.jsonl").read_text().split('"') if line.startswith("-907")} != set()


def test_a_reader_that_judges_only_some_answers_is_asked_with_one_of_them(tmp_path: Path) -> None:
    run, scorer = hashed_run(tmp_path)
    scorer.with_name("narrow.py").write_text(HASHED + "\ndef accepts(answer):\n    return 0 < answer < 9\n")
    done = selected(tmp_path, run, "majority-vote", parse=f"{tmp_path}/narrow.py:score", ns=[3])
    assert done.selection.at_n[0].majority is not None
    assert done.selection.at_n[0].majority.mean == 1.0


def test_a_persons_slow_scorer_is_not_asked_again_where_nothing_votes(tmp_path: Path) -> None:
    run, scorer = hashed_run(tmp_path)
    scorer.unlink()
    done = selected(tmp_path, run, "best-of-n")
    assert done.selection.at_n[-1].majority is None
    assert "answers were not read" in (done.path / "selection.md").read_text()
    verify(done.path)


def test_a_vote_whose_reader_is_gone_is_refused(tmp_path: Path) -> None:
    run, scorer = hashed_run(tmp_path)
    scorer.write_text(HASHED + "\n# changed")
    with pytest.raises(BadInput, match="--parse path/to/file"):
        selected(tmp_path, run, "majority-vote")


def test_a_vote_on_answers_that_nothing_reads_is_said_and_has_no_majority(tmp_path: Path) -> None:
    run, _ = hashed_run(tmp_path)
    done = selected(tmp_path, run, "majority-vote", parse="final-int")
    assert done.selection.at_n[-1].majority is None
    assert any("nothing to vote on" in note for note in done.selection.notes)


@pytest.mark.parametrize(("old", "new"), [('"1"', '"9"'), ('"e1"', '"e2"'), ('"1","2"', '"1"')])
def test_forged_answers_do_not_verify(tmp_path: Path, old: str, new: str) -> None:
    run, _ = hashed_run(tmp_path)
    done = selected(tmp_path, run, "majority-vote")
    reseal(done.path, "answers.jsonl", old, new)
    with pytest.raises(Tampered):
        verify(done.path)


GRADED = """
def score(example, completion):
    return {"reward": {"a": 0.3, "b": -0.5, "c": 0.7, "d": 1.0}[completion], "details": {}}
"""


def test_graded_and_negative_rewards_are_shown_beside_the_pass_rate(tmp_path: Path) -> None:
    (tmp_path / "graded.py").write_text(GRADED)
    run = write_run(tmp_path, [list("ab"), list("bc"), list("db")], scorer=f"{tmp_path}/graded.py:score")
    done = selected(tmp_path, run, "best-of-n")
    one, two = done.selection.at_n
    assert one.told is not None
    assert two.told is not None
    assert two.accuracy is not None
    assert (one.told.mean, two.told.mean) == pytest.approx(((-0.1 + 0.1 + 0.25) / 3, (0.3 + 0.7 + 1.0) / 3))
    assert two.accuracy.mean == pytest.approx(1 / 3)
    assert two.kl_binary is None
    assert "| reward |" in (done.path / "selection.md").read_text().replace("  ", "")
    verify(done.path)


def test_what_a_further_solved_example_costs_is_in_draws_where_tokens_are_unknown(tmp_path: Path) -> None:
    run = write_run(tmp_path, [[wrong(i), right(i)] for i in range(4)])
    last = selected(tmp_path, run, "best-of-n").selection.at_n[-1]
    assert last.draws_per_solved == pytest.approx(1 / 0.5)
    assert last.tokens_per_solved is None


def test_picks_that_could_not_be_judged_leave_bounds_not_a_zero(tmp_path: Path) -> None:
    (tmp_path / "flaky.py").write_text(
        "def score(example, completion):\n    if completion == 'x':\n        raise ValueError\n"
        "    return {'reward': float(completion == 'y'), 'details': {}}\n"
    )
    run = write_run(tmp_path, [list("xx"), list("yy"), list("zz"), list("yy")], scorer=f"{tmp_path}/flaky.py:score")
    last = selected(tmp_path, run, "first").selection.at_n[-1]
    assert last.accuracy is not None
    assert (last.accuracy.mean, last.lowest, last.highest) == pytest.approx((2 / 3, 2 / 4, 3 / 4))


def test_an_example_without_a_judged_draw_is_named_as_left_out(tmp_path: Path) -> None:
    (tmp_path / "flaky.py").write_text(
        "def score(example, completion):\n    if completion == 'x':\n        raise ValueError\n"
        "    return {'reward': float(completion == 'y'), 'details': {}}\n"
    )
    run = write_run(tmp_path, [list("xx"), list("yz"), list("zz")], scorer=f"{tmp_path}/flaky.py:score")
    selection = selected(tmp_path, run, "best-of-n").selection
    assert selection.examples_without_score == 1
    assert any(note.startswith("1 of 3 examples have no judged draw") for note in selection.notes)


def test_the_pass_fail_part_of_kl_is_estimated_where_no_probability_is_known(tmp_path: Path) -> None:
    done = selected(tmp_path, four_draws(tmp_path), "best-of-n")
    ps = (0.25, 0.5, 0.75)
    last = done.selection.at_n[-1]
    assert last.kl_binary == pytest.approx(sum(best_of_n_kl_binary(p, 4) for p in ps) / 5)
    assert "pass/fail ≈" in (done.path / "selection.md").read_text()


def own(folder: Path, body: str) -> str:
    (folder / "mine.py").write_text(f"class Mine:\n    def select(self, asked, completions):\n        {body}\n")
    return f"{folder / 'mine.py'}:Mine"


def test_a_persons_own_selector_works_and_its_file_is_pinned(tmp_path: Path) -> None:
    done = selected(tmp_path, four_draws(tmp_path), own(tmp_path, "return len(completions) - 1"))
    assert done.manifest.selection["selector"] == "own:Mine"
    assert len(done.manifest.selection["source_sha256"]) == 64
    assert done.selection.at_n[-1].accuracy is not None
    assert done.selection.at_n[-1].accuracy.mean == 0.2
    verify(done.path)


def test_a_persons_own_selector_sees_no_answer_and_no_verdict(tmp_path: Path) -> None:
    body = "raise SystemError(sorted(n for n in dir(asked) if n[0] != '_') + [type(c).__name__ for c in completions])"
    with pytest.raises(BadInput, match=r"\['id', 'prompt', 'Completion', 'Completion'\]"):
        selected(tmp_path, four_draws(tmp_path), own(tmp_path, body), ns=[2])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('no idea')", "ValueError: no idea for id 'e0'"),
        ("return 99", "returned 99"),
        ("return None", "returned None"),
        ("return -1", "returned -1"),
        ("return True", "returned True"),
        ("return 1.0", "returned 1.0"),
        ("return '0'", "returned '0'"),
        ("import sys; sys.exit(0)", "SystemExit: 0 for id 'e0'"),
        ("import os; os._exit(0)", "the selector's process ended with exit code 0 for id 'e0'"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt for id 'e0'"),
        ("return self.select(asked, completions)", "RecursionError"),
        ("while True: pass", r"no result within 0\.3 seconds for id 'e0'"),
        ("return bytearray(1 << 32)", "the selector needed more than its 64 MB"),
    ],
)
def test_a_selector_that_raises_or_returns_nonsense_is_refused(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        selected(tmp_path, four_draws(tmp_path), own(tmp_path, body), scorer_timeout=0.3, scorer_memory=64)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "body",
    ["import numpy; return numpy.argmin([len(one.text) for one in completions])",
     "print('noise'); completions.reverse(); completions.clear(); return 0"],
)  # fmt: skip
def test_a_selector_may_return_a_numpy_position_and_do_what_it_likes_to_its_copy(
    tmp_path: Path, body: str, capfd: pytest.CaptureFixture[str]
) -> None:
    done = selected(tmp_path, four_draws(tmp_path), own(tmp_path, body))
    assert done.selection.at_n[-1].accuracy is not None
    assert done.selection.at_n[-1].accuracy.mean == 0.8
    assert capfd.readouterr() == ("", "")


def test_a_selector_cannot_find_the_verdicts_however_it_looks(tmp_path: Path) -> None:
    body = (
        "import gc; raise SystemError(sum(type(o).__name__ in ('Pool', 'Score', 'Record') for o in gc.get_objects()))"
    )
    with pytest.raises(BadInput, match="SystemError: 0 for id"):
        selected(tmp_path, four_draws(tmp_path), own(tmp_path, body))


@pytest.mark.parametrize(
    ("source", "message"),
    [("raise OSError('x')", "importing the selector raised OSError"), ("class Other: pass", "no class 'Mine'"),
     ("class Mine: pass", "no class 'Mine'"), ("def f(:", "SyntaxError"), ("import sys; sys.exit(0)", "sys.exit"),
     ("class Mine:\n    def __init__(self, k): self.k = k\n    def select(self, a, b): return 0", "without arguments"),
     ("class Mine:\n    async def select(self, a, b): return 0", "is async"),
     ("class Mine:\n    def select(self, a): return 0", "cannot be called as"),
     ("Mine = lambda a, b: 0", "no class 'Mine'")],
)  # fmt: skip
def test_a_file_that_holds_no_selector_is_refused(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(BadInput, match=message):
        selected(tmp_path, four_draws(tmp_path), f"{tmp_path / 'mine.py'}:Mine")


def reseal(run: Path, name: str, old: str, new: str) -> None:
    """Change a file and make every hash fit again, as a forger would."""
    from lockedroom.safeguards import manifest as manifests

    (run / name).write_text((run / name).read_text().replace(old, new, 1))
    manifest = manifests.read_manifest(run)
    manifest = msgspec.structs.replace(manifest, files={**manifest.files, name: manifests.measure_file(run / name)})
    (run / manifests.NAME).write_bytes(manifests.encode_manifest(manifest))
    (run / manifests.SUMS_NAME).write_bytes(manifests.checksum_lines(manifest))


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("selection.json", '"unjudged": 0', '"unjudged": 1', "its numbers are not those"),
        ("selection.md", "ceiling", "rooftop", "its text is not what"),
        ("choices.jsonl", "[1,2]", "[0,2]", "picks otherwise"),
        ("choices.jsonl", "[1,2]", "[2,2]", "outside its group"),
        ("pool.jsonl", '"outcome":"wrong"', '"outcome":"correct"', "judges otherwise"),
        ("pool.jsonl", '"draw":1', '"draw":2', "does not hold draws"),
    ],
)
def test_a_forged_selection_does_not_verify(tmp_path: Path, name: str, old: str, new: str, message: str) -> None:
    run = write_run(tmp_path, [[wrong(0), right(0), right(0), wrong(0)], [wrong(1), wrong(1), right(1), right(1)]])
    done = selected(tmp_path, run, "best-of-n")
    reseal(done.path, name, old, new)
    with pytest.raises(Tampered, match=message):
        verify(done.path)


def test_a_selection_of_another_format_is_not_called_tampering(tmp_path: Path) -> None:
    done = selected(tmp_path, four_draws(tmp_path), "best-of-n")
    reseal(done.path, "selection.json", "lockedroom.selection/3", "lockedroom.selection/2")
    with pytest.raises(BadInput, match="select again from"):
        verify(done.path)


def test_a_record_that_was_not_chosen_does_not_verify(tmp_path: Path) -> None:
    run = write_run(tmp_path, [[right(0, -1.0), right(0, -2.0)]])
    done = selected(tmp_path, run, "best-of-n")
    reseal(done.path, "records.jsonl", '"logprob":-1.0', '"logprob":-2.0')
    with pytest.raises(Tampered, match="not the draw that was chosen"):
        verify(done.path)


@pytest.mark.parametrize("tie_break", ["random", "shorter"])
def test_a_tie_break_is_part_of_the_knob_and_is_verified(tmp_path: Path, tie_break: str) -> None:
    run = write_run(tmp_path, [[right(i, -0.05), hedge(i), wrong(i), hedge(i)] for i in range(20)])
    done = selected(tmp_path, run, "proxy:permissive", tie_break=tie_break)
    assert done.manifest.selection["tie_break"] == tie_break
    assert verify(done.path).attempts == 20
    default = selected(tmp_path, run, "proxy:permissive", out="default")
    assert "tie_break" not in default.manifest.selection
    assert default.selection.at_n[-1].accuracy != done.selection.at_n[-1].accuracy


def test_an_uninformed_tie_break_shows_that_a_proxy_passes_too_much(tmp_path: Path) -> None:
    """With half of the draws right and half hedged, all paid by the proxy, a fair coin is right half of the time."""
    run = write_run(tmp_path, [[right(i, -0.1), hedge(i)] for i in range(200)])
    (_, last) = selected(tmp_path, run, "proxy:permissive", tie_break="random").selection.at_n
    assert last.told is not None
    assert last.accuracy is not None
    assert last.told.mean == 1.0
    assert 0.4 < last.accuracy.mean < 0.6


@pytest.fixture(scope="module")
def permissive_audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("audit") / "permissive"
    return audit(AuditConfig(scorer="permissive"), out).path


def test_error_rates_of_an_audit_predict_with_their_intervals(tmp_path: Path, permissive_audit: Path) -> None:
    run = four_draws(tmp_path)
    done = selected(tmp_path, run, "proxy:permissive", verifier_audit=str(permissive_audit))
    model = done.selection.verifier
    assert model is not None
    assert model.false_positive_interval is not None
    assert model.false_positive_interval.low < model.false_positive_rate < model.false_positive_interval.high
    assert model.ceiling_at_worst is not None
    assert model.ceiling_at_best is not None
    assert model.ceiling_at_worst < model.ceiling < model.ceiling_at_best
    assert done.selection.at_n[-1].predicted is not None
    assert verify(done.path).attempts == 5
    assert "at the ends of these intervals" in (done.path / "selection.md").read_text()


def test_an_audit_of_another_scorer_predicts_nothing(tmp_path: Path, permissive_audit: Path) -> None:
    with pytest.raises(BadInput, match="this selector follows final-int"):
        selected(tmp_path, four_draws(tmp_path), "best-of-n", verifier_audit=str(permissive_audit))


def test_a_run_is_no_audit_to_take_error_rates_from(tmp_path: Path) -> None:
    run = four_draws(tmp_path)
    with pytest.raises(BadInput, match="'evaluate', not an audit"):
        selected(tmp_path, run, "proxy:permissive", verifier_audit=str(run))
