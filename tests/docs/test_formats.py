"""docs/formats.md is what the program encodes: made from its structs, complete, and true of real outputs."""

from __future__ import annotations

import argparse
import json
import runpy
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lockedroom.cli.main import build_parser, main
from lockedroom.policy.tiny import DATA_FOLDER

DOCS = Path(__file__).resolve().parents[2] / "docs"
FORMATS: dict[str, Any] = runpy.run_path(str(DOCS / "formats.py"))
PLAIN: dict[str, type] = {"text": str, "count": int, "true or false": bool, "list of text": list[str]}


def _leaves(parser: argparse.ArgumentParser, name: str) -> list[str]:
    """The commands of a parser that take --json."""
    found = [name] if "--json" in parser._option_string_actions else []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub, command in action.choices.items():
                found += _leaves(command, f"{name} {sub}".strip())
    return found


def test_the_page_is_up_to_date() -> None:
    assert (DOCS / "formats.md").read_text("utf-8") == FORMATS["formats_page"](), "run: make docs"


def test_every_command_that_prints_json_is_on_the_page() -> None:
    documented = {command.split(" --")[0].split(",")[0] for command in FORMATS["OUTPUTS"]}
    assert set(_leaves(build_parser(), "")) == documented


def test_every_link_to_a_type_leads_to_one() -> None:
    page = FORMATS["formats_page"]()
    for line in page.splitlines():
        for part in line.split("](#")[1:]:
            anchor = part.split(")")[0]
            assert any(f"### {name}".lower().replace(".", "") == f"### {anchor}" for name in _headings(page)), anchor


def _headings(page: str) -> list[str]:
    return [line.removeprefix("### ") for line in page.splitlines() if line.startswith("### ")]


def _hold(command: str, shown: Any) -> None:
    """Every key is documented and of its type; nothing documented is missing."""
    shape = FORMATS["OUTPUTS"][command]
    if command in FORMATS["LISTS"]:
        assert isinstance(shown, list)
        shown = shown[0]
    if isinstance(shape, str):
        _hold_type(shape, shown)
        return
    assert set(shown) == set(shape)
    for key, text in shape.items():
        _hold_type(text, shown[key])


def _hold_type(text: str, value: Any) -> None:
    if value is None and text.endswith(" or null"):
        return
    text = text.removesuffix(" or null")
    many = text.startswith("list of ") and ":" in text
    wanted = FORMATS["find_type"](text.removeprefix("list of ")) if ":" in text else PLAIN.get(text, object)
    for one in value if many else [value]:
        made = msgspec.convert(one, wanted, strict=True)
        if ":" in text:
            assert set(one) <= set(msgspec.to_builtins(made)) | set(one.keys() & {"type"})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small runs of the constant policy and the outputs of the commands that made them."""
    folder = tmp_path_factory.mktemp("formats")
    for name, text in (("a", "Final: 99"), ("b", "Final: 10")):
        arguments = ["--dataset", str(DATA_FOLDER / "dev.jsonl"), "--policy", f"scripted:{text}", "--limit", "20"]
        assert main(["evaluate", *arguments, "--draws", "2", "--out", str(folder / name)]) == 0
    return folder


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("evaluate", ["evaluate", "--dataset", str(DATA_FOLDER / "dev.jsonl"), "--policy", "scripted:no", "--limit", "3", "--out", "{runs}/e"]),
        ("select", ["select", "--run", "{runs}/a", "--selector", "best-of-n", "--out", "{runs}/s"]),
        ("compare", ["compare", "{runs}/a", "{runs}/b"]),
        ("compare --rescore", ["compare", "{runs}/a", "{runs}/b", "--rescore", "permissive"]),
        ("compare --not-comparable", ["compare", "{runs}/a", "{runs}/b", "--not-comparable"]),
        ("verify", ["verify", "{runs}/a"]),
        ("runs", ["runs", "{runs}"]),
        ("rescore", ["rescore", "{runs}/a", "--scorer", "permissive", "--out", "{runs}/r"]),
        ("plan", ["plan", "--pilot", "{runs}/a", "--delta", "0.1"]),
        ("dataset check", ["dataset", "check", str(DATA_FOLDER / "dev.jsonl")]),
        ("dataset make arithmetic", ["dataset", "make", "arithmetic", "--train", "20", "--dev", "10", "--holdout", "10", "--seed", "1", "--out", "{runs}/d"]),
        ("scorer diff", ["scorer", "diff", "final-int", "final-int", "--on", "{runs}/a"]),
        ("audit --from", ["audit", "--from", "{runs}/b", "--out", "{runs}/m"]),
        ("bandit", ["bandit", "--measured", "0"]),
        ("tokens", ["tokens", "Final: 1"]),
        ("report", ["report", "{runs}/a"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_a_command_prints_is_what_the_page_says(
    command: str, arguments: list[str], runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([argument.format(runs=runs) for argument in arguments] + ["--json"])
    printed = capsys.readouterr()
    assert code in (0, 1), printed.err
    _hold(command, json.loads(printed.out))


def test_rows_are_one_object_a_line(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(runs / "a"), "--json"]) == 0
    for line in capsys.readouterr().out.splitlines():
        _hold("inspect", json.loads(line))
