"""Every command in the README and in docs/ runs, in order, and succeeds; generated pages are up to date."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Pages whose ```text blocks hold nothing but lines that their commands print.
OUTPUT_SHOWN = {"locked-room.md", "bandit.md"}
_TEXT = re.compile(r"^```text\n(.*?)^```", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _commands(page: Path) -> list[str]:
    blocks = _BLOCK.findall(page.read_text("utf-8"))
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def test_the_readme_has_commands_to_run() -> None:
    assert len(_commands(ROOT / "README.md")) >= 5


@pytest.mark.parametrize("page", [page for page in PAGES if _commands(page)], ids=lambda page: page.name)
def test_every_command_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    for name in ("src", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    printed = ""
    for line in _commands(page):
        command, _, code = line.partition("  # exit ")  # a command that has to end with another code than 0 says so
        done = subprocess.run(
            shlex.split(command),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == int(code or 0), f"{command}\n{done.stdout}\n{done.stderr}"
        printed += done.stdout + done.stderr
    if page.name in OUTPUT_SHOWN:
        shown = [line for block in _TEXT.findall(page.read_text("utf-8")) for line in block.splitlines()]
        assert [line for line in shown if line not in printed.splitlines()] == []


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="argparse lays out its help otherwise in other versions")
def test_the_help_texts_in_the_docs_are_those_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    assert (ROOT / "docs" / "cli.md").read_text("utf-8") == _generator().help_page(), "run: make docs"


def test_the_picture_of_loop_a_is_a_real_run() -> None:
    assert (ROOT / "docs" / "images" / "loop-a.svg").read_text("utf-8") == _generator().picture(), "run: make docs"


def test_every_link_in_the_docs_leads_somewhere() -> None:
    for page in PAGES:
        prose = re.sub(r"`[^`\n]*`", "", page.read_text("utf-8"))  # a link in code is no link
        for target in re.findall(r"\]\(([^)#:]+)\)", prose):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
