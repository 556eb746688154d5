"""The key of a sealed holdout: a file kept apart, what it encrypts, and what it signs.

AES-256-GCM and HKDF-SHA256 of the `cryptography` package; HMAC-SHA256 of the standard library. Nothing here is ours but
the order of the calls.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lockedroom.dataset.sealed import MAGIC
from lockedroom.errors import BadInput, CannotWrite, MissingExtra, Tampered
from lockedroom.jsonl import open_for_reading

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_PREFIX = "lockedroom-key-1:"
KEY_BYTES = 32
NONCE_BYTES = 12


class Key(msgspec.Struct, frozen=True):
    """`id` tells keys apart and reveals nothing of them."""

    path: Path
    id: str
    encrypting: bytes
    signing: bytes

    def __repr__(self) -> str:
        return f"Key({self.path}, {self.id})"


def make_key(path: Path) -> Key:
    """Write a new key, readable by its owner only, and return it. Raises CannotWrite when something stands there."""
    text = KEY_PREFIX + base64.b64encode(os.urandom(KEY_BYTES)).decode() + "\n"
    write_durably(path, text.encode(), mode=0o600, new=True)
    return read_key(path)


def read_key(path: Path) -> Key:
    """Return the key. Raises BadInput when it is missing, not a key, or readable by others than its owner."""
    with open_for_reading(path) as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise BadInput(f"{path}: the key can be read by other users; make it yours alone: chmod 600 {path}")
        text = file.read(200).decode("ascii", "replace").strip()
    try:
        secret = base64.b64decode(text.removeprefix(KEY_PREFIX), validate=True)
    except ValueError:
        secret = b""
    if not text.startswith(KEY_PREFIX) or len(secret) != KEY_BYTES:
        raise BadInput(f"{path}: not a key of lockedroom; give the file that `lockedroom holdout seal --key` made")
    return Key(path, _derived(secret, b"id").hex()[:16], _derived(secret, b"encrypting"), _derived(secret, b"signing"))


def refuse_key_inside(key: Path, folder: Path) -> None:
    """A key that travels with what it opens locks nothing."""
    if folder.resolve() in key.resolve().parents:
        raise BadInput(f"{key}: the key lies inside the sealed folder {folder}; keep it elsewhere, where only you read")


def encrypt(key: Key, plaintext: bytes, bound_to: bytes) -> bytes:
    """Return the sealed bytes; they open only with this key and for the same `bound_to`."""
    nonce = os.urandom(NONCE_BYTES)
    sealed = _aesgcm(key).encrypt(nonce, plaintext, bound_to)
    return MAGIC + nonce + sealed


def decrypt(key: Key, sealed: bytes, bound_to: bytes, where: Path) -> bytes:
    """Return the plaintext. Raises Tampered when the bytes are not what this key sealed for `bound_to`."""
    aesgcm = _aesgcm(key)
    from cryptography.exceptions import InvalidTag

    nonce, rest = sealed[len(MAGIC) : len(MAGIC) + NONCE_BYTES], sealed[len(MAGIC) + NONCE_BYTES :]
    try:
        if not sealed.startswith(MAGIC) or len(nonce) < NONCE_BYTES:
            raise InvalidTag
        plaintext = aesgcm.decrypt(nonce, rest, bound_to)
    except InvalidTag:
        raise Tampered(
            f"{where}: these are not the bytes that were sealed; restore the sealed folder from a copy"
        ) from None
    return plaintext


def sign(key: Key, message: bytes) -> str:
    return hmac.new(key.signing, message, hashlib.sha256).hexdigest()


def is_signed(key: Key, message: bytes, signature: str) -> bool:
    return hmac.compare_digest(sign(key, message).encode(), signature.encode())


def write_durably(path: Path, content: bytes, *, mode: int = 0o644, new: bool = False) -> None:
    """Write a file that is either absent (or old) or whole, and on the disk when this returns.

    `new` refuses to replace anything. Raises CannotWrite.
    """
    temporary = path.with_name(f".{path.name}.writing")
    with disk_trouble(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if new:
            try:
                os.link(temporary, path)  # fails where something stands, which a rename would replace
            finally:
                temporary.unlink()
        else:
            os.replace(temporary, path)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk_trouble(path: Path) -> Iterator[None]:
    """Turn trouble with the disk into one message."""
    try:
        yield
    except OSError as error:
        raise CannotWrite(
            f"{path}: cannot be written: {error.strerror}; choose another path or free the disk"
        ) from None


def _derived(secret: bytes, purpose: bytes) -> bytes:
    try:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError:
        raise MissingExtra("a sealed holdout", "holdout") from None
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"lockedroom holdout 1 " + purpose).derive(secret)


def _aesgcm(key: Key) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key.encrypting)
