"""Logs of other projects, as they write them, as examples and completions of ours. The real writers run in conformance/."""

from __future__ import annotations

import gzip
import json
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from lockedroom import EvaluateConfig, evaluate
from lockedroom.adapters.importing import READERS, import_log
from lockedroom.cli.main import main
from lockedroom.errors import BadInput
from lockedroom.jsonl import read_batches
from lockedroom.records import Example, Failure, FinishReason, Record, Score


def _lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def _records(folder: Path) -> list[Record]:
    return [row for batch in read_batches(folder / "completions.jsonl", Record) for row in batch.rows]


def _examples(folder: Path) -> list[Example]:
    return [row for batch in read_batches(folder / "examples.jsonl", Example) for row in batch.rows]


def _evaluated(folder: Path) -> Any:
    config = EvaluateConfig(dataset=str(folder / "examples.jsonl"), completions=str(folder / "completions.jsonl"))
    return evaluate(config, folder / "run")


def _lm_eval(number: int, said: list[str], **more: Any) -> dict[str, Any]:
    return {
        "doc_id": number,
        "doc": {"question": f"{number}+1?", "gold": str(number + 1)},
        "target": f" {number + 1}",
        "arguments": {"gen_args_0": {"arg_0": f"{number}+1?", "arg_1": {"until": ["\n"], "do_sample": False}}},
        "resps": [said],
        "filtered_resps": said[:1],
        "filter": "none",
        "metrics": ["exact_match"],
        "doc_hash": "x",
        "prompt_hash": "y",
        "target_hash": "z",
        "exact_match": 1.0,
        **more,
    }


def test_samples_of_the_harness_become_a_run_that_can_be_judged_again(tmp_path: Path) -> None:
    log = _lines(tmp_path / "samples_t.jsonl", [_lm_eval(i, [f"Final: {i + 1}", "no"]) for i in range(3)])

    done = import_log(log, "lm-eval", tmp_path / "in", answer_field="gold")

    assert (done.examples, done.attempts) == (3, 6)
    assert (done.theirs, done.without_score) == (None, 6)  # one score of a document is not one of each generation
    assert _examples(tmp_path / "in")[1] == Example(id="doc-1", prompt="1+1?", expected_answer="2")
    summary = _evaluated(tmp_path / "in").summary
    assert (summary.draws, summary.pass_rate.value) == (2, 0.5)
    assert 'stop = [\n    "\\n",\n]' in (tmp_path / "in/completions.meta.toml").read_text()


def test_a_target_is_never_repaired(tmp_path: Path) -> None:
    log = _lines(tmp_path / "samples_t.jsonl", [_lm_eval(0, ["Final: 1"])])
    import_log(log, "lm-eval", tmp_path / "in")

    with pytest.raises(BadInput, match="cannot judge"):
        _evaluated(tmp_path / "in")


def test_a_document_that_stands_once_for_each_filter_is_taken_once(tmp_path: Path) -> None:
    rows = [_lm_eval(i, ["Final: 1"], filter=name) for name in ("strict", "flexible") for i in range(2)]

    done = import_log(_lines(tmp_path / "s.jsonl", rows), "lm-eval", tmp_path / "in")

    assert done.attempts == 2
    assert done.score == "exact_match after the filter strict"
    assert done.notes == ["filters left out: flexible (--score METRIC,FILTER)"]


def test_another_metric_after_another_filter_can_be_asked_for(tmp_path: Path) -> None:
    rows = [
        _lm_eval(0, ["Final: 1"], filter=name, metrics=["exact_match", "near"], near=near, exact_match=0.0)
        for name, near in (("strict", 0.25), ("flexible", 0.5))
    ]
    log = _lines(tmp_path / "s.jsonl", rows)

    done = import_log(log, "lm-eval", tmp_path / "in", score="near,flexible")

    assert (done.theirs, done.score) == (0.5, "near after the filter flexible")
    assert done.notes == [
        "scores left out: exact_match (--score NAME takes another)",
        "filters left out: strict (--score METRIC,FILTER)",
    ]
    assert import_log(log, "lm-eval", tmp_path / "first", score="near").theirs == 0.25
    with pytest.raises(BadInput, match="no such filter; it has: strict, flexible"):
        import_log(log, "lm-eval", tmp_path / "no", score="near,lenient")
    with pytest.raises(BadInput, match="no such score; it has: exact_match, near"):
        import_log(log, "lm-eval", tmp_path / "no", score="far")


def test_a_chat_that_the_harness_sent_is_a_prompt(tmp_path: Path, dataset: Path) -> None:
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "0+1?"}]
    row = _lm_eval(0, ["Final: 1"])
    row["arguments"]["gen_args_0"]["arg_0"] = [json.dumps(asked)]  # as with --apply_chat_template and a server
    log = _lines(tmp_path / "s.jsonl", [row])

    import_log(log, "lm-eval", tmp_path / "in")
    import_log(log, "lm-eval", tmp_path / "found", dataset=dataset)

    assert json.loads(_examples(tmp_path / "in")[0].prompt) == asked
    assert [record.id for record in _records(tmp_path / "found")] == ["Task/0"]


@pytest.mark.parametrize("rest", [{}, {"arg_1": " yes"}])
def test_log_likelihoods_are_refused_in_one_clear_line(rest: dict[str, str], tmp_path: Path) -> None:
    row = _lm_eval(0, ["x"], resps=[[[-1.5, False]]])
    row["arguments"] = {"gen_args_0": {"arg_0": "0+1?", **rest}}

    with pytest.raises(BadInput, match="not a generate_until task: log-likelihoods are no completions"):
        import_log(_lines(tmp_path / "s.jsonl", [row]), "lm-eval", tmp_path / "in")


def test_several_requests_of_one_document_are_not_cut_down_to_the_first(tmp_path: Path) -> None:
    log = _lines(tmp_path / "s.jsonl", [_lm_eval(0, [], resps=[["a"], ["b"]])])

    with pytest.raises(BadInput, match="2 requests of one document"):
        import_log(log, "lm-eval", tmp_path / "in")


def test_a_null_where_a_completion_belongs_stays_an_attempt(tmp_path: Path, dataset: Path) -> None:
    harness = _lines(tmp_path / "s.jsonl", [{**_lm_eval(0, []), "resps": [[None]]}, _lm_eval(1, ["Final: 2"])])
    people = _lines(tmp_path / "h.jsonl", [{"task_id": "Task/0", "completion": None, "passed": False}])

    done = import_log(harness, "lm-eval", tmp_path / "in")
    other = import_log(people, "human-eval", tmp_path / "other", dataset=dataset)

    assert (done.attempts, done.without_completion, done.theirs) == (2, 1, 1.0)
    assert (other.attempts, other.without_completion, other.theirs) == (1, 1, None)


def test_what_the_results_beside_the_samples_say_of_the_model_is_declared(tmp_path: Path) -> None:
    (tmp_path / "results_2026-01-02T03-04-05.678.json").write_text(
        json.dumps({"model_name": "tiny", "lm_eval_version": "0.4.13", "config": {"model_args": {"a": 1}}})
    )
    log = _lines(tmp_path / "samples_t_2026-01-02T03-04-05.678.jsonl", [_lm_eval(0, ["Final: 1"])])

    import_log(log, "lm-eval", tmp_path / "in", answer_field="gold")

    manifest = _evaluated(tmp_path / "in").manifest
    assert manifest.policy.name == "tiny"
    assert manifest.room.sampling["temperature"] == 0.0
    assert manifest.room.sampling["top_k"] == "undeclared"


def _episode(name: str, text: str | None, reward: float | None, **trace: Any) -> dict[str, Any]:
    data = {"id": name, "prompt": [{"role": "user", "content": f"{name}?"}], "answer": 4}
    nodes: list[dict[str, Any]] = [{"message": {"role": "user", "content": f"{name}?"}}]
    if text is not None:
        nodes.append({"parent": 0, "sampled": True, "message": {"role": "assistant", "content": text}})
    rewards = {} if reward is None else {"a": {"score": reward, "weight": 0.5}, "b": {"score": reward, "weight": 0.5}}
    body = {"task": {"type": "T", "data": data}, "nodes": nodes, "rewards": rewards, "errors": [], "calls": [], **trace}
    return {"task": body["task"], "traces": [body]}


def test_traces_keep_white_space_failures_and_rewards_that_did_not_run(tmp_path: Path) -> None:
    calls = [{"model": "m", "finish_reason": "length", "sampling": {"temperature": 0.7, "max_tokens": 5}}]
    rows = [
        _episode("a", " Final: 4 ", 1.0, calls=calls),
        _episode("b", None, None, errors=[{"type": "ProviderError", "message": "503"}]),
        _episode("c", "Final: 4", None),
    ]

    done = import_log(_lines(tmp_path / "traces.jsonl", rows), "verifiers", tmp_path / "in")

    first, second, third = _records(tmp_path / "in")
    assert first.completion is not None
    assert (first.completion.text, first.completion.finish_reason) == (" Final: 4 ", FinishReason.LENGTH)
    assert isinstance(first.result, Score)
    assert second.completion is None
    assert isinstance(second.result, Failure)
    assert "503" in second.result.message
    assert isinstance(third.result, Failure)
    assert (done.theirs, done.without_completion, done.without_score) == (1.0, 1, 1)
    assert _examples(tmp_path / "in")[0].prompt == "a?"
    assert _evaluated(tmp_path / "in").manifest.room.sampling["temperature"] == 0.7


def test_a_trace_that_broke_after_the_reply_has_no_score_whatever_reward_it_carries(tmp_path: Path) -> None:
    rows = [_episode("a", "Final: 4", 0.0, errors=[{"message": "the judge crashed"}]), _episode("b", "Final: 4", 1.0)]

    done = import_log(_lines(tmp_path / "traces.jsonl", rows), "verifiers", tmp_path / "in")

    assert (done.theirs, done.without_score) == (1.0, 1)


def test_a_reply_in_parts_is_read(tmp_path: Path) -> None:
    row = _episode("a", "", 1.0)
    row["traces"][0]["nodes"][1]["message"]["content"] = [
        {"type": "text", "text": "Final: "},
        {"type": "text", "text": "4"},
    ]

    import_log(_lines(tmp_path / "traces.jsonl", [row]), "verifiers", tmp_path / "in")

    (record,) = _records(tmp_path / "in")
    assert record.completion is not None
    assert record.completion.text == "Final: 4"


def _call(model: str = "m", **sampling: Any) -> dict[str, Any]:
    return {"model": model, "finish_reason": "stop", "sampling": sampling}


def _meta(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "completions.meta.toml").read_text("utf-8"))


def test_of_a_trace_with_tools_the_last_message_of_the_model_is_the_completion(tmp_path: Path) -> None:
    row = _episode("a", None, 1.0, calls=[_call()])
    row["traces"][0]["nodes"] += [
        {
            "parent": 0,
            "sampled": True,
            "message": {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]},
        },
        {"parent": 1, "message": {"role": "tool", "content": "4", "tool_call_id": "c"}},
        {"parent": 2, "sampled": True, "message": {"role": "assistant", "content": "Final: 4"}},
        {"parent": 3, "message": {"role": "assistant", "content": "Final: 5, said nobody"}},
    ]

    import_log(_lines(tmp_path / "traces.jsonl", [row]), "verifiers", tmp_path / "in")

    (record,) = _records(tmp_path / "in")
    assert record.completion is not None
    assert record.completion.text == "Final: 4"


def test_a_trace_that_ends_in_a_tool_call_has_no_completion(tmp_path: Path) -> None:
    row = _episode("a", "Let me look.", 0.0)
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}
    row["traces"][0]["nodes"].append({"parent": 1, "sampled": True, "message": call})

    done = import_log(_lines(tmp_path / "traces.jsonl", [row]), "verifiers", tmp_path / "in")

    assert (done.attempts, done.without_completion) == (1, 1)


@pytest.mark.parametrize(
    ("root", "text"), [("Final: 4", "Final: 4\n"), ("Final: 7", "Final: 7"), (None, "I searched.")]
)
def test_the_root_agent_of_a_trace_is_the_one_that_answered(root: str | None, text: str, tmp_path: Path) -> None:
    row = _episode("a", "Final: 4\n", 1.0, root_reply=root)
    branch = {"parent": None, "sampled": True, "message": {"role": "assistant", "content": "I searched."}}
    row["traces"][0]["nodes"].append(branch)

    import_log(_lines(tmp_path / "traces.jsonl", [row]), "verifiers", tmp_path / "in")

    (record,) = _records(tmp_path / "in")
    assert record.completion is not None
    assert record.completion.text == text


def test_a_system_prompt_is_part_of_what_was_asked_and_the_question_still_finds_its_example(tmp_path: Path) -> None:
    row = _episode("a", "Final: 4", 1.0)
    row["traces"][0]["task"]["data"] = {"prompt": "2+2?", "system_prompt": "Be brief.", "answer": 4, "idx": 0}
    log = _lines(tmp_path / "traces.jsonl", [row])
    mine = _lines(tmp_path / "mine.jsonl", [{"id": "mine", "prompt": "2+2?", "expected_answer": 4}])

    import_log(log, "verifiers", tmp_path / "in")
    import_log(log, "verifiers", tmp_path / "found", dataset=mine)

    (example,) = _examples(tmp_path / "in")
    assert example.id == "0"
    assert json.loads(example.prompt) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2+2?"},
    ]
    assert [record.id for record in _records(tmp_path / "found")] == ["mine"]


def test_a_conversation_that_was_answered_once_is_not_found_by_its_last_question(tmp_path: Path, dataset: Path) -> None:
    asked = [
        {"role": "user", "content": "9?"},
        {"role": "assistant", "content": "8"},
        {"role": "user", "content": "0+1?"},
    ]
    log = _lines(tmp_path / "results.jsonl", [{**_result(7, "Final: 1", 1.0), "prompt": asked}])

    with pytest.raises(BadInput, match="no example has its prompt"):
        import_log(log, "verifiers", tmp_path / "in", dataset=dataset)


def test_a_task_without_an_id_is_named_by_its_key(tmp_path: Path) -> None:
    row = _episode("a", "Final: 4", 1.0)
    row["traces"][0]["task"] = {"type": "T", "data": {"prompt": "2+2?", "answer": 4}, "key": "k1"}

    import_log(_lines(tmp_path / "traces.jsonl", [row]), "verifiers", tmp_path / "in")

    assert [example.id for example in _examples(tmp_path / "in")] == ["k1"]


def _with_a_judge() -> dict[str, Any]:
    row = _episode("a", "Final: 4", 1.0, agent={"name": "solver"})
    judge = _episode("a", "It is right.", None, agent={"name": "judge"})["traces"][0]
    judge["task"] = {"type": "Judge", "data": {"idx": 0, "prompt": "Is it right?"}}
    return {**row, "traces": [*row["traces"], judge]}


def test_of_several_agents_one_has_to_be_named_and_the_others_are_counted(tmp_path: Path) -> None:
    log = _lines(tmp_path / "traces.jsonl", [_with_a_judge()])

    with pytest.raises(BadInput, match="several agents; name one with --agent: solver, judge"):
        import_log(log, "verifiers", tmp_path / "in")
    with pytest.raises(BadInput, match="no such agent; it has: solver, judge"):
        import_log(log, "verifiers", tmp_path / "in", agent="solve")
    done = import_log(log, "verifiers", tmp_path / "in", agent="solver")

    assert (done.attempts, done.theirs) == (1, 1.0)
    assert done.notes == ["traces left out: 1 of judge"]


def test_one_reward_of_several_can_be_taken_by_its_name(tmp_path: Path) -> None:
    rewards = {"right": {"score": 1.0, "weight": 0.7}, "short": {"score": 0.0, "weight": 0.3}, "late": None}
    log = _lines(tmp_path / "traces.jsonl", [_episode("a", "Final: 4", None, rewards=rewards)])

    assert import_log(log, "verifiers", tmp_path / "sum").without_score == 1  # one part of the sum did not run
    done = import_log(log, "verifiers", tmp_path / "one", score="right")
    assert (done.theirs, done.score) == (1.0, "right")
    with pytest.raises(BadInput, match="--score 'rihgt': no attempt of the log has a number of this name"):
        import_log(log, "verifiers", tmp_path / "none", score="rihgt")


@pytest.mark.parametrize(
    ("calls", "declared"),
    [
        ([[_call(temperature=0.5)], [_call(temperature=0.5)]], {"temperature": 0.5}),
        ([[_call(temperature=0.5)], [_call(temperature=0.7)]], {}),
        ([[_call()], [_call(temperature=0.5)]], {}),  # a call that says nothing was not drawn at 0.5
        ([[{"model": "m"}], [_call(temperature=0.5)]], {}),
    ],
)
def test_sampling_is_declared_only_where_every_call_says_the_same(
    calls: list[Any], declared: dict[str, Any], tmp_path: Path
) -> None:
    rows = [_episode(name, "Final: 4", 1.0, calls=part) for name, part in zip("ab", calls, strict=True)]

    import_log(_lines(tmp_path / "traces.jsonl", rows), "verifiers", tmp_path / "in")

    assert _meta(tmp_path / "in") == {"policy": {"model": "m"}, "sampling": declared}


def test_a_trace_without_calls_declares_the_model_of_its_agent(tmp_path: Path) -> None:
    row = _episode("a", "Final: 4", 1.0, agent={"name": "agent", "config": {"model": "tiny"}})

    import_log(_lines(tmp_path / "traces.jsonl", [row]), "verifiers", tmp_path / "in")

    assert _meta(tmp_path / "in")["policy"] == {"model": "tiny"}


def _result(name: int, text: str | None, reward: Any, **more: Any) -> dict[str, Any]:
    said = None if text is None else [{"role": "assistant", "content": text}]
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
    return {"example_id": name, "prompt": asked, "completion": said, "answer": "4", "reward": reward, **more}


def test_classic_results_that_broke_are_failures_whatever_reward_they_carry(tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text(json.dumps({"model": "m", "sampling_args": {"temperature": 1.0}}))
    rows = [
        _result(0, "Final: 4", 1.0, is_truncated=False),
        _result(0, "Final: 5", 0.0, is_truncated=True),
        _result(1, None, 0.0, error={"error": "timeout"}),
        _result(1, "Final: 4", 0.0, error={"error": "tool"}),
    ]

    done = import_log(_lines(tmp_path / "results.jsonl", rows), "verifiers", tmp_path / "in")

    assert (done.examples, done.attempts, done.theirs) == (2, 4, 0.5)
    assert (done.without_completion, done.without_score) == (1, 1)
    assert _evaluated(tmp_path / "in").summary.failed == 1


def test_results_of_0_1_5_are_named_by_their_prompts_because_their_ids_count_lines(tmp_path: Path) -> None:
    rows = []
    for number, question in enumerate(("1+1?", "2+2?", "1+1?", "2+2?")):  # two rollouts of two examples
        row = _result(0, "Final: 4", 1.0)
        del row["example_id"]
        rows.append({**row, "id": number // 2, "prompt": question, "answer": str(2 * int(question[0])), "short": 0.5})

    done = import_log(_lines(tmp_path / "results.jsonl", rows), "verifiers", tmp_path / "in", score="short")

    assert (done.examples, done.attempts, done.theirs) == (2, 4, 0.5)
    assert [example.prompt for example in _examples(tmp_path / "in")] == ["1+1?", "2+2?"]


def test_the_error_of_a_rollout_is_told_in_its_own_words(tmp_path: Path) -> None:
    error = {"error": "ModelError", "error_chain_repr": "ModelError() -> X(1)", "error_chain_str": "ModelError -> X"}

    import_log(_lines(tmp_path / "results.jsonl", [_result(0, None, 0.0, error=error)]), "verifiers", tmp_path / "in")

    (record,) = _records(tmp_path / "in")
    assert isinstance(record.result, Failure)
    assert record.result.message == "the log holds no completion: ModelError -> X"


def test_one_metric_of_a_rubric_can_be_taken_by_its_name(tmp_path: Path) -> None:
    row = _result(0, "Final: 4", 1.5, metrics={"right": 1.0, "short": 0.5}, right=1.0, short=0.5)

    done = import_log(_lines(tmp_path / "results.jsonl", [row]), "verifiers", tmp_path / "in", score="right")

    assert (done.theirs, done.score) == (1.0, "right")


def test_two_versions_in_one_file_or_folder_are_refused(tmp_path: Path) -> None:
    mixed = _lines(tmp_path / "traces.jsonl", [_episode("a", "Final: 4", 1.0), _result(0, "Final: 4", 1.0)])

    with pytest.raises(BadInput, match=r"traces.jsonl:2: a line of another version"):
        import_log(mixed, "verifiers", tmp_path / "in")
    _lines(tmp_path / "results.jsonl", [_result(0, "Final: 4", 1.0)])
    with pytest.raises(BadInput, match="name one of the two files"):
        import_log(tmp_path, "verifiers", tmp_path / "in")


def test_a_nan_reward_is_no_score_and_not_a_broken_line(tmp_path: Path) -> None:
    rows = [_result(0, "Final: 4", float("nan")), _result(1, "Final: 4", 1.0)]

    done = import_log(_lines(tmp_path / "results.jsonl", rows), "verifiers", tmp_path / "in")

    assert (done.without_score, done.theirs) == (1, 1.0)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    rows = [{"id": f"Task/{i}", "prompt": f"{i}+1?", "expected_answer": i + 1} for i in range(3)]
    return _lines(tmp_path / "data.jsonl", rows)


def test_human_eval_lines_are_found_in_the_data_set_by_id_and_what_is_missing_stays_missing(
    tmp_path: Path, dataset: Path
) -> None:
    rows = [
        {"task_id": "Task/2", "completion": "Final: 3", "passed": True, "result": "passed"},
        {"task_id": "Task/0", "completion": "no", "passed": False, "result": "failed"},
        {"task_id": "Task/2", "completion": "Final: 9", "passed": False, "result": "failed"},
    ]

    done = import_log(_lines(tmp_path / "h.jsonl", rows), "human-eval", tmp_path / "in", dataset=dataset)

    assert (done.examples, done.attempts) == (3, 3)
    assert done.theirs == pytest.approx(1 / 3)
    assert [(row.id, row.draw) for row in _records(tmp_path / "in")] == [("Task/0", 0), ("Task/2", 0), ("Task/2", 1)]
    summary = _evaluated(tmp_path / "in").summary
    assert (summary.attempts, summary.failed) == (6, 3)


def test_a_table_of_trl_gives_an_example_for_every_step(tmp_path: Path) -> None:
    (tmp_path / "completions").mkdir()
    for step in (1, 2):
        table = {
            "step": [step] * 4,
            "prompt": ["0+1?"] * 2 + ["1+1?"] * 2,
            "completion": ["Final: 1", "Final: 2", "Final: 2", "2"],
            "reward_func": [1.0, 0.0, 1.0, None],
            "expected_answer": ["1", "1", "2", "2"],
            "advantage": [0.5, -0.5, 0.5, -0.5],
        }
        pq.write_table(pa.table(table), tmp_path / "completions" / f"completions_{step:05d}.parquet")

    done = import_log(tmp_path / "completions", "trl", tmp_path / "in")

    assert (done.examples, done.attempts, done.without_score) == (4, 8, 2)
    assert [example.id[:12] for example in _examples(tmp_path / "in")] == ["step-000001/"] * 2 + ["step-000002/"] * 2
    assert _evaluated(tmp_path / "in").summary.pass_rate.value == 0.5


def test_tables_with_different_reward_columns_name_them_all(tmp_path: Path) -> None:
    for number, column in enumerate(("first", "second")):
        table = {"step": [number], "prompt": ["p"], "completion": ["Final: 4"], column: [1.0], "expected_answer": ["4"]}
        pq.write_table(pa.table(table), tmp_path / f"completions_{number}.parquet")

    assert import_log(tmp_path, "trl", tmp_path / "in").score == "first, second"


def test_a_table_without_answers_finds_its_examples_by_prompt(tmp_path: Path, dataset: Path) -> None:
    said = [[{"role": "assistant", "content": "Final: 1"}]]
    table = {"step": [7], "prompt": [[{"role": "user", "content": "0+1?"}]], "completion": said, "r": [1.0]}
    pq.write_table(pa.table(table), tmp_path / "c.parquet")

    import_log(tmp_path / "c.parquet", "trl", tmp_path / "in", dataset=dataset)

    (example,) = _examples(tmp_path / "in")
    assert (example.id, example.expected_answer) == ("step-000007/Task/0", 1)


def _trl_table(**columns: list[Any]) -> pa.Table:
    rows = len(next(iter(columns.values()), [0, 0]))
    given = {"step": [1] * rows, "prompt": ["0+1?"] * rows, "completion": ["Final: 1"] * rows}
    return pa.table({**given, **columns})


def test_a_column_that_a_reward_function_logged_beside_its_reward_is_not_taken_for_it_in_some_rows(
    tmp_path: Path,
) -> None:
    table = _trl_table(mine=[1.0, 0.5], note=["x", None], expected_answer=["1", "1"], advantage=[0.1, -0.1])
    pq.write_table(table, tmp_path / "c.parquet")

    done = import_log(tmp_path / "c.parquet", "trl", tmp_path / "in")

    assert (done.theirs, done.score, done.without_score) == (0.75, "mine", 0)


def test_of_several_columns_of_numbers_none_is_guessed_and_one_can_be_named(tmp_path: Path) -> None:
    table = _trl_table(a=[1.0, 0.0], b=[None, 0.5], length=[8, 9], expected_answer=["1", "1"])
    pq.write_table(table, tmp_path / "c.parquet")

    done = import_log(tmp_path / "c.parquet", "trl", tmp_path / "in")
    named = import_log(tmp_path / "c.parquet", "trl", tmp_path / "b", score="b")

    assert (done.theirs, done.without_score) == (None, 2)
    assert done.notes == ["columns of numbers left out: a, b, length (--score NAME takes one as the log's score)"]
    assert (named.theirs, named.without_score, named.score) == (0.5, 1, "b")
    with pytest.raises(BadInput, match="--score 'c': no such column of numbers; it has: a, b, length"):
        import_log(tmp_path / "c.parquet", "trl", tmp_path / "c", score="c")


@pytest.mark.parametrize("rewards", [[None, None], [float("nan"), float("nan")]])
def test_a_column_of_nothing_is_a_reward_that_was_never_given(rewards: list[Any], tmp_path: Path) -> None:
    pq.write_table(_trl_table(r=rewards, expected_answer=["1", "1"]), tmp_path / "c.parquet")

    done = import_log(tmp_path / "c.parquet", "trl", tmp_path / "in")

    assert (done.score, done.theirs, done.without_score) == ("r", None, 2)


def test_a_conversation_with_a_system_prompt_finds_its_example_by_its_question(tmp_path: Path, dataset: Path) -> None:
    asked = [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "0+1?"}]]
    said = [[{"role": "assistant", "content": "Let me see."}, {"role": "assistant", "content": "Final: 1"}]]
    pq.write_table(_trl_table(prompt=asked, completion=said, step=[7], r=[1.0]), tmp_path / "c.parquet")

    import_log(tmp_path / "c.parquet", "trl", tmp_path / "in", dataset=dataset)

    (record,) = _records(tmp_path / "in")
    assert record.id == "step-000007/Task/0"
    assert record.completion is not None
    assert record.completion.text == "Final: 1"


def test_a_generation_that_was_logged_at_two_steps_is_kept_and_said(tmp_path: Path) -> None:
    for step in (1, 2):
        table = _trl_table(step=[step] * 2, r=[1.0, 0.0], expected_answer=["1", "1"], advantage=[1.0, -1.0])
        pq.write_table(table, tmp_path / f"completions_{step:05d}.parquet")

    done = import_log(tmp_path, "trl", tmp_path / "in")

    assert done.attempts == 4
    assert done.notes == ["files that repeat the one before: 1 (TRL logs a generation at each step that trains on it)"]


def test_steps_beyond_99999_come_after_those_before(tmp_path: Path) -> None:
    for step in (100_000, 99_999):
        pq.write_table(
            _trl_table(step=[step], r=[1.0], expected_answer=["1"]), tmp_path / f"completions_{step}.parquet"
        )

    import_log(tmp_path, "trl", tmp_path / "in")

    assert [example.id[:11] for example in _examples(tmp_path / "in")] == ["step-099999", "step-100000"]


@pytest.mark.parametrize("step", [True, -1, None, 1.5, "1"])
def test_a_step_that_is_no_count_is_refused(step: Any, tmp_path: Path) -> None:
    pq.write_table(_trl_table(step=[step], r=[1.0], expected_answer=["1"]), tmp_path / "c.parquet")

    with pytest.raises(BadInput, match=r"c.parquet: row 1: step"):
        import_log(tmp_path / "c.parquet", "trl", tmp_path / "in")


def test_rollouts_of_verl_come_in_step_order(tmp_path: Path) -> None:
    (tmp_path / "rollouts").mkdir()
    for step in (10, 9):
        row = {"input": "1+1?", "output": "Final: 2", "gts": 2, "score": 1.0, "step": step, "acc": 1.0}
        _lines(tmp_path / "rollouts" / f"{step}.jsonl", [row, {**row, "output": "Final: 3", "score": 0.0}])

    done = import_log(tmp_path / "rollouts", "verl", tmp_path / "in")

    assert (done.attempts, done.theirs) == (4, 0.5)
    assert [example.id[:11] for example in _examples(tmp_path / "in")] == ["step-000009", "step-000010"]


def test_another_number_of_a_verl_rollout_can_be_taken_as_its_score(tmp_path: Path) -> None:
    row = {"input": "1+1?", "output": "Final: 2", "gts": 2, "score": 0.25, "step": 1, "acc": 1.0}
    log = _lines(tmp_path / "1.jsonl", [row])

    assert import_log(log, "verl", tmp_path / "in").theirs == 0.25
    assert import_log(log, "verl", tmp_path / "acc", score="acc").theirs == 1.0
    with pytest.raises(BadInput, match="no field 'pass'"):
        import_log(log, "verl", tmp_path / "no", score="pass")


def test_hostile_texts_and_large_answers_come_through_unchanged(tmp_path: Path) -> None:
    texts = ["\x1b[2J", "\ud800", "\x00", "a\r\nb", "\u2028", "x" * 300_000]
    rows = [
        {"input": f"{i}?", "output": text, "gts": "9" * 5000, "score": 0.0, "step": 1} for i, text in enumerate(texts)
    ]

    import_log(_lines(tmp_path / "1.jsonl", rows), "verl", tmp_path / "in")

    assert [row.completion.text for row in _records(tmp_path / "in") if row.completion] == texts
    assert _evaluated(tmp_path / "in").summary.scored == len(texts)


WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "holds no attempt|not a Parquet file|check --from|no such"),
    "another format": (b'{"a": 1}\n', "not a line of|not a Parquet file|check --from"),
    "broken line": (b'{"task_id": "a", "compl', "cut short|not a Parquet file|check --from"),
    "no object": (b"[1]\n", "expected|not a Parquet file|check --from"),
    "binary": (bytes(range(256)), "check --from|NUL|UTF-8|not a Parquet file|not JSON"),
}


@pytest.mark.parametrize("format_", [name for name in READERS if name != "inspect"])
@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_such_log_is_one_message_and_exit_2(
    format_: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    content, says = WRONG[what]
    (tmp_path / "log").write_bytes(content)

    assert main(["import", str(tmp_path / "log"), "--from", format_, "--out", str(tmp_path / "in")]) == 2

    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(says, said), said
    assert not (tmp_path / "in").exists()


OTHER_KINDS: dict[str, tuple[bytes, str]] = {
    "gzip": (gzip.compress(b"{}"), "is compressed (gzip); unpack it"),
    "zip": (b"PK\x03\x04junk", "is a zip archive; unpack it"),
    "parquet": (b"PAR1junk", "is a Parquet file; check what it should be"),
    "utf-16": ('{"task_id": "a"}\n'.encode("utf-16"), "is UTF-16; save it as UTF-8"),
}


@pytest.mark.parametrize("what", OTHER_KINDS)
def test_a_file_that_is_no_text_is_named_for_what_it_is(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, says = OTHER_KINDS[what]
    (tmp_path / "log").write_bytes(content)

    assert main(["import", str(tmp_path / "log"), "--from", "human-eval", "--out", str(tmp_path / "in")]) == 2

    assert says in capsys.readouterr().err


@pytest.mark.parametrize("format_", READERS)
def test_a_pipe_is_refused_before_a_reader_waits_for_it(format_: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.eval")

    with pytest.raises(BadInput, match="pipe"):
        import_log(tmp_path / "log.eval", format_, tmp_path / "in")


def test_an_attempt_that_stands_twice_in_a_log_is_not_two_draws(tmp_path: Path) -> None:
    episode = _episode("a", "Final: 4", 1.0, id="t1")
    traces = _lines(tmp_path / "traces.jsonl", [episode, episode])
    samples = _lines(tmp_path / "s.jsonl", [_lm_eval(0, ["Final: 1"]), _lm_eval(0, ["Final: 2"])])

    with pytest.raises(BadInput, match=r"traces.jsonl:2: trace 't1' stands twice"):
        import_log(traces, "verifiers", tmp_path / "in")
    with pytest.raises(BadInput, match=r"s.jsonl:2: document 0 stands twice"):
        import_log(samples, "lm-eval", tmp_path / "in")


_TASK = {"data": {"id": "a", "prompt": "p", "answer": 1}}
_CALL = {"finish_reason": [1], "sampling": {"temperature": None, "max_tokens": {"a": None}}}
ODD: list[tuple[str, dict[str, Any]]] = [
    ("lm-eval", _lm_eval(0, ["x"], metrics=5)),
    ("lm-eval", _lm_eval(0, ["x"], metrics=[{}])),
    ("lm-eval", _lm_eval(0, ["x"], doc_id={})),
    ("lm-eval", _lm_eval(0, ["x"], arguments={"a": 1})),
    ("lm-eval", _lm_eval(0, ["x"], arguments=[["p", {"until": [1], "temperature": "hot"}]])),
    ("lm-eval", _lm_eval(0, ["x"], resps=[[[-1.0, True]]])),
    ("verifiers", {"traces": 5}),
    ("verifiers", {"traces": [{"task": 5, "nodes": None}]}),
    ("verifiers", {"traces": [{"task": {"data": 5}, "nodes": {"a": 1}, "errors": None, "calls": 7, "rewards": [1]}]}),
    ("verifiers", {"traces": [{"task": _TASK, "nodes": [{"sampled": True}], "calls": [_CALL]}]}),
    ("verifiers", {"traces": [{"task": _TASK, "nodes": [], "rewards": {"a": {"score": 1e308, "weight": 1e308}}}]}),
    ("verifiers", _result(0, "x", "high", is_truncated=[1])),
    ("verifiers", {**_result(0, "x", 1.0), "example_id": [1], "prompt": 7, "completion": [5]}),
    ("human-eval", {"task_id": [], "completion": "x"}),
    ("human-eval", {"task_id": "a", "completion": 5}),
    ("verl", {"input": [], "output": "x", "gts": 1, "score": 1, "step": 1}),
    ("verl", {"input": "p", "output": "x", "gts": 1, "score": [1], "step": True}),
    ("verl", {"input": "p", "output": "x", "gts": 1, "score": [1], "step": 1}),
]


@pytest.mark.parametrize(("format_", "row"), ODD)
def test_a_row_of_odd_values_is_imported_or_refused_with_one_message(
    format_: str, row: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = _lines(tmp_path / "log", [row])

    code = main(["import", str(log), "--from", format_, "--out", str(tmp_path / "in")])

    assert code == 0 or (code == 2 and capsys.readouterr().err.count("\n") == 1)
    assert (tmp_path / "in").exists() == (code == 0)


def test_an_inspect_log_without_inspect_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai", None)  # as where it is not installed
    (tmp_path / "x.eval").write_bytes(b"")

    assert main(["import", str(tmp_path / "x.eval"), "--from", "inspect", "--out", str(tmp_path / "in")]) == 2

    assert "pip install inspect-ai" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--from", "nonsense"], "unknown format"),
        (["--from", "human-eval"], "holds no prompt|holds no expected answer"),
        (["--from", "human-eval", "--answer-field", "a"], "--answer-field"),
        (["--from", "human-eval", "--dataset", "missing.jsonl"], "no such file"),
        (["--from", "human-eval", "--score", "x"], "--score"),
        (["--from", "human-eval", "--agent", "x"], "--agent: only verifiers"),
    ],
)
def test_what_the_log_lacks_is_named(
    flags: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    log = _lines(tmp_path / "h.jsonl", [{"task_id": "a", "completion": "b"}])

    assert main(["import", str(log), *flags, "--out", str(tmp_path / "in")]) == 2
    assert re.search(says, capsys.readouterr().err)


def test_an_attempt_that_is_no_example_of_the_data_set_is_refused(tmp_path: Path, dataset: Path) -> None:
    log = _lines(tmp_path / "h.jsonl", [{"task_id": "Task/7", "completion": "b"}])

    with pytest.raises(BadInput, match=r"h.jsonl:1: id 'Task/7': not an example"):
        import_log(log, "human-eval", tmp_path / "in", dataset=dataset)


def test_one_id_for_two_different_examples_is_refused(tmp_path: Path) -> None:
    rows = [_result(0, "Final: 4", 1.0), {**_result(0, "Final: 4", 1.0), "answer": "5"}]

    with pytest.raises(BadInput, match="two different examples"):
        import_log(_lines(tmp_path / "results.jsonl", rows), "verifiers", tmp_path / "in")


def test_an_existing_folder_is_never_written_into(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "mine").touch()
    log = _lines(tmp_path / "results.jsonl", [_result(0, "Final: 4", 1.0)])

    with pytest.raises(BadInput, match="not an empty folder"):
        import_log(log, "verifiers", tmp_path / "in")


def test_the_command_prints_what_was_found_and_a_command_that_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shlex

    log = _lines(tmp_path / "results.jsonl", [_result(0, "Final: 4", 1.0), _result(1, None, 0.0)])
    assert main(["import", str(log), "--from", "verifiers", "--out", str(tmp_path / "in")]) == 0

    said = capsys.readouterr().out
    assert "2 examples, 2 attempts, mean of the log's own scores 1.0000" in said
    assert "1 attempt without a completion stays a failure" in said
    next_command = shlex.split(said.split("judge them: ")[1])
    assert main([*next_command[1:], "--out", str(tmp_path / "run")]) == 0
