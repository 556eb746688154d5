"""Signatures that are not ours: the function of a trainer, called as that trainer calls it.

The person names the signature; nothing is guessed from argument names, because a guess that is wrong scores silently.
Runs in the scorer's process only.
"""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from lockedroom.records import Example, ScorerSpec
from lockedroom.scorer.loading import Unusable, load, run_file

OURS = "example,completion"
# name -> how it is called, for messages and help
SIGNATURES = {
    OURS: "score(example, completion) -> Score or {'reward', 'details'}",
    "number": "score(example, completion) -> number",
    "completion,answer": "f(completion, answer) -> number",
    "answer,completion": "f(answer, completion) -> number",
    "prompt,completion,answer": "f(prompt, completion, answer) -> number",
    "trl:COLUMN": "f(prompts=[…], completions=[text], COLUMN=[answer]) -> [number], also async",
    "trl-chat:COLUMN": "the same with chat messages",
    "verl:SOURCE": "f(data_source=SOURCE, solution_str=text, ground_truth=answer, extra_info={}) -> number or {'score': number}, also async",
    "verifiers": "f(prompt=…, completion=[message], answer=answer, info={}, state={the same}) -> number, also async",
}

Call = Callable[[Example, Any], Any]


def check_signature(signature: str) -> str:
    """Return an empty string, or what is wrong with the name of a signature."""
    if signature in SIGNATURES and ":" not in signature:
        return ""
    name, colon, argument = signature.partition(":")
    if colon and argument.isprintable() and argument and any(key.startswith(f"{name}:") for key in SIGNATURES):
        return "" if name == "verl" or argument.isidentifier() else f"{argument!r} is not the name of a column"
    return f"unknown signature; use one of {', '.join(SIGNATURES)}"


def adapted(path: Path, function: str, signature: str) -> tuple[Call, ScorerSpec | None]:
    """Return the person's function as `call(example, completion) -> result`, and its SPEC. Raises Unusable."""
    if signature in (OURS, "number"):
        loaded = load(path, function)
        if signature == OURS:
            return loaded.function, loaded.spec
        return _paid(loaded.function), loaded.spec
    found = _import(path, function)
    call = _called_as(found, signature)
    return _paid(call), None


def _called_as(found: Callable[..., Any], signature: str) -> Call:
    name, _, argument = signature.partition(":")
    calls: dict[str, Call] = {
        "completion,answer": lambda example, text: found(text, example.expected_answer),
        "answer,completion": lambda example, text: found(example.expected_answer, text),
        "prompt,completion,answer": lambda example, text: found(example.prompt, text, example.expected_answer),
        "trl": lambda example, text: _only(_awaited(
            found(prompts=[example.prompt], completions=[text], **{argument: [example.expected_answer]})
        )),
        "trl-chat": lambda example, text: _only(_awaited(
            found(prompts=[_chat("user", example.prompt)], completions=[_chat("assistant", text)],
                  **{argument: [example.expected_answer]})
        )),
        "verl": lambda example, text: _score_of(_awaited(
            found(data_source=argument, solution_str=text, ground_truth=example.expected_answer, extra_info={})
        )),
        "verifiers": lambda example, text: _awaited(_asked_for(found, **_rollout(example, text))),
    }  # fmt: skip
    return calls[name]


def _paid(call: Call) -> Call:
    """Put a bare number where our contract has it; what is no number is left for the boundary check to refuse."""

    def paid(example: Example, text: Any) -> Any:
        reward = call(example, text)
        if not isinstance(reward, (int, float)) and isinstance(reward, numbers.Real):
            reward = float(reward)  # numpy's numbers, say: what a trainer would make of them
        return {"reward": reward, "details": {}}

    return paid


def _only(rewards: Any) -> Any:
    """Return the reward of a batch of one: a list, or what a trainer would read like one, such as an array."""
    if isinstance(rewards, (str, bytes, dict)) or not isinstance(rewards, Collection) or len(rewards) != 1:
        raise TypeError(f"a batch of one completion got {type(rewards).__name__} instead of a list of one reward")
    return next(iter(rewards))


def _score_of(result: Any) -> Any:
    if not isinstance(result, dict):
        return result
    if "score" not in result:
        raise TypeError(
            f"the dict that it returned has no 'score', but {', '.join(map(str, result))[:80] or 'nothing'}"
        )
    return result["score"]


def _chat(role: str, text: Any) -> list[dict[str, Any]]:
    return [{"role": role, "content": text}]


def _rollout(example: Example, text: Any) -> dict[str, Any]:
    """Return what a verifiers rubric offers of one finished turn; `state` holds the same again."""
    told = {"prompt": _chat("user", example.prompt), "completion": _chat("assistant", text),
            "answer": example.expected_answer, "info": {}}  # fmt: skip
    return {**told, "state": dict(told)}


def _asked_for(found: Callable[..., Any], **offered: Any) -> Any:
    """Call with the named arguments that the function declares, as a verifiers rubric does."""
    parameters = inspect.signature(found).parameters
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return found(**offered)
    return found(**{name: value for name, value in offered.items() if name in parameters})


def _awaited(result: Any) -> Any:
    """Run a coroutine that never really waits; an event loop would open sockets, and a scorer has nothing to wait for."""
    if not inspect.iscoroutine(result):
        return result
    try:
        result.send(None)
    except StopIteration as done:
        return done.value
    result.close()
    raise TypeError("the function waits for something outside itself; a scorer may not")


def _import(path: Path, function: str) -> Callable[..., Any]:
    module = run_file(path)
    found = vars(module).get(function)
    if not callable(found):
        names = ", ".join(name for name, value in vars(module).items() if inspect.isfunction(value))
        raise Unusable(f"{path}: no function '{function}' in this file; it has: {names or 'no functions'}")
    return found  # type: ignore[no-any-return]  # callable, whatever else it is
