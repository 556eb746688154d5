"""The version lock: a scorer's behaviour may not change while its version stands still.

A lock file keeps, for each scorer by name, its version and every verdict it gave on the fixed battery and on golden
completions. Later the verdicts are taken again: other verdicts under the same version are a finding.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from lockedroom.errors import BadInput
from lockedroom.records import Example, Failure, Score
from lockedroom.safeguards.room import ScorerIdentity
from lockedroom.scorer.battery import BATTERY_VERSION
from lockedroom.scorer.identity import verdict_line
from lockedroom.visible import visible
from lockedroom.wording import counted

FORMAT = "lockedroom.scorer-lock/1"
SHOWN = 5


class Verdicts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was said, case by case. `sha256` is of the verdict lines (see scorer/identity.py), parsed text included.

    `kinds` lists the different verdicts without parsed text, and `cases` says which one each case got: "0*8 2" is eight
    times the first kind, then once the third.
    """

    sha256: str
    kinds: list[str]
    cases: str


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of golden completions, by its hash, and the verdicts on it."""

    file_sha256: str
    verdicts: Verdicts


class LockEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One scorer as it was locked. `goldens` are named relative to the lock file's folder."""

    version: int
    battery_version: int
    source_sha256: str
    fingerprint: str
    battery: Verdicts
    goldens: dict[str, Golden]


class LockFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    scorers: dict[str, LockEntry]


class Asked(msgspec.Struct, frozen=True):
    """The cases behind verdicts (pairs of example and completion), to name those that changed."""

    cases: Sequence[tuple[Example, object]]
    verdicts: Sequence[Score | Failure]


class Checked(msgspec.Struct, frozen=True):
    """`behaviour` and `stale` are findings, each saying what to do; `notes` are not."""

    behaviour: list[str]
    stale: list[str]
    notes: list[str]


def record_verdicts(results: Sequence[Score | Failure]) -> Verdicts:
    """Return the verdicts in the form that a lock keeps."""
    digest = hashlib.sha256(b"".join(map(verdict_line, results))).hexdigest()
    kinds: dict[str, int] = {}
    numbers = [kinds.setdefault(_kind(result), len(kinds)) for result in results]
    runs = [(number, len(list(group))) for number, group in itertools.groupby(numbers)]
    return Verdicts(digest, list(kinds), " ".join(f"{number}*{n}" if n > 1 else str(number) for number, n in runs))


def make_entry(identity: ScorerIdentity, battery: Asked, goldens: dict[str, tuple[str, Asked]]) -> LockEntry:
    """Return what a lock keeps of a scorer; `goldens` maps a name to (sha256 of the file, cases and verdicts)."""
    return LockEntry(
        version=identity.version,
        battery_version=BATTERY_VERSION,
        source_sha256=identity.source_sha256,
        fingerprint=identity.fingerprint,
        battery=record_verdicts(battery.verdicts),
        goldens={name: Golden(sha256, record_verdicts(asked.verdicts)) for name, (sha256, asked) in goldens.items()},
    )


def check_entry(
    name: str, locked: LockEntry, current: LockEntry, battery: Asked, goldens: dict[str, tuple[str, Asked]]
) -> Checked:
    """Compare a scorer as it is with its lock.

    Other verdicts under the locked version are `behaviour`; a lock that is of another version, battery or golden file is
    `stale`; a source that changed without any verdict changing is a note.
    """
    same_version = locked.version == current.version
    changed, stale, notes = [], [], []
    if locked.battery_version != current.battery_version:
        stale.append(f"the lock is of battery {locked.battery_version}, this lockedroom has {current.battery_version}")
    elif locked.fingerprint != current.fingerprint:
        changed.append(("the battery", locked.battery, current.battery, battery))
    for golden in sorted({*locked.goldens, *current.goldens}):
        old, new = locked.goldens.get(golden), current.goldens.get(golden)
        where = visible(golden, 200)
        if old is None or new is None:
            stale.append(
                f"golden file {where} is {'not in the lock' if old is None else 'in the lock and was not given'}"
            )
        elif old.file_sha256 != new.file_sha256:
            stale.append(f"golden file {where} was changed since it was locked")
        elif old.verdicts.sha256 != new.verdicts.sha256:
            changed.append((where, old.verdicts, new.verdicts, goldens[golden][1]))
    behaviour = [line for where, old_v, new_v, asked in changed for line in _changes(where, old_v, new_v, asked)]
    if not same_version:
        stale += [
            f"the lock is of version {locked.version}, {visible(name, 80)} is now version {current.version}",
            *behaviour,
        ]
        behaviour = []
    if not changed and locked.source_sha256 != current.source_sha256:
        notes.append("the source was changed; on the battery and the goldens every verdict is as it was")
    return Checked(behaviour, stale, notes)


def read_lock(path: Path) -> LockFile:
    """Return a lock file's content, or an empty lock when there is none. Raises BadInput when it is no lock file."""
    if not path.exists():
        return LockFile(FORMAT, {})
    try:
        lock = msgspec.json.decode(path.read_bytes(), type=LockFile)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(
            f"{path}: not a scorer lock: {visible(str(error), 200)}; restore it, or name another --lock"
        ) from None
    if lock.format != FORMAT:
        raise BadInput(
            f"{path}: format {visible(lock.format, 60)!r}; this version reads {FORMAT!r}; upgrade lockedroom"
        )
    return lock


def encode_lock(lock: LockFile) -> bytes:
    return msgspec.json.format(msgspec.json.encode(lock, order="sorted"), indent=2) + b"\n"


def _kind(result: Score | Failure) -> str:
    if isinstance(result, Failure):
        return f"failure {result.code.value}"
    return f"{result.details.outcome.value} {result.details.code}, reward {result.reward!r}"


def _changes(where: str, old: Verdicts, new: Verdicts, asked: Asked) -> Iterator[str]:
    before, after = list(_expanded(old)), list(_expanded(new))
    if len(before) != len(after):
        yield f"on {where}: {counted(len(before), 'case was', 'cases were')} locked, there are {len(after)}"
        return
    moved = [i for i, (one, two) in enumerate(zip(before, after, strict=True)) if one != two]
    if not moved:
        yield f"on {where}: the text that the scorer says it parsed changed, in at least one case"
    for i in moved[:SHOWN]:
        example, completion = asked.cases[i]
        yield (
            f"on {where}, case {i + 1}: expected {visible(str(example.expected_answer), 60)}, completion "
            f"{visible(str(completion), 120)!r}: was {visible(before[i], 120)}; is {visible(after[i], 120)}"
        )
    if len(moved) > SHOWN:
        yield f"on {where}: {len(moved) - SHOWN} more"


def _expanded(verdicts: Verdicts) -> Iterator[str]:
    for part in verdicts.cases.split():
        number, _, times = part.partition("*")
        try:
            yield from itertools.repeat(verdicts.kinds[int(number)], int(times or 1))
        except (ValueError, IndexError):
            raise BadInput(
                f"the lock says {visible(part, 40)!r} where a case's verdict should be; restore the file"
            ) from None
