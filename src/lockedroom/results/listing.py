"""The runs of a folder: what each is, in a line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from lockedroom.errors import BadInput
from lockedroom.results.run_folder import CONFIG, SUMMARY_JSON
from lockedroom.safeguards.manifest import NAME

SortKey = Literal["started", "name", "policy", "dataset", "rate", "attempts"]
FAMILY = "lockedroom."  # what every format of ours begins with
DEEPEST = 6  # folders below the one that is listed


class _Format(msgspec.Struct, frozen=True):
    """A `manifest.json` may be of anything: a web page, an extension of a browser."""

    format: object = None


class _Room(msgspec.Struct, frozen=True):
    dataset: dict[str, object] = {}
    scorer: dict[str, object] = {}


class _Timing(msgspec.Struct, frozen=True):
    started: str = ""


class _Manifest(msgspec.Struct, frozen=True):
    """The part of a manifest of any kind that a line shows."""

    kind: str = "unknown"
    subject: dict[str, object] = {}
    room: _Room = _Room()
    policy: dict[str, object] = {}
    timing: _Timing = _Timing()
    started: str = ""


class _Rate(msgspec.Struct, frozen=True):
    value: float
    low: float | None = None
    high: float | None = None


class _Summary(msgspec.Struct, frozen=True):
    attempts: int | None = None
    failed: int | None = None
    pass_rate: _Rate | None = None


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the list. `state`: finished, unfinished (it can be resumed), or unreadable (its manifest or summary)."""

    path: str
    state: Literal["finished", "unfinished", "unreadable"]
    kind: str = ""
    policy: str = ""
    dataset: str = ""
    scorer: str = ""
    started: str = ""
    attempts: int | None = None
    failed: int | None = None
    rate: float | None = None
    low: float | None = None
    high: float | None = None


def list_runs(
    folder: Path,
    *,
    kind: str | None = None,
    match: Sequence[str] = (),
    sort: SortKey = "started",
    reverse: bool = False,
) -> list[Listed]:
    """Return the runs at and below a folder. `match`: texts that must all occur in path, policy, dataset or scorer. `kind` may
    also be a state. A folder that cannot be looked into is listed as unreadable.

    Nothing is verified: the lines say what the manifests and summaries say. Raises BadInput when there is no such folder.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; give the folder that holds your runs")
    found = [
        one
        for one in map(_read, filter(_is_ours, _folders(folder)))
        if (kind is None or kind in (one.kind, one.state))
        and all(text.lower() in f"{one.path} {one.policy} {one.dataset} {one.scorer}".lower() for text in match)
    ]
    name = "path" if sort == "name" else sort
    known = [one for one in found if getattr(one, name) not in (None, "")]
    unknown = [one for one in found if getattr(one, name) in (None, "")]
    return sorted(known, key=lambda one: (getattr(one, name), one.path), reverse=reverse) + unknown


def _folders(folder: Path) -> Iterator[Path]:
    """Every run folder; what is inside a run belongs to it only when it is a run of its own."""
    closed: list[OSError] = []
    for root, names, files in os.walk(folder, onerror=closed.append):
        here = Path(root)
        names[:] = sorted(name for name in names if not name.startswith("."))
        if len(here.relative_to(folder).parts) >= DEEPEST:
            names[:] = []
        if NAME in files or (CONFIG in files and "records.jsonl" in files):
            yield here
    yield from (Path(str(error.filename)) for error in closed)


def _is_ours(path: Path) -> bool:
    """Whether a folder is, or may once have been, a run; only what says that it is something else is not."""
    try:
        made_by = (
            msgspec.json.decode((path / NAME).read_bytes(), type=_Format).format if (path / NAME).is_file() else FAMILY
        )
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True
    return isinstance(made_by, str) and made_by.startswith(FAMILY)


def _read(path: Path) -> Listed:
    try:
        if not (path / NAME).is_file():
            return Listed(path=str(path), state="unfinished" if os.access(path, os.R_OK | os.X_OK) else "unreadable")
        manifest = msgspec.json.decode((path / NAME).read_bytes(), type=_Manifest)
        raw = (path / SUMMARY_JSON).read_bytes() if (path / SUMMARY_JSON).is_file() else b"{}"
        summary = msgspec.json.decode(raw, type=_Summary)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Listed(path=str(path), state="unreadable")
    rate = summary.pass_rate
    return Listed(
        path=str(path),
        state="finished",
        kind=manifest.kind,
        policy=str(manifest.policy.get("name", "")),
        dataset=str(manifest.room.dataset.get("split", "")),
        scorer=str(manifest.room.scorer.get("name", "") or manifest.subject.get("scorer", "")),
        started=manifest.timing.started or manifest.started,
        attempts=summary.attempts,
        failed=summary.failed,
        rate=None if rate is None else rate.value,
        low=None if rate is None else rate.low,
        high=None if rate is None else rate.high,
    )
