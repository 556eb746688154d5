from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from lockedroom.errors import CannotWrite, Tampered
from lockedroom.safeguards.coarse import Answer
from lockedroom.safeguards.ledger import NAME, Anchor, Entry, anchor_path, begin_ledger, open_ledger, read_entries
from lockedroom.safeguards.sealing import Key, make_key

SEAL = "5ea1" * 8


def entry(reason: str, event: str = "look") -> Entry:
    return Entry(
        index=0,
        event=event,
        time="2025-01-01T00:00:00+00:00",
        who="ann@lab",
        reason=reason,
        seal=SEAL,
        submitted=None,
        room={},
        draws=1,
        answer=Answer("rounded", 0.5, None, 0.475, 0.525, 0),
        previous="",
    )


class Book:
    """A sealed folder as the ledger sees it, with three looks taken."""

    def __init__(self, folder: Path, looks: int = 3) -> None:
        self.folder = folder / "sealed"
        self.folder.mkdir()
        self.path = self.folder / NAME
        self.key = make_key(folder / "keys" / "a.key")
        begin_ledger(self.folder, self.key, SEAL, entry("sealed", "sealed"))
        for i in range(looks):
            self.look(f"look {i}")

    def look(self, reason: str) -> Entry:
        with open_ledger(self.folder, self.key, SEAL) as ledger:
            return ledger.append(entry(reason))

    def reasons(self, key: Key | None = None) -> list[str]:
        with open_ledger(self.folder, key or self.key, SEAL) as ledger:
            return [one.reason for one in ledger.entries]

    @property
    def anchor(self) -> Path:
        return anchor_path(self.key, SEAL)


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


def test_entries_are_kept_in_order_and_chained(book: Book) -> None:
    entries, torn = read_entries(book.path)
    assert [one.reason for one in entries] == ["sealed", "look 0", "look 1", "look 2"] == book.reasons()
    assert torn == b""
    assert [one.previous for one in entries] == ["0" * 64, *(one.hash for one in entries[:-1])]


def test_a_stranger_can_recompute_the_hash_of_a_line(book: Book) -> None:
    line = book.path.read_text().splitlines()[2]
    last = msgspec.json.decode(line, type=Entry)
    bare = line.replace(f'"hash":"{last.hash}"', '"hash":""').replace(f'"mac":"{last.mac}"', '"mac":""')
    assert hashlib.sha256(bare.encode()).hexdigest() == last.hash


def _rechained(lines: list[bytes]) -> list[bytes]:
    """What a careful forger without the key would write: every hash made anew."""
    previous, out = "0" * 64, []
    for index, line in enumerate(lines):
        one = msgspec.structs.replace(
            msgspec.json.decode(line, type=Entry), index=index, previous=previous, hash="", mac=""
        )
        previous = hashlib.sha256(msgspec.json.encode(one)).hexdigest()
        out.append(msgspec.json.encode(msgspec.structs.replace(one, hash=previous, mac="0" * 64)) + b"\n")
    return out


def _begun_anew(line: bytes) -> bytes:
    one = msgspec.structs.replace(msgspec.json.decode(line, type=Entry), previous="0" * 64, hash="", mac="")
    return (
        msgspec.json.encode(msgspec.structs.replace(one, hash=hashlib.sha256(msgspec.json.encode(one)).hexdigest()))
        + b"\n"
    )


TAMPERED: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "a reason edited": (lambda x: [*x[:2], x[2].replace(b"look 1", b"look X"), x[3]], ":3: the entry is not the one"),
    "an answer edited": (lambda x: [*x[:2], x[2].replace(b"0.5,", b"0.6,"), x[3]], ":3: the entry is not the one"),
    "a space added": (lambda x: [*x[:3], x[3].replace(b'"who":', b'"who": ')], ":4: the entry is not the one"),
    "a field added": (lambda x: [*x[:3], x[3].replace(b'{"index"', b'{"a":1,"index"')], ":4: not an entry"),
    "a byte that is not UTF-8": (lambda x: [*x[:3], x[3].replace(b"look 2", b"look \xff")], ":4: not an entry"),
    "a chain begun anew": (lambda x: [*x[:3], _begun_anew(x[3])], ":4: the entry does not follow the one before it"),
    "the first line removed": (lambda x: x[1:], ":1: entry 1 stands where entry 0 should"),
    "a line in the middle removed": (lambda x: [*x[:1], *x[2:]], ":2: entry 2 stands where entry 1 should"),
    "two lines swapped": (lambda x: [x[0], x[2], x[1], x[3]], ":2: entry 2 stands where entry 1 should"),
    "a line repeated": (lambda x: [*x, x[3]], ":5: entry 3 stands where entry 4 should"),
    "a blank line": (lambda x: [*x[:3], b"\n", x[3]], ":4: not an entry"),
    "the last line removed": (lambda x: x[:3], "1 entry is missing from the end"),
    "the last two removed": (lambda x: x[:2], "2 entries are missing from the end"),
    "everything removed": (lambda x: [], "4 entries are missing from the end"),
    "half of the last line": (lambda x: [*x[:3], x[3][:40]], ":4: the last line is cut short"),
    "the last newline removed": (lambda x: [*x[:3], x[3][:-1]], ":4: the last line is cut short"),
    "a line removed, hashes made anew": (lambda x: _rechained([*x[:2], x[3]]), ":1: the entry was not written with"),
    "hashes made anew": (_rechained, ":1: the entry was not written with the key"),
    "a forged look added": (lambda x: [*x, _rechained([*x, x[3]])[4]], ":5: the entry was not written with the key"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_a_changed_ledger_is_detected(book: Book, how: str) -> None:
    change, message = TAMPERED[how]
    book.path.write_bytes(b"".join(change(book.path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(Tampered, match=f"ledger.jsonl.*{message}"):
        book.reasons()


def test_a_removed_ledger_is_detected(book: Book) -> None:
    book.path.unlink()
    with pytest.raises(Tampered, match="cannot be read"):
        book.reasons()


def test_the_ledger_of_another_holdout_with_the_same_key_is_detected(book: Book, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    begin_ledger(other, book.key, "07e4" * 8, msgspec.structs.replace(entry("x", "sealed"), seal="07e4" * 8))
    book.path.write_bytes((other / NAME).read_bytes())
    with pytest.raises(Tampered, match=":1: the entry was not written with the key of this holdout"):
        book.reasons()


def test_an_old_copy_of_the_whole_folder_is_detected_because_the_key_knows_better(book: Book) -> None:
    copy = book.path.read_bytes()
    book.look("one more")
    book.path.write_bytes(copy)
    with pytest.raises(Tampered, match="1 entry is missing from the end"):
        book.look("a free look?")


def test_another_history_of_the_same_length_is_detected(book: Book) -> None:
    ledger, anchor = book.path.read_bytes(), book.anchor.read_bytes()
    book.look("as it was")
    real = book.anchor.read_bytes()
    book.path.write_bytes(ledger)
    book.anchor.write_bytes(anchor)
    book.look("as it should look")
    book.anchor.write_bytes(real)
    with pytest.raises(Tampered, match=":5: not the entry that the key's folder knows"):
        book.reasons()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "missing"),
        (b"", "cannot be read"),
        (b"{}", "cannot be read"),
        (b'{"seal":"x","count":0,"head":"0"}', "belongs to another holdout"),
        (b'{"seal":"x","count":0,"head":"0","promised":"nonsense"}', "cannot be read"),
    ],
)
def test_without_its_anchor_a_ledger_is_not_trusted(book: Book, content: bytes | None, message: str) -> None:
    book.anchor.unlink()
    if content is not None:
        book.anchor.write_bytes(content)
    with pytest.raises(Tampered, match=message):
        book.reasons()


def test_a_key_that_was_copied_earlier_still_opens_a_longer_ledger(book: Book, tmp_path: Path) -> None:
    copied = tmp_path / "elsewhere" / book.key.path.name
    copied.parent.mkdir()
    for path in (book.key.path, book.anchor):
        (copied.parent / path.name).write_bytes(path.read_bytes())
    book.look("with the first copy")
    key = msgspec.structs.replace(book.key, path=copied)
    assert book.reasons(key)[-1] == "with the first copy"


def _promise_only(book: Book) -> Entry:
    with open_ledger(book.folder, book.key, SEAL) as ledger:
        return ledger.promise(entry("interrupted"))


def test_after_a_crash_before_the_line_was_written_the_look_is_counted(book: Book) -> None:
    promised = _promise_only(book)
    assert b"interrupted" not in book.path.read_bytes()
    assert book.reasons()[-1] == "interrupted"
    assert read_entries(book.path)[0][-1] == promised
    assert msgspec.json.decode(book.anchor.read_bytes(), type=Anchor).promised is None


@pytest.mark.parametrize("kept", [1, 100, -1])
def test_after_a_crash_within_the_line_it_is_completed(book: Book, kept: int) -> None:
    promised = _promise_only(book)
    with open(book.path, "ab") as file:
        file.write(msgspec.json.encode(promised)[:kept])
    assert book.reasons()[-1] == "interrupted"
    assert read_entries(book.path)[0][-1] == promised


def test_after_a_crash_before_the_anchor_was_settled_nothing_is_written_twice(book: Book) -> None:
    with open_ledger(book.folder, book.key, SEAL) as ledger:
        ledger.write(ledger.promise(entry("interrupted")))
    assert book.reasons() == ["sealed", "look 0", "look 1", "look 2", "interrupted"]
    assert book.look("next").index == 5


def test_a_torn_line_that_was_not_promised_is_tampering(book: Book) -> None:
    _promise_only(book)
    with open(book.path, "ab") as file:
        file.write(b'{"index":4,"event":"mine')
    with pytest.raises(Tampered, match=":5: the last line is cut short"):
        book.reasons()


def test_a_crash_does_not_hide_that_earlier_lines_are_missing(book: Book) -> None:
    _promise_only(book)
    lines = book.path.read_bytes().splitlines(keepends=True)
    book.path.write_bytes(b"".join(lines[:2]))
    with pytest.raises(Tampered, match="2 entries are missing from the end"):
        book.reasons()


def test_an_entry_in_the_place_of_the_promised_one_is_tampering(book: Book) -> None:
    anchor = book.anchor.read_bytes()
    promised = _promise_only(book)
    pending = book.anchor.read_bytes()
    book.anchor.write_bytes(anchor)
    assert book.look("another").hash != promised.hash
    book.anchor.write_bytes(pending)
    with pytest.raises(Tampered, match=":5: not the entry that was promised"):
        book.reasons()


def test_processes_that_look_at_once_wait_for_one_another(book: Book) -> None:
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "from test_ledger import SEAL, entry; from lockedroom.safeguards.ledger import open_ledger;"
        "from lockedroom.safeguards.sealing import read_key; key = read_key(Path(sys.argv[3]))\n"
        "for i in range(5):\n"
        "    with open_ledger(Path(sys.argv[2]), key, SEAL) as ledger:\n"
        "        ledger.append(entry(f'{sys.argv[4]} {i}'))"
    )
    here = str(Path(__file__).parent)
    arguments = [sys.executable, "-c", program, here, str(book.folder), str(book.key.path)]
    processes = [subprocess.Popen([*arguments, name]) for name in ("p", "q")]
    assert [process.wait(60) for process in processes] == [0, 0]
    reasons = book.reasons()
    assert len(reasons) == 14
    assert [one for one in reasons if one.startswith("p")] == [f"p {i}" for i in range(5)]


def test_a_ledger_that_cannot_be_written_gives_no_answer(book: Book) -> None:
    with open_ledger(book.folder, book.key, SEAL) as ledger:
        promised = ledger.promise(entry("x"))
        ledger.path = book.folder / "no such folder" / NAME
        with pytest.raises(CannotWrite):
            ledger.write(promised)
    assert book.reasons()[-1] == "x"
