"""The ledger of a sealed holdout: append-only, one line a look, each line holding the hash of the one before.

What the chain alone cannot show, lines missing from the end, is shown by the *anchor*, a small file beside the key that
knows how many lines there are. An entry is promised in the anchor, written and synced to the ledger, then settled in
the anchor; only then may its answer be printed. After a crash at any point the next reader finishes what was promised,
so that no crash gives a look for free.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.errors import Tampered
from lockedroom.safeguards.coarse import Answer
from lockedroom.safeguards.sealing import Key, disk_trouble, is_signed, sign, write_durably

NAME = "ledger.jsonl"
NOTHING_BEFORE = "0" * 64


class Submitted(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """Whose completions were judged. Of a run: its id and the sha256 of its manifest; of a file its sha256; of a live
    policy its seed. `identity` is what the policy's spec says of it."""

    name: str
    policy: str
    identity: dict[str, Any]
    seed: int | None = None
    run_id: str | None = None
    manifest_sha256: str | None = None
    completions_sha256: str | None = None


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One line. Line 0 (`event` "sealed") has no look; its `room` holds the sha256 of the sealed folder's header.

    `hash` is the sha256 of the line (without its newline) with `hash` and `mac` empty; `mac` is its HMAC-SHA256 by the key.
    """

    index: int
    event: str
    time: str
    who: str
    reason: str
    seal: str
    submitted: Submitted | None
    room: dict[str, Any]
    draws: int
    answer: Answer | None
    previous: str
    hash: str = ""
    mac: str = ""


class Anchor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the key's folder knows of a ledger: how many lines, the last one's hash, and a line that was promised."""

    seal: str
    count: int
    head: str
    promised: str | None = None


class Ledger:
    """A ledger held under lock, complete and checked. It is a class because the lock outlives a call."""

    def __init__(self, path: Path, key: Key, seal: str, entries: list[Entry]) -> None:
        self.path, self.entries = path, entries
        self._key, self._seal = key, seal

    def append(self, entry: Entry) -> Entry:
        """Chain, sign and keep an entry: when this returns it is on the disk, and its answer may be shown."""
        chained = self.promise(entry)
        self.write(chained)
        self.settle(chained)
        return chained

    def promise(self, entry: Entry) -> Entry:
        previous = self.entries[-1].hash if self.entries else NOTHING_BEFORE
        unsigned = msgspec.structs.replace(entry, index=len(self.entries), previous=previous, hash="", mac="")
        digest = hashlib.sha256(msgspec.json.encode(unsigned)).hexdigest()
        chained = msgspec.structs.replace(unsigned, hash=digest, mac=sign(self._key, digest.encode()))
        _write_anchor(self._key, Anchor(self._seal, len(self.entries), previous, _line(chained).decode()))
        return chained

    def write(self, entry: Entry) -> None:
        """Add the line of a promised entry at its place, over what a crash may have left there."""
        with disk_trouble(self.path):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            with open(descriptor, "r+b") as file:
                file.seek(sum(len(_line(kept)) for kept in self.entries))
                file.write(_line(entry))
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
        self.entries.append(entry)

    def settle(self, entry: Entry) -> None:
        _write_anchor(self._key, Anchor(self._seal, len(self.entries), entry.hash))


@contextlib.contextmanager
def open_ledger(folder: Path, key: Key, seal: str) -> Iterator[Ledger]:
    """Yield the ledger under an exclusive lock, after checking every line against its hash, signature and the anchor.

    Waits for another process that holds it. Raises Tampered, naming the line, when anything does not hold.
    """
    path = folder / NAME
    with _locked(folder), _locked(key.path):
        anchor = _read_anchor(key, seal)
        entries, torn = read_entries(path)
        promised = _promised(anchor)
        ledger = Ledger(path, key, seal, entries)
        _check_signatures(path, key, seal, entries)
        if promised is not None and len(entries) == promised.index and _line(promised).startswith(torn):
            _check_anchor(path, anchor, entries)
            ledger.write(promised)
            ledger.settle(promised)
        elif torn:
            raise Tampered(f"{path}:{len(entries) + 1}: the last line is cut short; restore the ledger from a copy")
        else:
            _check_anchor(path, anchor, entries)
        yield ledger


def begin_ledger(folder: Path, key: Key, seal: str, first: Entry) -> Entry:
    """Write the first line of a new ledger, and its anchor."""
    return Ledger(folder / NAME, key, seal, []).append(first)


def read_entries(path: Path) -> tuple[list[Entry], bytes]:
    """Return the entries whose chain holds, and the bytes of a last line without its newline.

    Needs no key, and so cannot tell whether lines are missing at the end. Raises Tampered naming the first bad line.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Tampered(f"{path}: the ledger cannot be read: {error.strerror}; restore it from a copy") from None
    *lines, torn = raw.split(b"\n")
    entries: list[Entry] = []
    for number, line in enumerate(lines, 1):
        trouble, entry = _check_line(line, entries)
        if entry is None:
            raise Tampered(f"{path}:{number}: {trouble}; the ledger was changed, restore it from a copy")
        entries.append(entry)
    return entries, torn


def anchor_path(key: Key, seal: str) -> Path:
    return key.path.with_name(f"{key.path.name}.{seal[:16]}.anchor.json")


def _check_line(line: bytes, before: Sequence[Entry]) -> tuple[str, Entry | None]:
    try:
        entry = msgspec.json.decode(line, type=Entry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "not an entry of a ledger", None
    unsigned = msgspec.json.encode(msgspec.structs.replace(entry, hash="", mac=""))
    if _line(entry) != line + b"\n" or hashlib.sha256(unsigned).hexdigest() != entry.hash:
        return "the entry is not the one that was hashed", None
    if entry.index != len(before):
        return f"entry {entry.index} stands where entry {len(before)} should", None
    if entry.previous != (before[-1].hash if before else NOTHING_BEFORE):
        return "the entry does not follow the one before it", None
    return "", entry


def _check_signatures(path: Path, key: Key, seal: str, entries: Sequence[Entry]) -> None:
    for number, entry in enumerate(entries, 1):
        if entry.seal != seal or not is_signed(key, entry.hash.encode(), entry.mac):
            raise Tampered(f"{path}:{number}: the entry was not written with the key of this holdout; restore a copy")


def _check_anchor(path: Path, anchor: Anchor, entries: Sequence[Entry]) -> None:
    """The ledger may be ahead of an anchor (another copy of the key was used), never behind it or beside it."""
    if len(entries) < anchor.count:
        missing = anchor.count - len(entries)
        raise Tampered(
            f"{path}: {missing} {'entry is' if missing == 1 else 'entries are'} missing from the end (the key's folder "
            f"knows of {anchor.count}); restore the ledger from a copy"
        )
    if anchor.count and entries[anchor.count - 1].hash != anchor.head:
        raise Tampered(f"{path}:{anchor.count}: not the entry that the key's folder knows; restore a copy")
    promised = _promised(anchor)
    if promised is not None and len(entries) > promised.index and entries[promised.index] != promised:
        raise Tampered(f"{path}:{promised.index + 1}: not the entry that was promised; restore the ledger from a copy")


def _promised(anchor: Anchor) -> Entry | None:
    return None if anchor.promised is None else msgspec.json.decode(anchor.promised, type=Entry)


def _read_anchor(key: Key, seal: str) -> Anchor:
    path = anchor_path(key, seal)
    try:
        anchor = msgspec.json.decode(path.read_bytes(), type=Anchor)
        if anchor.promised is not None:
            msgspec.json.decode(anchor.promised, type=Entry)
    except FileNotFoundError:
        raise Tampered(
            f"{path}: missing; it stands beside the key and says how long the ledger is; copy it from where the key was"
        ) from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Tampered(f"{path}: cannot be read: {error}; restore it from a copy") from None
    if anchor.seal != seal:
        raise Tampered(f"{path}: belongs to another holdout; restore the one of {seal[:16]}")
    return anchor


def _write_anchor(key: Key, anchor: Anchor) -> None:
    write_durably(anchor_path(key, anchor.seal), msgspec.json.encode(anchor) + b"\n", mode=0o600)


def _line(entry: Entry) -> bytes:
    return msgspec.json.encode(entry) + b"\n"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
