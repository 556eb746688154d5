"""Sealed holdouts: a split whose answers are encrypted, opened only on the record and only so often.

A sealed folder holds `sealed.json` (what was promised, signed), `prompts.sealed.jsonl` (readable, because a policy has to
see them), `answers.sealed` (the examples with answers and metadata, encrypted) and `ledger.jsonl`. The key stays outside.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from lockedroom.dataset.load import canonical_line, content_key
from lockedroom.dataset.sealed import HEADER, SUFFIX
from lockedroom.dataset.splits import commuted
from lockedroom.errors import BadInput, CannotWrite, Sealed, Tampered
from lockedroom.jsonl import encode_lines, read_batches
from lockedroom.records import Example
from lockedroom.safeguards.coarse import Rule
from lockedroom.safeguards.ledger import NAME as LEDGER
from lockedroom.safeguards.ledger import Entry, Ledger, anchor_path, begin_ledger, open_ledger, read_entries
from lockedroom.safeguards.room import ScorerIdentity
from lockedroom.safeguards.sealing import (
    Key,
    decrypt,
    disk_trouble,
    encrypt,
    is_signed,
    make_key,
    read_key,
    refuse_key_inside,
    sign,
    sync_folder,
    write_durably,
)
from lockedroom.wording import counted

FORMAT = "lockedroom.sealed/1"
PROMPTS, ANSWERS = f"prompts{SUFFIX}", "answers.sealed"
SALT_BYTES = 32
MOST_LOOKS = 200


class Terms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is settled when a holdout is sealed and cannot be changed after."""

    name: str
    budget: int
    confidence: float
    answers: Rule
    scorer: str
    scorer_identity: ScorerIdentity


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`sealed.json`. `commitment` = sha256(salt + canonical examples); the salt is encrypted with the answers.

    `mac` is the HMAC-SHA256, by the key, of this object encoded with `mac` empty.
    """

    format: str
    seal: str
    created: str
    examples: int
    prompts_sha256: str
    commitment: str
    key_id: str
    terms: Terms
    mac: str = ""


class SealedPrompt(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What a policy may see. `sealed`, the first field, is what other commands refuse the file by."""

    sealed: str
    id: str
    prompt: str


class _Salt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    salt: str


def in_holdout(example: Example, fraction: float) -> bool:
    """Say whether an example belongs to the holdout: by the hash of its prompt alone, so order, ids and growth of the
    dataset do not matter, and a question stays on one side with all its repetitions and swapped operands.

    The answer has no part in it: membership would tell something about it.
    """
    key = content_key(Example(id="", prompt=commuted(example.prompt), expected_answer=None))
    return int.from_bytes(key) < fraction * (1 << 8 * len(key))


def seal(examples: Sequence[Example], folder: Path, key_path: Path, terms: Terms, *, who: str, reason: str) -> Header:
    """Write a sealed folder, and the key if `key_path` does not exist yet.

    The folder appears whole or not at all, and only after its answers were decrypted once again and compared.
    Raises BadInput for a key inside the folder, an existing folder, or terms that no holdout can have.
    """
    check_terms(terms)
    refuse_key_inside(key_path, folder)
    if folder.exists():
        raise CannotWrite(f"{folder}: exists already; choose another --out")
    key = read_key(key_path) if key_path.exists() else make_key(key_path)
    seal_id = os.urandom(16).hex()
    prompts = encode_lines([SealedPrompt(seal_id, example.id, example.prompt) for example in examples])
    salt, canonical = os.urandom(SALT_BYTES), canonical_line(examples)
    commitment = hashlib.sha256(salt + canonical).hexdigest()
    answers = encrypt(key, encode_lines([_Salt(salt.hex())]) + canonical, _bound_to(seal_id, commitment))
    header = Header(
        format=FORMAT,
        seal=seal_id,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        examples=len(examples),
        prompts_sha256=hashlib.sha256(prompts).hexdigest(),
        commitment=commitment,
        key_id=key.id,
        terms=terms,
    )
    header = msgspec.structs.replace(header, mac=sign(key, msgspec.json.encode(header)))
    staging = folder.with_name(f".{folder.name}.sealing")
    with disk_trouble(folder):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    write_durably(staging / PROMPTS, prompts)
    write_durably(staging / ANSWERS, answers)
    write_durably(staging / HEADER, msgspec.json.format(msgspec.json.encode(header), indent=2) + b"\n")
    if read_answers(staging, header, key) != list(examples):
        raise CannotWrite(f"{staging}: what was sealed does not open to the same examples; nothing was sealed")
    begin_ledger(staging, key, seal_id, _first_entry(header, staging, who, reason))
    with disk_trouble(folder):
        os.rename(staging, folder)
        sync_folder(folder.parent)
    return header


def check_terms(terms: Terms) -> None:
    if not 1 <= terms.budget <= MOST_LOOKS:
        raise BadInput(f"--budget {terms.budget}: must be 1 to {MOST_LOOKS} looks")
    if not 0 < terms.confidence < 1:
        raise BadInput(f"--confidence {terms.confidence}: must lie between 0 and 1, e.g. 0.95")


def read_header(folder: Path) -> Header:
    """Return the terms and hashes of a sealed folder. Raises BadInput when it is none, Tampered when it is damaged."""
    path = folder / HEADER
    try:
        raw = path.read_bytes()
    except OSError:
        raise BadInput(f"{folder}: not a sealed holdout (no {HEADER}); make one with lockedroom holdout seal") from None
    try:
        declared = msgspec.json.decode(raw, type=_FormatOnly).format
        if declared != FORMAT:
            raise BadInput(f"{path}: format {declared!r}; this version reads {FORMAT!r}; upgrade lockedroom")
        return msgspec.json.decode(raw, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Tampered(f"{path}: not a valid header: {error}; restore it from a copy") from None


def open_key(folder: Path, key_path: Path, header: Header) -> Key:
    """Return the key after checking that it is this holdout's, and that the header is as it was signed.

    Raises BadInput for another key or one inside the folder, Tampered for changed terms.
    """
    refuse_key_inside(key_path, folder)
    key = read_key(key_path)
    if key.id != header.key_id:
        raise BadInput(f"{key_path}: not the key of {folder} (it is {key.id}, the holdout's is {header.key_id})")
    if not is_signed(key, msgspec.json.encode(msgspec.structs.replace(header, mac="")), header.mac):
        raise Tampered(f"{folder / HEADER}: changed after it was signed; restore the sealed folder from a copy")
    return key


@contextlib.contextmanager
def open_book(folder: Path, key: Key, header: Header) -> Iterator[Ledger]:
    """Yield the checked ledger, locked. Raises Tampered also when it was begun for other terms."""
    with open_ledger(folder, key, header.seal) as ledger:
        _check_first(folder, ledger.entries)
        yield ledger


def looks(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries that are looks."""
    return [entry for entry in entries if entry.event == "look"]


def require_budget(folder: Path, header: Header, entries: Sequence[Entry]) -> int:
    """Return the number, from 1, of the look that may be taken now. Raises Sealed when all are spent."""
    spent = looks(entries)
    if len(spent) >= header.terms.budget:
        last = spent[-1]
        raise Sealed(
            f"{folder}: all {counted(header.terms.budget, 'look is', 'looks are')} spent (the last on {last.time}, by {last.who}); "
            "measure on fresh examples: a holdout that was looked at more often than planned proves nothing"
        )
    return len(spent) + 1


def read_prompts(folder: Path, header: Header) -> list[SealedPrompt]:
    """Return the prompts. Raises Tampered when they are not the sealed ones."""
    path = folder / PROMPTS
    if not path.is_file() or _sha256(path) != header.prompts_sha256:
        raise Tampered(f"{path}: not the prompts that were sealed; restore the sealed folder from a copy")
    return [row for batch in read_batches(path, SealedPrompt) for row in batch.rows]


def read_answers(folder: Path, header: Header, key: Key) -> list[Example]:
    """Return the examples with their answers; they stay in this process. Raises Tampered."""
    path = folder / ANSWERS
    try:
        sealed = path.read_bytes()
    except OSError as error:
        raise Tampered(f"{path}: cannot be read: {error.strerror}; restore the sealed folder from a copy") from None
    plaintext = decrypt(key, sealed, _bound_to(header.seal, header.commitment), path)
    first, canonical = plaintext.split(b"\n", 1)
    salt = bytes.fromhex(msgspec.json.decode(first, type=_Salt).salt)
    if hashlib.sha256(salt + canonical).hexdigest() != header.commitment:
        raise Tampered(f"{path}: the examples are not those of the commitment; restore the sealed folder from a copy")
    return _decode_examples(canonical)


def read_status(folder: Path, key_path: Path | None) -> tuple[Header, list[Entry]]:
    """Return header and ledger. Without the key only the chain is checked: signatures and the end are not."""
    header = read_header(folder)
    if key_path is not None:
        with open_book(folder, open_key(folder, key_path, header), header) as ledger:
            return header, list(ledger.entries)
    entries, torn = read_entries(folder / LEDGER)
    if torn:
        raise Tampered(f"{folder / LEDGER}:{len(entries) + 1}: the last line is cut short; check again with --key")
    _check_first(folder, entries)
    return header, entries


def anchor_of(key_path: Path, header: Header) -> Path:
    return anchor_path(read_key(key_path), header.seal)


class _FormatOnly(msgspec.Struct):
    format: str


def _decode_examples(canonical: bytes) -> list[Example]:
    from lockedroom.jsonl import decode_line

    decoder = msgspec.json.Decoder(Example)
    lines = canonical.removesuffix(b"\n").split(b"\n")
    # Line by line, because answers may be integers too long for the fast path.
    return [decode_line(Path(ANSWERS), i, line, decoder, Example) for i, line in enumerate(lines, 1)]


def _first_entry(header: Header, folder: Path, who: str, reason: str) -> Entry:
    return Entry(
        index=0,
        event="sealed",
        time=header.created,
        who=who,
        reason=reason,
        seal=header.seal,
        submitted=None,
        room={"header_sha256": _sha256(folder / HEADER)},
        draws=0,
        answer=None,
        previous="",
    )


def _check_first(folder: Path, entries: Sequence[Entry]) -> None:
    if not entries or entries[0].room.get("header_sha256") != _sha256(folder / HEADER):
        raise Tampered(
            f"{folder / HEADER}: not the terms under which {LEDGER} was begun; restore the sealed folder from a copy"
        )


def _bound_to(seal_id: str, commitment: str) -> bytes:
    return f"{FORMAT} {seal_id} {commitment}".encode()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
