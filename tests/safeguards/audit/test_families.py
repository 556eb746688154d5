"""The attacks: every family is there, none is a right answer, and a strict scorer pays none."""

from __future__ import annotations

import time

import pytest
from examining import SUBJECTS, goldens

from lockedroom.safeguards.audit.asking import Clock, InProcess, Isolated, Question
from lockedroom.safeguards.audit.cases import know
from lockedroom.safeguards.audit.dictionary import mine
from lockedroom.safeguards.audit.families import FAMILIES, OTHER_FAMILIES, seed_of, sweep
from lockedroom.safeguards.audit.shrinking import shrink
from lockedroom.scorer.builtin import find_builtin

SEEDS = [seed_of(golden, str(golden.expected_answer + 1)) for golden in goldens()]
# Every attack family that the audit has to sweep, and the golden exploits.
REQUIRED = {
    "unicode_digits", "minus_look_alikes", "int_laxness", "whitespace", "line_breaks", "invisible_characters", "prefix_look_alikes",
    "literal_format", "anchoring", "hedging", "number_syntax", "numeric_comparison", "truncation_windows", "nul", "denial_of_service",
    "non_strings", "lone_surrogates", "prompt_echo", "template_layers", "judge_bait", "injection", "special_tokens", "empty",
}  # fmt: skip


def test_every_required_family_is_asked() -> None:
    assert {*FAMILIES, *OTHER_FAMILIES} >= REQUIRED


@pytest.mark.parametrize("family", FAMILIES)
def test_no_attack_is_paid_by_the_strict_scorer(family: str) -> None:
    scorer = find_builtin("final-int")
    assert scorer is not None
    known = know(goldens())
    cases = list(sweep(SEEDS, family))
    assert cases or family == "structured_answers", "an integer has no structure"
    for case in cases:
        assert not known.is_right(case.example, case.completion)
        paid = scorer.score(case.example, case.completion).reward
        assert not paid or known.contested_as(case.example, case.completion), case


def test_a_mark_of_an_attack_stands_in_its_text() -> None:
    for family in FAMILIES:
        for case in sweep(SEEDS, family):
            assert all(mark in case.completion for mark in case.marks), case


def test_a_golden_that_does_not_show_its_answer_is_attacked_as_a_whole() -> None:
    from lockedroom.safeguards.audit.cases import Golden

    seed = seed_of(Golden(id="a", expected_answer="1/2", completion="0.5"), "1/3")
    assert seed.slot is None
    assert {case.completion for case in sweep([seed], "anchoring")} >= {"0.5 x", "x0.5"}


def test_in_process_at_least_fifty_thousand_probes_are_judged_a_second() -> None:
    scorer = find_builtin("final-int")
    assert scorer is not None
    questions = [Question(case.example, case.completion) for family in FAMILIES for case in sweep(SEEDS, family)] * 4
    rates = []
    for _ in range(3):  # the best of three: another process may take the machine for a moment
        began = time.perf_counter()
        InProcess(scorer).ask(questions, Clock(60))
        rates.append(len(questions) / (time.perf_counter() - began))
    assert max(rates) > 50_000


def test_isolated_at_least_ten_thousand_probes_are_judged_a_second() -> None:
    questions = [Question(case.example, case.completion) for family in FAMILIES for case in sweep(SEEDS, family)] * 4
    with Isolated(f"{SUBJECTS}:correct") as asker:
        rates = []
        for _ in range(3):
            began = time.perf_counter()
            asker.ask(questions, Clock(60))
            rates.append(len(questions) / (time.perf_counter() - began))
    assert max(rates) > 10_000


def test_constants_are_mined_with_expressions_folded_and_regexes_taken_apart() -> None:
    found = mine(
        'WORD = "xyz" + "zy"\nP = r"Answer:\\s*(\\d+)"\ndef f(x):\n    """Doc."""\n    return x == b"raw" or x in ("a1", "b2")\n'
    )
    assert {"xyzzy", "Answer:", "raw", "a1", "b2"} <= set(found)


def test_a_source_that_cannot_be_read_gives_no_constants() -> None:
    assert mine("def (") == []


def test_shrinking_leaves_no_character_that_can_go() -> None:
    assert shrink("a" * 50 + "X" + "b" * 50 + "Y", lambda text: "X" in text and "Y" in text) == "XY"


def test_shrinking_stops_after_its_tries() -> None:
    tried: list[str] = []

    def refuse(text: str) -> bool:
        tried.append(text)
        return False

    shrink("a" * 1000, refuse, tries=7)
    assert len(tried) == 7
