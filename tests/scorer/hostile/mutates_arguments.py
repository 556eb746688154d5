"""Changes what it was given."""

from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        example.metadata.clear()
        example.expected_answer.append("changed")
    return {"reward": 1.0, "details": {"parsed": repr((example.expected_answer, example.metadata))}}
