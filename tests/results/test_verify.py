"""Every kind of tampering with a finished run is detected; nothing honest is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lockedroom.errors import BadInput, Tampered
from lockedroom.jsonl import encode_lines
from lockedroom.loops.evaluate import evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.records import Completion, Details, Failure, FailureCode, Outcome, Record, Score
from lockedroom.results.evaluation.summary import summarise
from lockedroom.results.evaluation.tally import Tally
from lockedroom.results.verify import verify
from lockedroom.safeguards.manifest import measure_file
from lockedroom.scorer.final_int import SPEC
from lockedroom.testkit.small_run import lockedroom, write_additions, write_answers, write_rows, write_samples

EXAMPLES = 40


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    config = EvaluateConfig(
        dataset=str(write_additions(folder, EXAMPLES)),
        completions=str(write_answers(folder, EXAMPLES)),
        declare=("sampling.temperature=0.8",),
    )
    return evaluate(config, folder / "run").path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


# --- ways to tamper ---------------------------------------------------------------------------------------------------


def _edit_text(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        text = (run / name).read_text()
        assert old in text
        (run / name).write_text(text.replace(old, new, 1))

    return edit


def _edit_lines(name: str, change: Callable[[list[str]], object]) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        lines = (run / name).read_text().splitlines(keepends=True)
        change(lines)
        (run / name).write_text("".join(lines))

    return edit


def _edit_bytes(name: str, change: Callable[[bytearray], object]) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        content = bytearray((run / name).read_bytes())
        change(content)
        (run / name).write_bytes(content)

    return edit


def _edit_manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        manifest = json.loads((run / "manifest.json").read_text())
        change(manifest)
        (run / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")

    return edit


def _rehash(run: Path) -> None:
    """Bring every hash up to date, as a careful forger would."""

    def update(manifest: dict[str, Any]) -> None:
        for name in manifest["files"]:
            entry = measure_file(run / name)
            manifest["files"][name] = {"sha256": entry.sha256, "bytes": entry.bytes, "lines": entry.lines}
        manifest["room"]["dataset"]["sha256"] = manifest["files"]["examples.jsonl"]["sha256"]

    _edit_manifest(update)(run)
    _resum(run)


def _resum(run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    sums = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    sums["manifest.json"] = hashlib.sha256((run / "manifest.json").read_bytes()).hexdigest()
    (run / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))


def _rewrite_summary(run: Path, records: list[Record]) -> None:
    """Records with a summary that follows from them, as if they had been judged so."""
    write_rows(run / "records.jsonl", records)
    tally = Tally(draws=1, codes={}, failures={}, passes={}, graded_passes={})
    tally.add(records, SPEC)
    text = json.dumps(json.loads(encode_lines([summarise(tally, SPEC)])), indent=2, ensure_ascii=False)
    (run / "summary.json").write_text(text + "\n")


def _records(run: Path) -> list[Record]:
    import msgspec

    return msgspec.json.Decoder(Record).decode_lines((run / "records.jsonl").read_bytes())


def _flip_a_reward(run: Path) -> None:
    records = _records(run)
    wrong = records[2]
    forged = Score(1.0, Details("ok", Outcome.CORRECT, "3", "the expected integer"))
    records[2] = Record(wrong.id, wrong.draw, wrong.completion, forged)
    _rewrite_summary(run, records)


def _swap_a_completion(run: Path) -> None:
    records = _records(run)
    records[2] = Record(records[2].id, 0, Completion("Final: 3"), records[2].result)
    write_rows(run / "records.jsonl", records)


def _call_it_a_failure(run: Path) -> None:
    records = _records(run)
    records[2] = Record(records[2].id, 0, records[2].completion, Failure(FailureCode.SCORER_DIED, "it died"))
    _rewrite_summary(run, records)


def _lose_a_wrong_one(run: Path) -> None:
    records = _records(run)
    records[2] = Record(records[2].id, 0, None, Failure(FailureCode.MISSING_COMPLETION, "none"))
    _rewrite_summary(run, records)


def _hide_a_field(run: Path) -> None:
    _edit_text("records.jsonl", '"reward":1.0', '"reward":0.0,"reward":1.0')(run)


_PLAIN: dict[str, Callable[[Path], object]] = {
    "a flipped bit in the records": _edit_bytes("records.jsonl", lambda raw: raw.__setitem__(100, raw[100] ^ 1)),
    "a removed record": _edit_lines("records.jsonl", lambda lines: lines.pop(7)),
    "an added record": _edit_lines("records.jsonl", lambda lines: lines.append(lines[-1])),
    "two swapped records": _edit_lines("records.jsonl", lambda lines: lines.insert(3, lines.pop(9))),
    "a truncated file": _edit_bytes("records.jsonl", lambda raw: raw.__delitem__(slice(-50, None))),
    "an emptied file": _edit_bytes("records.jsonl", lambda raw: raw.clear()),
    "a deleted records file": lambda run: (run / "records.jsonl").unlink(),
    "a deleted examples file": lambda run: (run / "examples.jsonl").unlink(),
    "a deleted configuration": lambda run: (run / "config.toml").unlink(),
    "an edited example": _edit_text("examples.jsonl", '"expected_answer":7', '"expected_answer":8'),
    "an edited configuration": _edit_text("config.toml", "0.8", "0.1"),
    "a swapped summary number": _edit_text("summary.json", '"value": 0.6', '"value": 0.9'),
    "an edited summary text": _edit_text("summary.md", "0.6000", "0.9000"),
    "an edited seed": _edit_manifest(lambda manifest: manifest.__setitem__("seed", 7)),
    "an edited room": _edit_manifest(lambda manifest: manifest["room"]["sampling"].__setitem__("temperature", 0)),
    "an edited hash": _edit_manifest(lambda manifest: manifest["files"]["records.jsonl"].__setitem__("sha256", "0" * 64)),
    "an added manifest field": _edit_manifest(lambda manifest: manifest.__setitem__("note", "trust me")),
    "a manifest on one line": lambda run: (run / "manifest.json").write_text(
        json.dumps(json.loads((run / "manifest.json").read_text()))
    ),
    "an edited SHA256SUMS": _edit_text("SHA256SUMS", "records.jsonl", "other.jsonl"),
    "a removed SHA256SUMS": lambda run: (run / "SHA256SUMS").unlink(),
    "a line added to SHA256SUMS": _edit_lines("SHA256SUMS", lambda lines: lines.append(f"{'0' * 64}  x\n")),
    "a truncated manifest": _edit_bytes("manifest.json", lambda raw: raw.__delitem__(slice(300, None))),
    "a manifest that nests without end": lambda run: (run / "manifest.json").write_bytes(b'{"a":' + b"[" * 200_000),
    "a manifest that is not UTF-8": lambda run: (run / "manifest.json").write_bytes(b'{"format":"\xff"}'),
}  # fmt: skip

_REHASHED: dict[str, Callable[[Path], object]] = {
    "a swapped summary number": _edit_text("summary.json", '"value": 0.6', '"value": 0.9'),
    "another confidence": _edit_text("summary.json", '"confidence": 0.95', '"confidence": 0.5'),
    "an impossible confidence": _edit_text("summary.json", '"confidence": 0.95', '"confidence": 7'),
    "a summary that is none": lambda run: (run / "summary.json").write_text("[]"),
    "an edited summary text": _edit_text("summary.md", "0.6000", "0.9000"),
    "a flipped reward": _flip_a_reward,
    "a swapped completion": _swap_a_completion,
    "a wrong one called a failure": _call_it_a_failure,
    "a wrong one said to be missing": _lose_a_wrong_one,
    "a field written twice": _hide_a_field,
    "an edited expected answer": _edit_text("examples.jsonl", '"expected_answer":7', '"expected_answer":8'),
    "an expected answer of another kind": _edit_text("examples.jsonl", '"expected_answer":7', '"expected_answer":[7]'),
    "a score without completion": _edit_text("records.jsonl", '{"text":"Final: 1"}', "null"),
    "a code of no scorer": _edit_text("records.jsonl", '"code":"ok"', '"code":"okay"'),
    "a code with another outcome": _edit_text("records.jsonl", '"outcome":"correct"', '"outcome":"wrong"'),
    "a reward that does not go with its code": _edit_text("records.jsonl", '"reward":1.0', '"reward":0.5'),
    "a reward that is no number": _edit_text("records.jsonl", '"reward":1.0', '"reward":null'),
    "a record of another example": _edit_text("records.jsonl", '"id":"e3"', '"id":"e4"'),
    "a record of another draw": _edit_text("records.jsonl", '"draw":0', '"draw":1'),
    "a removed record": _edit_lines("records.jsonl", lambda lines: lines.pop()),
    "an added record": _edit_lines("records.jsonl", lambda lines: lines.append(lines[-1])),
    "two swapped records": _edit_lines("records.jsonl", lambda lines: lines.insert(3, lines.pop(9))),
    "a removed example": _edit_lines("examples.jsonl", lambda lines: lines.pop()),
    "a spaced-out example": _edit_text("examples.jsonl", '{"id":"e3"', '{ "id":"e3"'),
    "an empty records file": lambda run: (run / "records.jsonl").write_bytes(b""),
    "a rewritten prompt": _edit_manifest(lambda m: m["room"]["prompts"].__setitem__("template", "{prompt}")),
    "another temperature": _edit_manifest(lambda m: m["room"]["sampling"].__setitem__("temperature", 0)),
    "another split": _edit_manifest(lambda m: m["room"]["dataset"].__setitem__("split", "holdout")),
    "another number of examples": _edit_manifest(lambda m: m["room"]["dataset"].__setitem__("examples", 7)),
    "another scorer version": _edit_manifest(lambda m: m["room"]["scorer"].__setitem__("version", 7)),
    "another fingerprint": _edit_manifest(lambda m: m["room"]["scorer"].__setitem__("fingerprint", "0" * 64)),
    "another vocabulary": _edit_manifest(lambda m: m["scorer"]["codes"].pop()),
    "another number of draws": _edit_manifest(lambda m: m.__setitem__("draws", 2)),
    "no draws": _edit_manifest(lambda m: m.__setitem__("draws", 0)),
    "more draws than any machine counts": _edit_manifest(lambda m: m.__setitem__("draws", 10**18)),
    "another selection": _edit_manifest(lambda m: m["selection"].__setitem__("draws", 8)),
    "another policy": _edit_manifest(lambda m: m["policy"].__setitem__("name", "better")),
    "fewer missing completions": _edit_manifest(lambda m: m["inputs"].__setitem__("missing_completions", 3)),
    "extra ids out of nowhere": _edit_manifest(lambda m: m["inputs"].__setitem__("extra_ids", 3)),
    "an unknown manifest field": _edit_manifest(lambda m: m.__setitem__("note", "trust me")),
    "an unlisted configuration": _edit_manifest(lambda m: m["files"].pop("config.toml")),
    "an unlisted summary": _edit_manifest(lambda m: m["files"].pop("summary.md")),
    "a file outside the run": _edit_manifest(
        lambda m: m["files"].__setitem__("../config.toml", m["files"]["config.toml"])
    ),
}


def test_an_honest_run_verifies_and_every_verdict_is_made_again(run: Path) -> None:
    verified = verify(run)
    assert (verified.attempts, verified.rescored, verified.not_checked) == (EXAMPLES, EXAMPLES, [])


@pytest.mark.parametrize("kind", _PLAIN)
def test_tampering_is_detected(run: Path, kind: str) -> None:
    _PLAIN[kind](run)
    with pytest.raises(Tampered):
        verify(run)


@pytest.mark.parametrize("kind", _REHASHED)
def test_tampering_is_detected_even_when_every_hash_was_brought_up_to_date(run: Path, kind: str) -> None:
    _REHASHED[kind](run)
    if not (run / "../config.toml").exists():
        shutil.copy(run / "config.toml", run / "../config.toml")
    _rehash(run)
    with pytest.raises(Tampered):
        verify(run)


def test_the_forgers_hashes_are_right_so_that_these_tests_prove_something(run: Path) -> None:
    _rehash(run)
    verify(run)


def test_the_message_names_the_run_and_what_does_not_hold(run: Path) -> None:
    _PLAIN["a removed record"](run)
    with pytest.raises(Tampered, match=r"records\.jsonl was changed: 39 lines instead of 40") as caught:
        verify(run)
    assert str(run) in str(caught.value)


def test_a_forged_reward_is_named_by_its_line(run: Path) -> None:
    _flip_a_reward(run)
    _rehash(run)
    with pytest.raises(
        Tampered, match=r"records\.jsonl:3: id 'e2', draw 0: final-int judges this completion otherwise"
    ):
        verify(run)


def test_the_command_line_ends_with_exit_code_4(run: Path) -> None:
    _PLAIN["a flipped bit in the records"](run)
    done = lockedroom("verify", run, cwd=run.parent)
    assert (done.returncode, done.stdout) == (4, b"")
    assert b"does not verify" in done.stderr


def test_a_newer_format_is_bad_input_and_says_to_upgrade(run: Path) -> None:
    _edit_text("manifest.json", "lockedroom.run/1", "lockedroom.run/2")(run)
    with pytest.raises(BadInput, match="upgrade lockedroom") as caught:
        verify(run)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("content", ['{"format":"other/1"}', "{}"])
def test_a_manifest_of_another_program_is_refused(run: Path, content: str) -> None:
    (run / "manifest.json").write_text(content)
    with pytest.raises((BadInput, Tampered), match="not a"):
        verify(run)


def test_an_unfinished_run_is_bad_input_and_says_to_resume(run: Path) -> None:
    (run / "manifest.json").unlink()
    with pytest.raises(BadInput, match="--resume") as caught:
        verify(run)
    assert caught.value.exit_code == 2


def test_a_path_that_is_no_run_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such run folder"):
        verify(tmp_path / "nowhere")


def test_the_usual_tool_checks_the_sums_too(run: Path) -> None:
    done = subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=run, capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stdout.count(b": OK") == 6


def test_another_source_of_the_scorer_is_said_to_be_unchecked(run: Path) -> None:
    _edit_manifest(lambda manifest: manifest["room"]["scorer"].__setitem__("source_sha256", "0" * 64))(run)
    _rehash(run)
    assert "another source" in verify(run).not_checked[0]


def test_a_persons_scorer_is_said_to_be_unchecked(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def score(example, completion):\n    return {'reward': 0.5, 'details': {}}\n")
    config = EvaluateConfig(
        dataset=str(write_additions(tmp_path, 3)),
        completions=str(write_samples(tmp_path, 3, 2)),
        scorer=f"{tmp_path / 'mine.py'}:score",
    )
    verified = verify(evaluate(config, tmp_path / "run").path)
    assert verified.rescored == 0
    assert "not a built-in scorer" in verified.not_checked[0]
