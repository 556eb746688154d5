"""Reward functions in the shapes that trainers' users write; each pays `Final: ANSWER` and nothing else, unless it says so."""

from __future__ import annotations

from typing import Any

import numpy as np


def trl_accuracy(completions: list[list[dict[str, str]]], solution: list[Any], **kwargs: Any) -> list[float | None]:
    contents = [completion[0]["content"] for completion in completions]
    assert kwargs["prompts"][0][0]["role"] == "user"
    return [1.0 if content == f"Final: {gold}" else 0.0 for content, gold in zip(contents, solution, strict=True)]


def trl_keyword_only(*, prompts: list[str], completions: list[str], solution: list[Any]) -> list[float]:
    return [float(text == f"Final: {gold}") for _, text, gold in zip(prompts, completions, solution, strict=True)]


def trl_array(completions: list[str], solution: list[Any], **kwargs: Any) -> Any:
    return np.array(
        [text == f"Final: {gold}" for text, gold in zip(completions, solution, strict=True)], dtype=np.float32
    )


async def trl_async(completions: list[str], solution: list[Any], **kwargs: Any) -> list[float]:
    return [float(text == f"Final: {gold}") for text, gold in zip(completions, solution, strict=True)]


def trl_does_not_apply(completions: list[str], solution: list[Any], **kwargs: Any) -> list[float | None]:
    """TRL takes None as: this function does not apply to the sample."""
    return [None for _ in zip(completions, solution, strict=True)]


def trl_one_number(completions: list[str], solution: list[Any], **kwargs: Any) -> float:
    return 1.0


def verl_dict(data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any] | None = None) -> Any:
    right = solution_str == f"Final: {ground_truth}"
    return {"score": np.float32(right), "acc": right, "pred": solution_str[:10]}


def verl_kwargs(data_source: str, *, solution_str: str, ground_truth: str, **kwargs: Any) -> int:
    return int(data_source == "openai/gsm8k" and solution_str == f"Final: {ground_truth}")


def verl_without_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None
) -> dict[str, bool]:
    return {"acc": True}


def verl_none(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None) -> dict[str, None]:
    return {"score": None}


async def verifiers_state(completion: list[dict[str, str]], *, state: dict[str, Any]) -> float:
    return float(completion[-1]["content"] == f"Final: {state['answer']}")


async def verifiers_all(**kwargs: Any) -> float:
    assert kwargs["prompt"][-1]["role"] == "user"
    return float(kwargs["completion"][-1]["content"] == f"Final: {kwargs['answer']}")


def verifiers_parser(parser: Any, completion: Any, answer: Any) -> float:
    return float(parser.parse_answer(completion) == answer)


def verifiers_none(completion: Any, answer: Any) -> None:
    return None
