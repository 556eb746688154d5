"""Parts of a long experiment: each is one `lockedroom` command, run once, its output and its cost kept beside what it made.

A folder of parts holds, for the part NAME: `NAME/` (what the command wrote to --out), `NAME.txt` (what it printed) and
`NAME.json` (a `Part`, written last: a part that has one is finished and is not run again).
"""

from __future__ import annotations

import contextlib
import io
import resource
import shlex
import shutil
import sys
import time
from pathlib import Path

import msgspec

from lockedroom.cli.main import main
from lockedroom.errors import BadInput
from lockedroom.safeguards import manifest as manifests

RESUMABLE = ("evaluate", "learn")
CONFIG = "config.toml"


class Part(msgspec.Struct, frozen=True):
    """A finished part: the program and its arguments, its exit code, and what it cost this process and its children.

    `resumed`: it was interrupted before, and what was spent then is not counted.
    """

    name: str
    command: list[str]
    exit: int
    seconds: float
    cpu_seconds: float
    resumed: bool
    program: str = "lockedroom"

    @property
    def shown(self) -> str:
        """The command as one types it."""
        return shlex.join([self.program, *self.command])


class Lab:
    """The parts in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __truediv__(self, name: str) -> str:
        """Return the path of what a part made, as commands name it."""
        return str(self.folder / name)

    def finished(self, name: str) -> Part | None:
        file = self.folder / f"{name}.json"
        return msgspec.json.decode(file.read_bytes(), type=Part) if file.is_file() else None

    def printed(self, name: str) -> str:
        """Return what a finished part printed, stdout and stderr."""
        return (self.folder / f"{name}.txt").read_text("utf-8")

    def make(self, name: str, *arguments: object) -> Part:
        """Run a command that writes `--out`, unless it is done. Raises BadInput when it fails."""
        return self.say(name, *arguments, "--out", self / name)

    def say(self, name: str, *arguments: object, exits: int = 0) -> Part:
        """Run a command, unless it is done, and keep what it prints. Raises BadInput when it ends otherwise than `exits`."""
        command = [str(argument) for argument in arguments]
        done = self.finished(name)
        if done is not None:
            if done.command != command:
                raise BadInput(f"{self / name}: was made by another command ({done.shown}); name a new --out")
            return done
        resumed = self._clear(name, command[0])
        print(f"{name}: {shlex.join(['lockedroom', *command])}", flush=True)
        began, cpu = time.monotonic(), cpu_seconds()
        code, text = _run([*command, "--resume"] if resumed else command)
        (self.folder / f"{name}.txt").write_text(text, "utf-8")
        if code != exits:
            raise BadInput(f"part {name}: ended with {code} instead of {exits}; it printed:\n{text[-1500:]}")
        return self.keep(Part(name, command, code, time.monotonic() - began, cpu_seconds() - cpu, resumed))

    def keep(self, part: Part) -> Part:
        """Write down that a part is finished."""
        (self.folder / f"{part.name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(part)) + b"\n")
        print(f"{part.name}: {part.seconds:.0f} s, {part.cpu_seconds:.0f} CPU-s", flush=True)
        return part

    def forget(self, name: str) -> None:
        """Have a part run again the next time it is asked for."""
        (self.folder / f"{name}.json").unlink(missing_ok=True)

    def _clear(self, name: str, command: str) -> bool:
        """Remove what an interrupted part left, unless its command can go on from there; say whether it can."""
        made = self.folder / name
        if command in RESUMABLE and (made / CONFIG).is_file() and not (made / manifests.NAME).is_file():
            return True
        shutil.rmtree(made, ignore_errors=True)
        return False


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _run(command: list[str]) -> tuple[int, str]:
    """Run one command in this process, as the command line would; return its exit code and what it printed."""
    text, argv = io.StringIO(), sys.argv
    sys.argv = ["lockedroom", *command]  # the manifest keeps it
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            return main(command), text.getvalue()
    finally:
        sys.argv = argv
