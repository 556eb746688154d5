"""Every error that lockedroom raises on purpose.

    LockedroomError
    ├── BadInput            exit 2   a file, flag or value that cannot be used
    │   ├── MissingExtra    exit 2   an optional dependency is not installed
    │   └── CannotWrite     exit 2   the disk is full, the folder is not ours, the run exists already
    ├── NotComparable       exit 3   two runs are not in one room
    ├── Tampered            exit 4   a finished run does not match its own manifest
    └── Sealed              exit 5   the holdout budget is spent, or a sealed file is read another way

Exit code 0 means fine and 1 means a finding (worse, audit failed, gate rejects); neither is an error.
A message says where, what was found and what to do. Trouble with *one completion* is never raised: it is recorded as
`lockedroom.records.Failure`. Anything else that escapes is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

from typing import ClassVar


class LockedroomError(Exception):
    """Root of the tree; `exit_code` is what the command line returns."""

    exit_code: ClassVar[int] = 2


class BadInput(LockedroomError):
    """A file, flag or value that cannot be used as given."""


class MissingExtra(BadInput):
    """An optional dependency is not installed; the message holds the install line."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional dependency; install it with: pip install 'lockedroom[{extra}]'")


class CannotWrite(BadInput):
    """A run folder or file could not be written; what was finished before stays on disk.

    `full`: the path for which there is no room. What can be done after making some depends on the command, so the command
    line says it.
    """

    full: str | None = None


class NotComparable(LockedroomError):
    """Two runs differ in what must be equal; the message names each differing field."""

    exit_code = 3


class Tampered(LockedroomError):
    """A run folder disagrees with its manifest or with its own records."""

    exit_code = 4


class Sealed(LockedroomError):
    """The holdout's budget of looks is spent, or a sealed file was read outside its ledger."""

    exit_code = 5
