"""Environments of the peers, made on demand, so that what they need never enters the project's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def environment(folder: Path, *installs: Sequence[str]) -> Path:
    """Return the Python of an environment with these `pip install`s in that order; made anew when they have changed.

    `.complete` is written last, and holds what was installed.
    """
    complete = folder / ".complete"
    python = folder / "bin" / "python"
    wanted = "\n".join(" ".join(install) for install in installs)
    if not complete.exists() or complete.read_text() != wanted:
        subprocess.run((sys.executable, "-m", "venv", "--clear", str(folder)), check=True)
        for install in installs:
            pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *install)
            subprocess.run(pip, check=True)
        complete.write_text(wanted)
    return python
