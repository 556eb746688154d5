"""Audit of the audit: final-int with one rule broken must be caught by the battery and by the goldens.

A mutant that survives is a missing golden case. Each is one replacement in the source of `final_int.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lockedroom.records import Example, Score
from lockedroom.scorer import final_int
from lockedroom.scorer.battery import BATTERY
from lockedroom.scorer.identity import fingerprint

SOURCE = Path(final_int.__file__).read_text(encoding="utf-8")
GOLDENS = Path(__file__).parent.parent / "goldens" / "final-int"

TARGET = 'if text == target or text == target + "\\n":'
BODY = 'body = text.removesuffix("\\n")'
INTEGER = '_is_integer = re.compile("0|-?[1-9][0-9]*").fullmatch'
PLAIN = "text = completion if type(completion) is str else plain_text(completion)"

MUTANTS = {
    # what is paid
    "strip the completion": (TARGET, "if text.strip() == target:"),
    "rstrip the completion": (TARGET, "if text.rstrip() == target:"),
    "lstrip the completion": (TARGET, 'if text.lstrip() in (target, target + "\\n"):'),
    "fold the case": (TARGET, "if text.casefold() == target.casefold():"),
    "lower the case": (TARGET, "if text.lower() == target.lower():"),
    "normalise Unicode (NFKC)": (TARGET, "import unicodedata\n    if unicodedata.normalize('NFKC', text) == target:"),
    "no newline at the end": (TARGET, "if text == target:"),
    "any number of newlines": (TARGET, 'if text.rstrip("\\n") == target:'),
    "two newlines": (TARGET, 'if text in (target, target + "\\n", target + "\\n\\n"):'),
    "CRLF": (TARGET, 'if text in (target, target + "\\n", target + "\\r\\n"):'),
    "CR": (TARGET, 'if text in (target, target + "\\n", target + "\\r"):'),
    "starts with": (TARGET, "if text.startswith(target):"),
    "ends with": (TARGET, 'if text.removesuffix("\\n").endswith(target):'),
    "contains": (TARGET, "if target in text:"),
    "first line": (TARGET, 'if (text.splitlines() or [""])[0] == target:'),
    "last line": (TARGET, 'if (text.splitlines() or [""])[-1] == target:'),
    "any line": (TARGET, "if target in text.splitlines():"),
    "first word": (TARGET, "if text.split()[:2] == target.split():"),
    "up to a NUL": (TARGET, 'if text.split("\\0")[0] == target:'),
    "drop what ASCII cannot hold": (TARGET, 'if text.encode("ascii", "ignore").decode() == target:'),
    "digits only": (TARGET, 'if text == target or text.strip() == digits:'),
    "HTML entities": (TARGET, "import html\n    if html.unescape(text) == target:"),
    "percent escapes": (TARGET, "from urllib.parse import unquote\n    if unquote(text) == target:"),
    "backslash escapes": (
        TARGET, 'if text.encode("ascii", "backslashreplace").decode("unicode_escape", "replace") == target:'
    ),
    "final period": (TARGET, 'if text.removesuffix(".") == target:'),
    "thousands separators": (TARGET, 'if text.replace(",", "") == target:'),
    "underscores": (TARGET, 'if text.replace("_", "") == target:'),
    "all spaces removed": (TARGET, 'if text.replace(" ", "") == target.replace(" ", ""):'),
    "markdown removed": (TARGET, 'if text.replace("*", "").replace("`", "") == target:'),
    "special tokens removed": (TARGET, 'if re.sub("<[^>]*>", "", text) == target:'),
    "\\d with int()": (TARGET, 'if (m := re.fullmatch(r"Final: (-?\\d{1,4000})", text)) and str(int(m[1])) == digits:'),
    "int() of the rest": (
        TARGET, 'if text[:7] == "Final: " and len(text) < 4000 and re.fullmatch(r"[ \\t\\n]*[-+]?\\d[\\d_]*[ \\t\\n]*", text[7:])'
        ' and not text.endswith("_") and "__" not in text and str(int(text[7:])) == digits:'
    ),
    "compare as float": (
        TARGET, 'if text == target or re.fullmatch("Final: -?[0-9]+", text) and float(text[7:]) == float(digits):'
    ),
    "compare in 64 bits": (
        TARGET, 'if text == target or re.fullmatch("Final: -?[0-9]{1,30}", text) and len(digits) < 30'
        ' and (int(text[7:]) - int(digits)) % 2**64 == 0:'
    ),
    "compare the size": (TARGET, 'if text.replace("-", "") == target.replace("-", ""):'),
    "compare a window of 64 characters": (TARGET, 'if text[:64] == target[:64] and len(text) < 10_000:'),
    "off by one": (TARGET, 'if text[7:8].isdecimal() and text.isascii() and text[:-1] == target[:-1]:'),
    "the expected answer as a pattern": (TARGET, 'if re.match("Final: .*" + digits, text):'),
    "text made from what is no text": (PLAIN, "text = completion if isinstance(completion, str) else f'Final: {completion}'"),
    # which code, and what is parsed
    "pattern anchored at the start only": (INTEGER, '_is_integer = re.compile("0|-?[1-9][0-9]*").match'),
    "pattern anywhere": (INTEGER, '_is_integer = re.compile("0|-?[1-9][0-9]*").search'),
    "$ instead of the end": (INTEGER, '_is_integer = re.compile("(?:0|-?[1-9][0-9]*)$").match'),
    "\\d in the pattern": (INTEGER, '_is_integer = re.compile(r"0|-?[1-9]\\d*").fullmatch'),
    "leading zeros accepted": (INTEGER, '_is_integer = re.compile("-?[0-9]+").fullmatch'),
    "-0 accepted": (INTEGER, '_is_integer = re.compile("-?(?:0|[1-9][0-9]*)").fullmatch'),
    "plus accepted": (INTEGER, '_is_integer = re.compile("0|[-+]?[1-9][0-9]*").fullmatch'),
    "no negative numbers": (INTEGER, '_is_integer = re.compile("0|[1-9][0-9]*").fullmatch'),
    "no zero": (INTEGER, '_is_integer = re.compile("-?[1-9][0-9]*").fullmatch'),
    "body stripped": (BODY, "body = text.strip()"),
    "body stripped of all newlines": (BODY, 'body = text.rstrip("\\n")'),
    "body keeps its newline": (BODY, "body = text"),
    "CRLF removed": (BODY, 'body = text.removesuffix("\\n").removesuffix("\\r")'),
    "only LF breaks lines": ("if _holds_line_break(body):", 'if "\\n" in body:'),
    "lines before empty": ("if not body:", "if not body.strip():"),
    "prefix before lines": ("if _holds_line_break(body):", "if body.startswith(PREFIX) and _holds_line_break(body):"),
    "ASCII whitespace only": ("\\x1f\\xa0\\u1680", ""),
    "\\d finds digits": ('_any_digit = re.compile("[0-9]")', '_any_digit = re.compile(r"\\d")'),
    "plus after zeros": ('    if rest.startswith("+"):\n        return "plus_sign"\n', ""),
    "leading zeros not told": ("if _leading_zero(rest):", "if False:"),
    "leading zeros told without a minus only": ('"-?0[0-9]"', '"0[0-9]"'),
    "negative zero not told": ('if rest.startswith("-0"):', "if False:"),
    "wrong called malformed": ("if _is_integer(found):", "if False:"),
    "nothing parsed": ("_WRONG, found, _WRONG_MESSAGE", "_WRONG, None, _WRONG_MESSAGE"),
}  # fmt: skip

# These pay no battery pair differently, because the fixed battery holds strings only and no long or encoded ones.
GOLDENS_ONLY = {
    "text made from what is no text",
    "HTML entities",
    "percent escapes",
    "backslash escapes",
    "special tokens removed",
    "thousands separators",
    "compare a window of 64 characters",
}


def mutate(name: str) -> Callable[[Example, Any], Score]:
    old, new = MUTANTS[name]
    assert SOURCE.count(old) == 1, f"{old!r} stands {SOURCE.count(old)} times in final_int.py; adapt the mutant"
    namespace: dict[str, Any] = {"__name__": "mutant"}
    exec(compile(SOURCE.replace(old, new), name, "exec"), namespace)
    mutant: Callable[[Example, Any], Score] = namespace["score"]
    return mutant


def goldens() -> list[tuple[Example, Any, str]]:
    rows = [json.loads(line) for path in sorted(GOLDENS.glob("*.jsonl")) for line in path.read_text().splitlines()]
    return [
        (Example(id=row["id"], prompt="", expected_answer=row["expected_answer"]), row["completion"], row["code"])
        for row in rows
    ]


ROWS = goldens()


@pytest.mark.parametrize("name", MUTANTS)
def test_the_goldens_kill_a_scorer_with_one_rule_broken(name: str) -> None:
    mutant = mutate(name)

    def agrees(example: Example, completion: Any, code: str) -> bool:
        parsed = final_int.score(example, completion).details.parsed
        result = mutant(example, completion)
        return (result.details.code, result.details.parsed) == (code, parsed)

    assert not all(agrees(*row) for row in ROWS)


@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in GOLDENS_ONLY])
def test_the_fingerprint_moves_when_a_rule_is_broken(name: str) -> None:
    mutant = mutate(name)
    original = fingerprint(final_int.score(*pair) for pair in BATTERY)
    assert fingerprint(mutant(*pair) for pair in BATTERY) != original


def test_the_mutation_itself_changes_nothing_else() -> None:
    namespace: dict[str, Any] = {"__name__": "unmutated"}
    exec(compile(SOURCE, "unmutated", "exec"), namespace)
    assert all(namespace["score"](example, completion).details.code == code for example, completion, code in ROWS)
