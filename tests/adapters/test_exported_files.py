"""Exported scorer files, run as their targets run them, without the target: equal verdicts, and no failure that reads as 0."""

from __future__ import annotations

import ast
import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import exported_cases
import numpy as np
import pytest
from exported_cases import cases, expected, exported, imported

from lockedroom.adapters.export_scorer import export_scorer
from lockedroom.adapters.exported import CouldNotJudge
from lockedroom.adapters.targets import TARGETS
from lockedroom.errors import BadInput, CannotWrite

CRASHING = """
def score(example, completion):
    if "crash" in completion:
        raise RuntimeError("no verdict")
    right = completion == str(example.expected_answer)
    return {"reward": float(right), "details": {"code": "ok" if right else "no"}}
"""


def _trl(module: ModuleType, answers: list[Any], texts: list[Any]) -> list[Any]:
    found: list[Any] = module.reward_func(
        prompts=["?"] * len(texts), completions=texts, completion_ids=[[]] * len(texts), expected_answer=answers
    )
    return found


def _verl(module: ModuleType, answers: list[Any], texts: list[Any]) -> list[Any]:
    return [module.compute_score("math", text, answer)["score"] for answer, text in zip(answers, texts, strict=True)]


def _openrlhf(module: ModuleType, answers: list[Any], texts: list[Any]) -> list[Any]:
    prompts = [f"<s>Question {i}?" for i in range(len(texts))]
    queries = [prompt + text for prompt, text in zip(prompts, texts, strict=True)]
    found = module.reward_func(queries, prompts, answers)
    assert found["rewards"].tolist() == found["scores"].tolist()
    return list(found["rewards"].tolist())


def _trace(text: str) -> Any:
    return SimpleNamespace(assistant_messages=[SimpleNamespace(content="draft"), SimpleNamespace(content=text)])


def _verifiers(module: ModuleType, answers: list[Any], texts: list[Any]) -> list[Any]:
    async def ask() -> list[Any]:
        return [await module.verify_trace(answer, _trace(text)) for answer, text in zip(answers, texts, strict=True)]

    return asyncio.run(ask())


def _classic(module: ModuleType, answers: list[Any], texts: list[Any]) -> list[Any]:
    async def ask() -> list[Any]:
        said = [[{"role": "assistant", "content": text}] for text in texts]
        return [
            await module.verified(completion=messages, answer=answer)
            for answer, messages in zip(answers, said, strict=True)
        ]

    return asyncio.run(ask())


def _lm_eval(module: ModuleType, answers: list[Any], texts: list[Any]) -> list[Any]:
    docs = [{"prompt": "?", "expected_answer": answer} for answer in answers]
    return [module.process_results(doc, [text])["reward"] for doc, text in zip(docs, texts, strict=True)]


ASK: dict[str, tuple[str, Callable[[ModuleType, list[Any], list[Any]], list[Any]]]] = {
    "trl": ("trl", _trl),
    "verl": ("verl", _verl),
    "openrlhf": ("openrlhf", _openrlhf),
    "verifiers": ("verifiers", _verifiers),
    "verifiers classic": ("verifiers", _classic),
    "lm-eval": ("lm-eval", _lm_eval),
}


@pytest.mark.parametrize("name", ASK)
def test_every_target_gives_our_verdict_on_every_golden_and_hostile_text(name: str, tmp_path: Path) -> None:
    to, ask = ASK[name]
    asked = cases(surrogates=True)
    answers = [example.expected_answer for example, _ in asked]
    texts = [text for _, text in asked]

    found = ask(exported(tmp_path, to), answers, texts)

    assert len(asked) > 200
    assert found == expected(asked)


@pytest.fixture
def crashing(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(CRASHING)
    return str(path)


def test_what_trl_cannot_have_judged_is_none(tmp_path: Path, crashing: str) -> None:
    module = exported(tmp_path, "trl", crashing)

    assert _trl(module, [4, 4, 4], ["4", "crash", "5"]) == [1.0, None, 0.0]
    module.SCORER.close()


@pytest.mark.parametrize("name", ["verl", "openrlhf", "verifiers"])
def test_a_target_without_a_word_for_not_judged_gets_an_error_and_never_a_zero(
    name: str, tmp_path: Path, crashing: str
) -> None:
    to, ask = ASK[name]
    module = exported(tmp_path, to, crashing)

    with pytest.raises(CouldNotJudge, match=r"scorer_raised.*no verdict"):
        ask(module, [4], ["crash"])
    assert ask(module, [4], ["4"]) == [1.0]
    module.SCORER.close()


@pytest.mark.parametrize("name", ["verifiers classic", "lm-eval"])
def test_where_an_error_would_become_zero_not_judged_is_nan(name: str, tmp_path: Path, crashing: str) -> None:
    to, ask = ASK[name]
    module = exported(tmp_path, to, crashing)

    assert math.isnan(ask(module, [4], ["crash"])[0])
    module.SCORER.close()


def test_the_harness_mean_leaves_out_what_was_not_judged_and_says_how_much_that_was(
    tmp_path: Path, crashing: str
) -> None:
    module = exported(tmp_path, "lm-eval", crashing)

    rows = [module.process_results({"prompt": "?", "expected_answer": 4}, [text]) for text in ("4", "crash", "5")]

    assert module.mean_over_judged([row["reward"] for row in rows]) == 0.5
    assert [row["reward_failures_as_zero"] for row in rows] == [1.0, 0.0, 0.0]
    assert [row["could_not_judge"] for row in rows] == [0.0, 1.0, 0.0]
    assert math.isnan(module.mean_over_judged([math.nan]))
    module.SCORER.close()


@pytest.mark.parametrize("answer", ["forty-two", 4.2, None, "042", True])
def test_an_answer_that_the_scorer_cannot_judge_is_not_a_wrong_completion(answer: Any, tmp_path: Path) -> None:
    assert _trl(exported(tmp_path, "trl"), [answer, 42], ["Final: 42", "Final: 42"]) == [None, 1.0]


def test_answers_may_be_numpy_values(tmp_path: Path) -> None:
    assert _verl(exported(tmp_path, "verl"), [np.int64(42)], ["Final: 42"]) == [1.0]


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        ([{"role": "assistant", "content": "Final: 42"}], 1.0),
        ([{"role": "assistant", "content": [{"type": "text", "text": "Final: 42"}]}], 1.0),
        ([{"role": "assistant", "content": "Final: 1"}, {"role": "assistant", "content": "Final: 42"}], 1.0),
        ([{"role": "assistant", "content": "Final: 42"}, {"role": "tool", "content": "Final: 1"}], 1.0),
        ([{"role": "assistant", "content": None}], None),
        ([{"role": "user", "content": "Final: 42"}], None),
        ([{"role": "assistant", "content": [{"type": "image", "url": "x"}]}], None),
        ([], None),
        (None, None),
        (42, None),
    ],
)
def test_of_messages_the_last_of_the_assistant_is_judged(completion: Any, reward: float | None, tmp_path: Path) -> None:
    assert _trl(exported(tmp_path, "trl"), [42], [completion]) == [reward]


def test_openrlhf_loses_one_end_token_and_no_more(tmp_path: Path) -> None:
    module = exported(tmp_path, "openrlhf", end_tokens=["</s>", "<|im_end|>"])

    texts = ["Final: 42</s>", "Final: 42<|im_end|>", "Final: 42</s></s>", "Final: 42", "Final: 42</s> "]

    assert _openrlhf(module, [42] * 5, texts) == [1.0, 1.0, 0.0, 1.0, 0.0]


def test_a_query_that_does_not_begin_with_its_prompt_is_not_judged(tmp_path: Path) -> None:
    module = exported(tmp_path, "openrlhf")

    with pytest.raises(CouldNotJudge, match="missing_completion"):
        module.reward_func(["other Final: 42"], ["prompt"], ["42"])


def test_a_changed_scorer_is_refused_when_the_file_is_imported(tmp_path: Path, crashing: str) -> None:
    out = tmp_path / "reward.py"
    export_scorer(crashing, "trl", out)
    Path(crashing).write_text(CRASHING.replace("float(right)", "1.0"))

    with pytest.raises(BadInput, match=r"not the scorer that was exported.*source_sha256"):
        imported(out)


def test_a_scorer_with_the_same_source_and_other_verdicts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rule.py").write_text("PAID = '4'\n")
    scorer = tmp_path / "mine.py"
    scorer.write_text("import rule\n" + CRASHING.replace("str(example.expected_answer)", "'Final: 42'"))
    out = tmp_path / "reward.py"
    scorer.write_text(scorer.read_text().replace("'Final: 42'", "rule.PAID"))
    export_scorer(str(scorer), "trl", out)
    (tmp_path / "rule.py").write_text("PAID = 'Final: 42'\n")

    with pytest.raises(BadInput, match="fingerprint"):
        imported(out)


def test_an_exported_persons_scorer_works_from_another_folder(
    tmp_path: Path, crashing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = exported(tmp_path, "verl", "mine.py:score")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert _verl(module, [4], ["4"]) == [1.0]
    module.SCORER.close()


def test_threads_share_one_scorer_and_every_row_keeps_its_own_verdict(tmp_path: Path, crashing: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    module = exported(tmp_path, "verl", crashing)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: module.compute_score("x", str(i % 3), 1)["score"], range(60)))

    assert found == [float(i % 3 == 1) for i in range(60)]
    module.SCORER.close()


@pytest.mark.parametrize("to", TARGETS)
def test_every_file_is_python_that_says_how_to_use_it(to: str, tmp_path: Path) -> None:
    out = tmp_path / "reward.py"

    written = export_scorer("final-int", to, out)

    tree = ast.parse(out.read_text("utf-8"))
    assert "final-int (version 1)" in (ast.get_docstring(tree) or "")
    assert "$" not in out.read_text("utf-8")
    assert [path.suffix for path in written] == ([".py", ".yaml"] if to == "lm-eval" else [".py"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"to": "nonsense"}, "unknown target"),
        ({"scorer": "nonsense"}, "unknown scorer"),
        ({"scorer": "missing.py"}, "no such file"),
        ({"out": "my-reward.py"}, "like a Python module"),
        ({"out": "reward.txt"}, "like a Python module"),
        ({"end_tokens": ["</s>"]}, "--end-token"),
        ({"to": "openrlhf", "end_tokens": [""]}, "is empty"),
    ],
)
def test_what_cannot_be_exported_is_one_message(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"scorer": "final-int", "to": "trl", "out": "reward.py", **change}
    asked["out"] = tmp_path / asked["out"]

    with pytest.raises(BadInput, match=says):
        export_scorer(asked.pop("scorer"), asked.pop("to"), asked.pop("out"), **asked)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(CannotWrite, match="cannot be written"):
        export_scorer("final-int", "trl", tmp_path / "file" / "sub" / "reward.py")


def test_an_existing_file_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "reward.yaml").write_text("mine")

    with pytest.raises(BadInput, match="exists already"):
        export_scorer("final-int", "lm-eval", tmp_path / "reward.py")
    assert not (tmp_path / "reward.py").exists()


def test_the_page_holds_the_table_of_what_each_target_cannot_express() -> None:
    from lockedroom.adapters.targets import limits_table

    page = Path(exported_cases.__file__).parents[2] / "docs" / "adapters.md"
    assert limits_table() in page.read_text("utf-8")


def test_a_batch_of_nothing_and_arrays_of_any_kind_are_read(tmp_path: Path) -> None:
    module = imported(export_scorer("final-int", "trl", tmp_path / "arrays.py")[0])
    shares: list[float] = []
    messages = np.array([{"role": "assistant", "content": "Final: 4"}], dtype=object)

    class Tensor:
        """What a tensor of one number has in common with one of torch's."""

        def tolist(self) -> int:
            return 4

    assert module.reward_func([], [], expected_answer=[], log_metric=lambda _, share: shares.append(share)) == []
    assert module.reward_func(["?"] * 2, [messages, "Final: 4"], expected_answer=[Tensor(), np.int64(5)]) == [1.0, 0.0]
    assert shares == []


def test_answers_that_are_not_as_many_as_completions_are_refused(tmp_path: Path) -> None:
    module = imported(export_scorer("final-int", "trl", tmp_path / "ragged.py")[0])
    with pytest.raises(BadInput, match="2 completions came with 1 expected answer"):
        module.reward_func(["?"] * 2, ["Final: 4"] * 2, expected_answer=[4])


def test_where_branches_hang_on_a_trace_its_root_agent_is_judged_as_it_wrote(tmp_path: Path) -> None:
    module = exported(tmp_path, "verifiers")
    said = [SimpleNamespace(content="Final: 4\n"), SimpleNamespace(content="Final: 5")]
    root = SimpleNamespace(assistant_messages=said, root_reply="Final: 4")
    elsewhere = SimpleNamespace(assistant_messages=said, root_reply="Final: 6")

    assert asyncio.run(module.verify_trace(4, root)) == 1.0
    assert asyncio.run(module.verify_trace(6, elsewhere)) == 1.0
