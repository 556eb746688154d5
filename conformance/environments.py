"""Builds an environment for each real package, and runs the conformance suite in it. `make conformance` calls this.

    python conformance/environments.py [NAME...]

Environments live in .venv-conformance/NAME and are kept; a change of this table or of pyproject.toml builds them again.
A package that cannot be installed is reported, with pip's reason, and its part is skipped.
"""

# ruff: noqa: T201  (this is a program, and it prints)
from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
HOME = ROOT / ".venv-conformance"
CONSTRAINTS = ROOT / "constraints.txt"
LONGEST_INSTALL_S = 1800
LONGEST_RUN_S = 900

# name -> what pip installs, step by step; the tests of NAME are test_NAME.py.
ENVIRONMENTS: dict[str, list[list[str]]] = {
    "inspect": [["inspect-ai>=0.3.285,<0.4"]],
    "verifiers": [["verifiers>=0.4,<0.5"]],
    "verifiers_classic": [["verifiers<0.2"]],
    "lm_eval": [["lm-eval>=0.4.13,<0.5"]],
    "trl": [["torch"], ["trl>=1.16,<2"]],
    # What follows verl are things that its reward manager imports and its package does not ask for.
    "verl": [["torch"], ["verl>=0.9,<0.10", "cachetools", "uvicorn", "fastapi"]],
    # Its dependency flash-attn has no wheel for machines without CUDA, so only what the reward path imports is installed.
    "openrlhf": [["torch"], ["--no-deps", "openrlhf>=0.11,<0.12"], ["aiohttp"]],
    "tracking": [["mlflow>=3", "trackio"]],
    "ray": [["ray[data]>=2.60"]],
    "data": [["reasoning-gym>=0.1.25,<0.2", "datasets"]],
}
ALWAYS = ["pytest>=8.2", "--editable", f"{ROOT}[parquet]"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ENVIRONMENTS))
    wanted = parser.parse_args().names or list(ENVIRONMENTS)
    unknown = [name for name in wanted if name not in ENVIRONMENTS]
    if unknown:
        parser.error(f"unknown environment {unknown[0]!r}")
    said = {name: _one(name) for name in wanted}
    print()
    for name, line in said.items():
        print(f"{name:18} {line}")
    return int(any(line.startswith("FAILED") for line in said.values()))


def _one(name: str) -> str:
    began = time.monotonic()
    trouble = _build(name)
    built = time.monotonic() - began
    if trouble:
        return f"SKIPPED: cannot be installed: {trouble}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), str(ROOT / "tests" / "adapters")])
    command = [str(_python(name)), "-m", "pytest", "-c", str(HERE / "pytest.ini"), str(HERE / f"test_{name}.py")]
    print(f"== {name}", flush=True)
    began = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, env=environment, timeout=LONGEST_RUN_S, check=False).returncode
    ran = time.monotonic() - began
    return f"{'passed' if code == 0 else 'FAILED'} (environment {built:.0f} s, tests {ran:.0f} s)"


def _build(name: str) -> str:
    """Make the environment unless it is there already; return what went wrong, or nothing."""
    folder, stamp = HOME / name, HOME / name / ".built"
    recipe = repr((ENVIRONMENTS[name], (ROOT / "pyproject.toml").read_text("utf-8"), CONSTRAINTS.read_text("utf-8")))
    mark = hashlib.sha256(recipe.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == mark:
        return ""
    print(f"== {name}: building {folder}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    for step in (["--upgrade", "pip>=25.1"], *ENVIRONMENTS[name], ALWAYS):
        command = [str(_python(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run(
            [*command, "--constraint", str(CONSTRAINTS), *step],
            capture_output=True,
            text=True,
            timeout=LONGEST_INSTALL_S,
            check=False,
        )
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            return errors[-1] if errors else f"pip ended with {done.returncode}"
    stamp.write_text(mark)
    return ""


def _python(name: str) -> Path:
    return HOME / name / "bin" / "python"


if __name__ == "__main__":
    sys.exit(main())
