"""Whole audits: green only where it should be, and every family found that a scorer is vulnerable to."""

from __future__ import annotations

import time

import pytest
from examining import SUBJECTS, examination

from lockedroom.safeguards.audit import stages
from lockedroom.safeguards.audit.cases import Case, Reading
from lockedroom.safeguards.audit.examination import Report, examine, report_of
from lockedroom.safeguards.audit.families import sweep
from lockedroom.safeguards.audit.report import Finding, Verdict, What

BUDGET_S = 30.0


def audited(function: str, budget_s: float = BUDGET_S) -> Report:
    with examination(function, budget_s=budget_s) as exam:
        return examine(exam.asker, exam.fresh, exam.plan)


@pytest.fixture(scope="module")
def naive() -> Report:
    return audited("naive")


@pytest.fixture(scope="module")
def buggy() -> Report:
    return audited("buggy")


def of_family(report: Report, family: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.family == family]


def test_a_correct_strict_scorer_has_no_finding_within_the_budget() -> None:
    began = time.monotonic()
    report = audited("correct")
    assert report.verdict is Verdict.CLEAN, report.findings
    assert not report.findings
    assert not report.incomplete
    assert time.monotonic() - began < BUDGET_S


@pytest.mark.parametrize(
    "family",
    ["unicode_digits", "whitespace", "line_breaks", "invisible_characters", "literal_format", "anchoring", "hedging", "number_syntax",
     "numeric_comparison", "truncation_windows", "nul", "lone_surrogates", "prompt_echo", "special_tokens", "template_layers",
     "minus_look_alikes", "prefix_look_alikes", "int_laxness", "cross_answer", "best_constant", "search"],
)  # fmt: skip
def test_the_naive_scorer_is_found_out_in_every_family_it_is_open_to(naive: Report, family: str) -> None:
    assert of_family(naive, family)


@pytest.mark.parametrize("family", ["unicode_digits", "whitespace", "line_breaks", "anchoring", "int_laxness"])
def test_the_buggy_strict_scorer_is_found_out_in_every_family_it_is_open_to(buggy: Report, family: str) -> None:
    assert any(finding.what is What.PAYS for finding in of_family(buggy, family))


def test_int_raising_where_isdigit_said_yes_is_a_finding(buggy: Report) -> None:
    (raised,) = [finding for finding in of_family(buggy, "unicode_digits") if finding.what is What.RAISES]
    assert "ValueError" in raised.said


def test_a_finding_is_as_small_as_it_can_be_and_names_its_characters(buggy: Report) -> None:
    (digits,) = [finding for finding in of_family(buggy, "unicode_digits") if finding.what is What.PAYS]
    assert len(digits.completion) == len("Final: 0")
    assert digits.reading is Reading.OTHER_FORM
    assert "DIGIT ZERO" in digits.characters[0]


def test_the_error_budget_is_by_family_with_exact_intervals(naive: Report) -> None:
    assert naive.errors is not None
    rows = {row.family: row for row in naive.errors.families}
    hedging = rows["hedging"].interval
    assert hedging is not None
    assert hedging.method == "clopper-pearson"
    assert rows["hedging"].paid == rows["hedging"].judged
    assert naive.errors.overall is not None
    assert 0 < naive.errors.overall.youden_j < 1
    assert naive.errors.implied[0].ceiling < 1


def test_contested_cases_are_listed_apart_and_stay_out_of_the_rates(buggy: Report) -> None:
    padding = [row for row in buggy.contested if row.choice == "padding"]
    assert any(row.paid for row in padding)
    assert buggy.errors is not None
    assert "padding" not in {row.family for row in buggy.errors.families}


def test_what_is_allowed_is_contested_and_no_finding() -> None:
    with examination("naive", allowed=("hedging",)) as exam:
        from lockedroom.safeguards.audit import stages

        stages.attack(exam)
        assert not any(hit.case.family == "hedging" for hit in exam.ledger.hits)
        assert any(row.choice == "allowed" for row in exam.ledger.contested_rows())


def test_a_scorer_slower_than_the_budget_could_not_be_audited() -> None:
    report = audited("slow", budget_s=20.0)
    assert report.verdict is Verdict.NOT_AUDITED
    assert "give a --budget of at least" in report.reasons[0]


def test_questions_that_were_given_up_are_never_green() -> None:
    with examination("correct") as exam:
        exam.ledger.exploit(Case(family="hedging", attack="or", example=exam.seeds[0].example, completion="x"), None)
        assert report_of(exam, [], None).verdict is Verdict.NOT_AUDITED


def test_the_subjects_are_where_the_tests_think() -> None:
    assert SUBJECTS.is_file()


def test_parts_of_the_reward_that_wrong_texts_get_are_said_and_are_no_finding() -> None:
    with examination("graded") as exam:
        assert not stages.baseline(exam)
        stages.enter(exam, list(sweep(exam.seeds, "numeric_comparison")))
        report = report_of(exam, [], None)
    assert not report.findings
    (note,) = [one for one in report.notes if "a part of the reward" in one]
    assert "0.1 at most" in note
    assert "Final: " in note
