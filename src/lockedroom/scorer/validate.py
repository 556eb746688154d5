"""The boundary check: what a person's scorer returned becomes a Score, or a Failure that says what is wrong with it.

Nothing is repaired: a reward that is text, a code nobody declared or a NaN deep in the details is
`scorer_invalid_result`, never reward 0. Pure, and the only place where this is decided.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from lockedroom.records import Details, Failure, FailureCode, Outcome, Score, ScorerSpec

# An undeclared code is a free word; it has to fit into a table.
LONGEST_CODE = 64
DEEPEST_DETAILS = 64
# Python reads back integers of up to 4,300 digits; 2**14,280 has 4,299.
LONGEST_INT_BITS = 14_280

_OUTCOMES: dict[Any, Outcome] = {outcome.value: outcome for outcome in Outcome}
_NAMED = frozenset({"code", "outcome", "parsed", "message"})
_ABSENT: Any = object()


class Rules(msgspec.Struct, frozen=True):
    """What a result is held to: each declared code with its outcome (empty: any code), and the range of the reward."""

    codes: dict[str, Outcome]
    low: float
    high: float


class _Invalid(Exception):
    """Carries the reason from where it is found to `to_score`; never leaves this module."""


def rules_for(spec: ScorerSpec | None) -> Rules:
    """Return the rules that a declared spec sets; None (nothing declared) allows any finite reward and any code."""
    if spec is None:
        return Rules({}, -math.inf, math.inf)
    return Rules({code.name: code.outcome for code in spec.codes}, *spec.reward_range)


def to_score(result: object, rules: Rules) -> Score | Failure:
    """Return the Score that `result` (a Score, or a dict with `reward` and `details`) stands for, else a Failure.

    The outcome is the declared one of the code; without declared codes it is the one in the details or, failing
    that, read from the reward: 1 is correct, anything else is wrong.
    """
    try:
        if isinstance(result, Score):
            return Score(_reward(result.reward, rules), _from_struct(result, rules))
        if isinstance(result, dict):
            return _from_dict(result, rules)
        _refuse(
            f"the scorer returned a result that is {_kind(result)}; return a Score or {{'reward': ..., 'details': {{...}}}}"
        )
    except _Invalid as trouble:
        return Failure(FailureCode.SCORER_INVALID_RESULT, shown(str(trouble)))


def shown(text: str, limit: int = 300) -> str:
    """Return `text` cut to `limit` characters, with every unprintable one (escapes, lone surrogates) written out."""
    cut = text if len(text) <= limit else text[:limit] + "…"
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)


def _from_dict(result: dict[Any, Any], rules: Rules) -> Score:
    if len(result) != 2 or "reward" not in result or "details" not in result:
        _refuse(f"the result has the keys {sorted(map(repr, result))}; it needs exactly 'reward' and 'details'")
    reward = _reward(result["reward"], rules)
    details = result["details"]
    if not isinstance(details, dict):
        _refuse(f"details is {_kind(details)}; it must be a dict")
    code = details.get("code", _ABSENT)
    outcome = details.get("outcome", _ABSENT)
    parsed = details.get("parsed", _ABSENT)
    message = details.get("message", _ABSENT)
    named = 4 - (code is _ABSENT) - (outcome is _ABSENT) - (parsed is _ABSENT) - (message is _ABSENT)
    extra = None if named == len(details) else {k: v for k, v in details.items() if k not in _NAMED}
    code, outcome = _verdict(code, outcome, reward, rules)
    return Score(reward, _details(
        code, outcome, None if parsed is _ABSENT else parsed, "" if message is _ABSENT else message, extra
    ))  # fmt: skip


def _from_struct(score: Score, rules: Rules) -> Details:
    details: Any = score.details  # a struct's constructor checks nothing
    if not isinstance(details, Details):
        _refuse(f"details is {_kind(details)}; a Score needs a Details")
    code, outcome = _verdict(details.code, details.outcome, score.reward, rules)
    return _details(code, outcome, details.parsed, details.message, details.extra)


def _reward(reward: Any, rules: Rules) -> float:
    if type(reward) is not float:
        if isinstance(reward, bool) or not isinstance(reward, (int, float)):
            _refuse(f"reward is {_kind(reward)}; it must be a number (int or float)")
        try:
            number = float(reward)
        except OverflowError:
            _refuse("reward is an integer too large for a float")
        if isinstance(reward, int) and number != reward:
            _refuse("reward is an integer that a float cannot hold exactly")
        reward = number
    if not math.isfinite(reward):
        _refuse(f"reward is {reward}; it must be finite")
    if not rules.low <= reward <= rules.high:
        _refuse(f"reward {reward} is outside the declared range {rules.low} to {rules.high}")
    return reward  # type: ignore[no-any-return]  # narrowed by the checks above, not by its type


def _verdict(code: Any, outcome: Any, reward: float, rules: Rules) -> tuple[str, Outcome]:
    """Return the code and its outcome, derived by the documented rule where the scorer left one out."""
    found = _ABSENT if outcome is _ABSENT else _outcome(outcome)
    if code is _ABSENT:
        if rules.codes:
            _refuse("details has no 'code', and SPEC declares codes")
        if found is not _ABSENT:
            return found.value, found
        return ("reward_1", Outcome.CORRECT) if reward == 1.0 else ("reward_not_1", Outcome.WRONG)
    code = _text(code, "code")
    if not rules.codes:
        if not 0 < len(code) <= LONGEST_CODE or not code.isprintable():
            _refuse(f"code {code[:LONGEST_CODE]!r} is not a printable word of 1 to {LONGEST_CODE} characters")
        if found is not _ABSENT:
            return code, found
        return code, Outcome.CORRECT if reward == 1.0 else Outcome.WRONG
    declared = rules.codes.get(code)
    if declared is None:
        _refuse(f"code {code!r} is not declared in SPEC")
    if found is not _ABSENT and found is not declared:
        _refuse(f"outcome '{found.value}' contradicts code {code!r}, which SPEC declares '{declared.value}'")
    return code, declared


def _outcome(outcome: Any) -> Outcome:
    if isinstance(outcome, Outcome):
        return outcome
    if not isinstance(outcome, str) or outcome not in _OUTCOMES:
        _refuse(f"outcome is {_kind(outcome)}; it must be one of {', '.join(_OUTCOMES)}")
    return _OUTCOMES[outcome]


def _details(code: str, outcome: Outcome, parsed: Any, message: Any, extra: Any) -> Details:
    if type(parsed) is not str and parsed is not None:
        parsed = _text(parsed, "parsed", " or None")
    if type(message) is not str:
        message = _text(message, "message")
    if extra is not None:
        if not isinstance(extra, dict):
            _refuse(f"details.extra is {_kind(extra)}; it must be a dict or None")
        extra = _json_dict(extra, "details", 0)
    return Details(code, outcome, parsed, message, extra)


def _text(value: Any, where: str, otherwise: str = "") -> str:
    if not isinstance(value, str):
        _refuse(f"{where} is {_kind(value)}; it must be a string{otherwise}")
    return value if type(value) is str else str.__str__(value)


def _json(value: Any, where: str, depth: int) -> Any:
    """Return a plain copy of a JSON value: tuples become lists, subclasses their JSON type."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        if value.bit_length() > LONGEST_INT_BITS:
            _refuse(f"{where} is an integer too long to be read back; write it as a string")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            _refuse(f"{where} is {value}, which JSON cannot hold")
        return float(value)
    if depth > DEEPEST_DETAILS:
        _refuse(f"details nest deeper than {DEEPEST_DETAILS} levels")
    if isinstance(value, dict):
        return _json_dict(value, where, depth)
    if isinstance(value, (list, tuple)):
        return [_json(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    return _refuse(f"{where} is {_kind(value)}, which is not a JSON value")


def _json_dict(value: Mapping[Any, Any], where: str, depth: int) -> dict[str, Any]:
    copy: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            _refuse(f"{where} has the key {_kind(key)}; keys must be strings")
        copy[str.__str__(key)] = _json(item, f"{where}.{key}", depth + 1)
    return copy


def _kind(value: object) -> str:
    """Name a value for a message, briefly and without running its own code."""
    if value is None:
        return "None"
    if type(value) in (bool, float):
        return f"{value!r} ({type(value).__name__})"
    if type(value) is str:
        return f"{value[:60]!r} (str)"
    module, name = type(value).__module__, type(value).__qualname__
    return f"of type {name}" if module == "builtins" else f"of type {module}.{name}"


def _refuse(reason: str) -> NoReturn:
    raise _Invalid(reason)
