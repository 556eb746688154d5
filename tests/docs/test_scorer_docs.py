"""docs/scorers.md is generated from the scorers where it lists facts, and its code runs.

To rewrite the generated blocks: python tests/docs/test_scorer_docs.py
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from lockedroom.records import Example, ScorerSpec
from lockedroom.scorer import final_int, permissive
from lockedroom.scorer.battery import BATTERY, BATTERY_VERSION
from lockedroom.scorer.identity import fingerprint

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "scorers.md"
GOLDENS = ROOT / "tests" / "goldens" / "final-int"


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def codes(spec: ScorerSpec) -> str:
    return table(
        ["code", "outcome", "meaning"], ([f"`{code.name}`", code.outcome.value, code.meaning] for code in spec.codes)
    )


def golden_families() -> str:
    rows = []
    for name in ("correct", "exploits", "contested"):
        goldens = [json.loads(line) for line in (GOLDENS / f"{name}.jsonl").read_text(encoding="ascii").splitlines()]
        families = Counter(golden["family"] for golden in goldens)
        fooled = Counter(golden["family"] for golden in goldens if foil_pays(golden))
        rows += [
            [name, family.replace("_", " "), str(count), str(fooled[family])] for family, count in families.items()
        ]
        rows.append([name, "**all**", f"**{len(goldens)}**", f"**{fooled.total()}**"])
    return table(["file", "family", "cases", "paid by permissive"], rows)


def foil_pays(golden: dict[str, Any]) -> bool:
    example = Example(id=golden["id"], prompt=golden["prompt"], expected_answer=golden["expected_answer"])
    return permissive.score(example, golden["completion"]).reward == 1.0


def fingerprints() -> str:
    return table(
        ["scorer", "version", "battery", "fingerprint"],
        (
            [
                f"`{scorer.SPEC.name}`",
                str(scorer.SPEC.version),
                f"{BATTERY_VERSION} ({len(BATTERY)} pairs)",
                f"`{digest}`",
            ]
            for scorer in (final_int, permissive)
            for digest in [fingerprint(scorer.score(*pair) for pair in BATTERY)]
        ),
    )


BLOCKS = {
    "final-int codes": lambda: codes(final_int.SPEC),
    "golden families": golden_families,
    "permissive codes": lambda: codes(permissive.SPEC),
    "fingerprints": fingerprints,
}


def block(text: str, name: str) -> re.Match[str]:
    found = re.search(rf"(?<=<!-- generated: {name} -->\n)(.*?)(?=<!-- end -->)", text, re.DOTALL)
    assert found is not None, f"{PAGE}: the markers of {name!r} are missing"
    return found


@pytest.mark.parametrize("name", BLOCKS)
def test_a_generated_block_says_what_the_scorers_say(name: str) -> None:
    written = block(PAGE.read_text(encoding="utf-8"), name)[0]
    assert written == BLOCKS[name](), "rewrite the page with: python tests/docs/test_scorer_docs.py"


def test_the_page_has_no_other_generated_block() -> None:
    assert re.findall("<!-- generated: (.*?) -->", PAGE.read_text(encoding="utf-8")) == list(BLOCKS)


@pytest.mark.parametrize("snippet", re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
def test_a_snippet_of_the_page_runs(snippet: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(snippet, {"__name__": "docs"})
    assert capsys.readouterr().out in ("", fingerprint(final_int.score(*pair) for pair in BATTERY) + "\n")


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    for each, generate in BLOCKS.items():
        where = block(page, each)
        page = page[: where.start()] + generate() + page[where.end() :]
    PAGE.write_text(page, encoding="utf-8")
