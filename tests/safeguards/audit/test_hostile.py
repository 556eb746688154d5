"""Every bad habit is a finding, and nothing hangs."""

from __future__ import annotations

import re
import sys
import time

import pytest
from examining import HOSTILE, examination

from lockedroom.results.audit.rendering import render_audit
from lockedroom.safeguards.audit import behaviour, endurance, stages
from lockedroom.safeguards.audit.examination import Examination, examine, report_of
from lockedroom.safeguards.audit.families import sweep
from lockedroom.safeguards.audit.overhearing import Listening, Overheard
from lockedroom.safeguards.audit.replaying import ALONE
from lockedroom.safeguards.audit.report import EXIT_CODES, What
from lockedroom.safeguards.audit.surroundings import installed_locale, most_telling


def troubles(exam: Examination) -> set[tuple[What, str]]:
    return {(hit.what, hit.case.attack) for hit in exam.ledger.hits}


@pytest.mark.parametrize(
    ("function", "what"),
    [
        ("hangs", What.HANGS), ("sleeps", What.HANGS), ("exits", What.RAISES), ("exits_at_once", What.DIES), ("raises_base", What.RAISES),
        ("raises_interrupt", What.RAISES), ("recurses", What.RAISES), ("allocates", What.DIES), ("rewards_nan", What.INVALID),
        ("rewards_text", What.INVALID), ("rewards_none", What.INVALID), ("rewards_bool", What.INVALID),
    ],
)  # fmt: skip
def test_a_scorer_that_does_not_answer_is_found_out(function: str, what: What) -> None:
    with examination(function, HOSTILE, timeout_s=0.3) as exam:
        assert not stages.baseline(exam)
        stages.enter(exam, list(sweep(exam.seeds, "hedging")))
        assert {hit.what for hit in exam.ledger.hits} == {what}


@pytest.mark.parametrize(
    ("function", "what", "how"),
    [
        ("prints", What.IMPURE, "writes to stdout or stderr"),
        ("changes_arguments", What.IMPURE, "changes its arguments"),
        ("opens_a_file", What.IMPURE, "opens files"),
        ("evaluates", What.IMPURE, "evaluates code"),
        ("reads_the_time", What.IMPURE, "reads the clock"),
        ("reads_the_date", What.IMPURE, "reads the clock"),
        ("reads_a_stopwatch", What.IMPURE, "reads the clock"),
        ("rests", What.IMPURE, "sleeps"),
        ("draws_an_id", What.IMPURE, "draws from the system's randomness"),
        ("draws_and_restores", What.IMPURE, "draws from global randomness"),
        ("asks_its_process", What.IMPURE, "asks about its process"),
        ("reads_the_environment", What.IMPURE, "reads the environment"),
        ("starts_threads", What.IMPURE, "starts threads"),
        ("looks_at_its_callers", What.IMPURE, "looks at its callers"),
        ("sets_the_recursion_limit", What.IMPURE, "changes the recursion limit"),
        ("handles_signals", What.IMPURE, "changes signal handlers"),
        ("replaces_a_function", What.IMPURE, "replaces functions of json"),
        ("stops_collecting", What.IMPURE, "changes the garbage collector"),
        ("closes_its_output", What.IMPURE, "changes standard streams"),
        ("drifts", What.UNSTABLE, "after thousands of calls"),
        ("depends_on_the_hash_seed", What.UNSTABLE, "under another hash seed, locale and time zone"),
        ("needs_the_main_thread", What.UNSTABLE, "in a thread that is not the main one"),
    ],
)
def test_a_scorer_that_does_more_than_answer_is_found_out(function: str, what: What, how: str) -> None:
    with examination(function, HOSTILE, drift_calls=20_000 if function == "drifts" else 0) as exam:
        assert not stages.baseline(exam)
        behaviour.behave(exam)
        assert (what, how) in troubles(exam)


@pytest.mark.parametrize("function", ["pays_now_and_then", "caches_the_text_alone"])
def test_a_payment_that_is_not_seen_again_makes_an_unstable_finding_that_replays(function: str) -> None:
    with examination(function, HOSTILE) as exam:
        assert not stages.baseline(exam)
        stages.attack(exam)
        stages.cross(exam)
        exam.behaviour = behaviour.questions(exam)
        report = report_of(exam, [], None)
        unstable = [one for one in report.findings if one.what is What.UNSTABLE]
        assert [(one.attacks, one.replays) for one in unstable] == [({ALONE: unstable[0].cases}, True)]
        lost = [one for one in report.findings if one.note]
        assert len(lost) == unstable[0].cases
        assert all(unstable[0].id in one.note and not one.replays for one in lost)
        assert f"{len(lost)} were not seen again when asked alone" in render_audit(report)


def test_calls_that_run_out_of_time_only_after_thousands_of_others_are_a_finding() -> None:
    with examination("hangs_after_thousands_of_calls", HOSTILE, timeout_s=0.3) as exam:
        report = examine(exam.asker, exam.fresh, exam.plan)
    assert {one.what for one in report.findings} == {What.HANGS}
    assert EXIT_CODES[report.verdict] == 1


def test_a_process_that_ends_after_thousands_of_calls_is_a_finding() -> None:
    with examination("exits_after_thousands_of_calls", HOSTILE, drift_calls=behaviour.DRIFT_CALLS) as exam:
        behaviour.behave(exam)
        assert troubles(exam) == {(What.DIES, "after thousands of calls")}


def test_a_message_that_changes_is_found_out_as_it_changes_the_records() -> None:
    with examination("says_another_word_each_time", HOSTILE, drift_calls=0) as exam:
        assert not stages.baseline(exam)
        behaviour.behave(exam)
        assert (What.UNSTABLE, "when repeated") in troubles(exam)


def test_a_call_that_ran_out_of_time_once_is_never_green() -> None:
    with examination("hangs_once", HOSTILE, timeout_s=0.3) as exam:
        assert not stages.baseline(exam)
        stages.enter(exam, list(sweep(exam.seeds, "hedging")))
        report = report_of(exam, [], None)
        assert not report.findings
        assert EXIT_CODES[report.verdict] == 2


def test_a_cache_keyed_on_the_text_alone_is_found_out() -> None:
    with examination("caches_the_text_alone", HOSTILE) as exam:
        stages.baseline(exam)
        stages.cross(exam)
        assert any(hit.case.family == "cross_answer" and hit.what is What.PAYS for hit in exam.ledger.hits)


def test_a_trigger_word_in_the_source_is_found_out() -> None:
    with examination("has_a_trigger_word", HOSTILE) as exam:
        stages.mined(exam)
        assert any(hit.case.marks == ("xyzzy-open",) for hit in exam.ledger.hits)


@pytest.mark.parametrize(
    "function",
    ["hears_a_joined_word", "hears_a_decoded_word", "hears_a_formatted_word", "hears_a_pattern", "hears_two_words", "hears_a_mark_repeated",
     "hears_a_length"],
)  # fmt: skip
def test_a_trigger_that_no_constant_of_the_source_shows_is_overheard_and_replays(function: str) -> None:
    with examination(function, HOSTILE) as exam:
        stages.mined(exam)
        report = report_of(exam, [], None)
    assert report.findings
    assert all(one.what is What.PAYS and one.replays for one in report.findings)


def test_what_a_strict_scorer_is_overheard_to_compare_is_no_finding() -> None:
    with examination("strict", HOSTILE) as exam:
        stages.mined(exam)
        assert not exam.ledger.hits


def test_an_overheard_text_is_that_text_to_everything_but_the_ears() -> None:
    text = Overheard("Final: 7 or 8")
    assert text in {"Final: 7 or 8"}
    assert (text.upper(), text.split(" or "), text[7:], len(text)) == ("FINAL: 7 OR 8", ["Final: 7", "8"], "7 or 8", 13)
    with Listening() as listening:
        assert "zulu" not in text.removeprefix("Final: ")
        assert not text.startswith(("yankee", "\ud800"))
        assert re.fullmatch("[a-z]+", text) is None
    told = listening.told()
    assert told["texts"] == ["Final: ", "zulu", "yankee"]
    assert [pattern for pattern, _ in told["patterns"]] == ["[a-z]+"]


@pytest.mark.parametrize("function", ["strict", "seeded_by_itself"])
def test_a_strict_scorer_in_the_same_file_has_no_trouble(function: str) -> None:
    with examination(function, HOSTILE, drift_calls=2_000) as exam:
        assert not stages.baseline(exam)
        behaviour.behave(exam)
        assert not troubles(exam)


def test_a_memory_cap_without_room_for_threads_accuses_nobody_and_is_said() -> None:
    with examination("strict", HOSTILE, memory_mb=16, drift_calls=200) as exam:
        behaviour.behave(exam)
        assert not exam.ledger.hits
        said = [one for one in exam.notes if "--scorer-memory leaves no room for threads" in one]
        assert said or sys.platform != "linux", "only Linux caps memory"


def test_an_audit_of_a_hanging_scorer_ends_within_its_budget_and_is_not_green() -> None:
    began = time.monotonic()
    with examination("hangs", HOSTILE, timeout_s=0.5, budget_s=5.0) as exam:
        report = examine(exam.asker, exam.fresh, exam.plan)
    assert time.monotonic() - began < 9
    assert EXIT_CODES[report.verdict] == 1
    assert report.findings


def test_another_locale_is_asked_where_there_is_one_and_its_absence_is_said() -> None:
    with examination("depends_on_the_locale", HOSTILE, drift_calls=0) as exam:
        plan = behaviour.Ways(0, 0, "C.utf8")
        found = {
            way.how: len(way.differing)
            for way in behaviour.ways(exam.fresh, behaviour.questions(exam), exam.clock, plan)
        }
        assert found["under another hash seed, locale (C.utf8) and time zone"] > 0
        behaviour.behave(exam)
        assert any("no locale but C is installed" in note for note in exam.notes) == (installed_locale() is None)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["C", "C.utf8", "POSIX"], None),
        (["C", "en_US.utf8", "de_DE.utf8"], "de_DE.utf8"),
        (["xh_ZA"], "xh_ZA"),
        ([], None),
    ],
)
def test_the_locale_that_shows_most_is_taken(names: list[str], chosen: str | None) -> None:
    assert most_telling(names) == chosen


def test_denial_of_service_is_probed_within_its_share_of_the_budget_and_the_rest_is_said() -> None:
    with examination("hangs", HOSTILE, timeout_s=0.2, budget_s=4.0) as exam:
        endurance.endure(exam)
    hangs = [hit for hit in exam.ledger.hits if hit.what is What.HANGS]
    assert len(hangs) > 3
    assert any(
        "kinds of text were not asked within" in one and "because calls that never came back had taken" in one
        for one in exam.notes
    )
