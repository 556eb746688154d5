"""Examples and completions that came from another project, written as files of ours: all of them, or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from lockedroom._version import __version__
from lockedroom.dataset.load import canonical_line, read_examples
from lockedroom.errors import BadInput, CannotWrite
from lockedroom.jsonl import encode_lines
from lockedroom.records import Example, Failure, FailureCode, Record, Score
from lockedroom.results.run_folder import indented_json
from lockedroom.safeguards.manifest import measure_file

EXAMPLES, COMPLETIONS, META, ABOUT = "examples.jsonl", "completions.jsonl", "completions.meta.toml", "import.json"


class Source(msgspec.Struct, frozen=True):
    """Where rows came from; `score` names the log's own score that stands in the records, if any; `notes` say what does not."""

    format: str
    files: list[str]
    score: str | None = None
    notes: Sequence[str] = ()


class Written(msgspec.Struct, frozen=True):
    """What an import holds. `theirs` is the mean of the log's own scores (`score` names them) over the attempts with one."""

    path: str
    examples: int
    attempts: int
    without_completion: int
    without_score: int
    theirs: float | None
    score: str | None = None
    notes: list[str] = []


def write_import(
    folder: Path,
    examples: Sequence[Example],
    records: Sequence[Record],
    source: Source,
    declared: Mapping[str, Mapping[str, Any]],
) -> Written:
    """Write `examples.jsonl`, `completions.jsonl`, its sidecar and `import.json`, which says where they came from.

    The completions stand as records, with the log's own scores, so that what was never drawn stays a Failure.
    Raises BadInput for examples that Loop A would refuse, and when the folder exists and is not empty.
    """
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise BadInput(f"{folder}: exists already and is not an empty folder; name another --out")
    order = {example.id: i for i, example in enumerate(examples)}
    ordered = sorted(records, key=lambda record: (order[record.id], record.draw))
    written = _count(folder, examples, ordered, source)
    growing = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        growing.mkdir(parents=True)
        _write(growing / EXAMPLES, _canonical(examples, source))
        _check(growing / EXAMPLES, source)
        _write(growing / COMPLETIONS, encode_lines(ordered))
        _write(growing / META, tomli_w.dumps(declared).encode())
        _write(growing / ABOUT, indented_json(_about(source, written)))
        growing.rename(folder)
    except OSError as error:
        raise CannotWrite(f"{folder}: cannot be written: {error.strerror}; nothing was written") from None
    finally:
        shutil.rmtree(growing, ignore_errors=True)
    return written


def not_scored(why: str) -> Failure:
    """Return what stands for a log's own score where it has none."""
    return Failure(FailureCode.SCORER_INVALID_RESULT, why)


def _count(folder: Path, examples: Sequence[Example], records: Sequence[Record], source: Source) -> Written:
    theirs = [record.result.reward for record in records if isinstance(record.result, Score)]
    drawn = sum(record.completion is not None for record in records)
    return Written(
        path=str(folder),
        examples=len(examples),
        attempts=len(records),
        without_completion=len(records) - drawn,
        without_score=drawn - len(theirs),
        theirs=sum(theirs) / len(theirs) if theirs else None,
        score=source.score,
        notes=list(source.notes),
    )


def _about(source: Source, written: Written) -> dict[str, Any]:
    files = [{"path": name, "sha256": measure_file(Path(name)).sha256} for name in source.files]
    counts = {key: value for key, value in msgspec.structs.asdict(written).items() if key != "path"}
    return {
        "made_by": f"lockedroom {__version__}",
        "format": source.format,
        "files": files,
        **counts,
    }


def _canonical(examples: Sequence[Example], source: Source) -> bytes:
    try:
        return canonical_line(examples)
    except UnicodeEncodeError:
        raise BadInput(
            f"{source.files[0]}: a prompt or an answer holds a lone surrogate, which is not a character; remove it"
        ) from None


def _check(path: Path, source: Source) -> None:
    """Hold the examples to what the loader asks, in the words of the log they came from."""
    try:
        for _ in read_examples(path):
            pass
    except BadInput as error:
        trouble = str(error).removeprefix(f"{path}:")
        raise BadInput(f"{source.files[0]}: gives an example that cannot be used: example {trouble}") from None


def _write(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
