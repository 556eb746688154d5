"""`audit --from RUN`: what a run's own completions say of the scorer that paid them."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from lockedroom._version import __version__
from lockedroom.results.audit.folder import contents_of, write_audit
from lockedroom.results.audit.mined import MinedRun, read_mined, render_mined
from lockedroom.results.plain_folder import refuse_existing
from lockedroom.results.verify import verify
from lockedroom.safeguards.environment import read_git_state, read_hardware


def mine_run(run: Path, out: Path, *, confidence: float = 0.95, command: Sequence[str] = ()) -> MinedRun:
    """Read a verified run and write an audit folder. Raises Tampered for a changed run, BadInput, CannotWrite."""
    refuse_existing(out)
    began, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    manifest = verify(run).manifest
    done = read_mined(run, manifest, out, confidence)
    identity = manifest.room.scorer
    write_audit(
        out,
        contents_of(done.finds, done.summary(), render_mined(done) + "\n"),
        {
            "kind": "mined",
            "subject": {"scorer": identity.name, "version": identity.version, "source_sha256": identity.source_sha256, "run_id": manifest.run_id},
            "config": {"from": str(run), "confidence": confidence},
            "inputs": {name: entry.sha256 for name, entry in manifest.files.items()},
            "command": list(command),
            "versions": {"lockedroom": __version__, "python": platform.python_version()},
            "git": read_git_state(Path.cwd()),
            "hardware": read_hardware(),
            "started": started,
            "seconds": round(time.monotonic() - began, 3),
        },
    )  # fmt: skip
    return done
