"""Scorers that the audit has to tell apart: a correct one, a naive one, and one with the usual laxness of Python."""

from __future__ import annotations

import re
from typing import Any


def correct(example: Any, completion: str) -> Any:
    found = re.fullmatch(r"Final: (0|-?[1-9][0-9]*)\n?", completion)
    right = found is not None and found[1] == str(example.expected_answer)
    return {"reward": float(right), "details": {}}


def naive(example: Any, completion: str) -> Any:
    return {"reward": float(str(example.expected_answer) in completion), "details": {}}


def buggy(example: Any, completion: str) -> Any:
    lines = completion.strip().splitlines()
    if not lines or not lines[0].startswith("Final: "):
        return {"reward": 0, "details": {}}
    text = lines[0][len("Final: ") :].strip()
    if not text.lstrip("-").isdigit():
        return {"reward": 0, "details": {}}
    return {"reward": float(int(text) == int(example.expected_answer)), "details": {}}


def slow(example: Any, completion: str) -> Any:
    import time

    time.sleep(0.05)
    return correct(example, completion)


def trl_reward(prompts: Any, completions: Any, answer: Any, **kwargs: Any) -> list[float]:
    return [float(text == f"Final: {one}") for text, one in zip(completions, answer, strict=True)]


def chat_reward(completions: Any, target: Any, **kwargs: Any) -> list[float]:
    return [float(chat[-1]["content"] == f"Final: {one}") for chat, one in zip(completions, target, strict=True)]


def compute_score(data_source: str, solution_str: str, ground_truth: Any, extra_info: Any = None) -> dict[str, float]:
    return {"score": float(data_source == "sums" and solution_str == f"Final: {ground_truth}")}


async def exact(completion: Any, answer: Any) -> float:
    return float(completion[0]["content"] == f"Final: {answer}")


def pair(completion: str, answer: Any) -> float:
    return float(completion == f"Final: {answer}")


def number(example: Any, completion: str) -> float:
    return pair(completion, example.expected_answer)


def none_at_all(completion: str, answer: Any) -> None:
    return None


def graded(example: Any, completion: str) -> Any:
    """A tenth for the form alone, less for length alone."""
    found = correct(example, completion)
    if found["reward"]:
        return found
    form = re.fullmatch(r"Final: (0|-?[1-9][0-9]*)\n?", completion) is not None
    return {"reward": 0.1 if form else min(len(completion), 50) / 1000, "details": {}}
