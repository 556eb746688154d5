"""Runs to report: small, and as hostile as a completion can be."""

from __future__ import annotations

import json
from pathlib import Path

from lockedroom.loops.evaluate import evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig

HOSTILE = (
    "<script>window.owned = 1</script>",
    "<img src=x onerror='window.owned = 2'>",
    "</script><script>window.owned = 3</script>",
    "<!--<script>",
    "javascript:window.owned=4",
    "<style>body{display:none}</style>",
    "</style><svg/onload=window.owned=5>",
    '" onmouseover="window.owned=6',
    "{{ 7 * 7 }}{% raw %}",
    "\u202e\u200b\x00\x1b[31m\u2028",
    "\ud800",
    "<ScRiPt/src=data:,window.owned=10>",
    "<svg><script>window.owned=11</script><animate onbegin=window.owned=12 attributeName=x dur=1s>",
    "<math><mtext><table><mglyph><style><img src=x onerror=window.owned=13>",
    "<iframe srcdoc='<script>parent.owned=14</script>'></iframe>",
    "${window.owned=15}`${window.owned=16}`",
    "\\u003cscript\\u003ewindow.owned=17\\u003c/script\\u003e",
    '"}]}</script><script>window.owned=18</script>',
    "'-window.owned=19-'",
    "@import url(//example.invalid/x.css); * { background: url(//example.invalid/x); width: expression(window.owned=20) }",
    "<a href='javascript:window.owned=21' autofocus onfocus=window.owned=22>x</a>",
    "<base href=//example.invalid/><meta http-equiv=refresh content='0;url=//example.invalid'>",
    "<link rel=stylesheet href=//example.invalid/x><object data=//example.invalid><embed src=//example.invalid>",
    "<details open ontoggle=window.owned=23><template><script>window.owned=24</script></template>",
    "<form action=//example.invalid><button formaction=javascript:window.owned=25 data-code=x data-step=1>x</button></form>",
    "<img name=getElementById><form id=data></form>",
    "__proto__",
    "\u2066isolated\u2069\u202a\u061c\ufeff\u00ad\u2029\u0085",
    "Final: 1",
)
EVERYWHERE = '<img src=x onerror=window.owned=30>\u202e</script><script>window.owned=31</script>${1}`"'


def write_run(folder: Path, name: str, completions: list[str], *, expected: int = 1, scorer: str = "final-int") -> Path:
    """Evaluate these completions, one example each, and return the run."""
    dataset, recorded = folder / "examples.jsonl", folder / f"{name}.jsonl"
    rows = [
        {"id": f"e{i}<b>", "prompt": f"<i>prompt</i> {i}", "expected_answer": expected} for i in range(len(completions))
    ]
    dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recorded.write_text(
        "".join(
            json.dumps({"id": row["id"], "completion": text}) + "\n"
            for row, text in zip(rows, completions, strict=True)
        )
    )
    declared = ("sampling.temperature=0", "sampling.top_k=0", "sampling.top_p=1", "sampling.max_tokens=9",
                "sampling.stop=[]", 'sampling.seed_scheme="none"', 'prompts.template="{prompt}"', f'policy.model="{name}"')  # fmt: skip
    run = folder / name
    evaluate(EvaluateConfig(dataset=str(dataset), completions=str(recorded), scorer=scorer, declare=declared), run)
    return run


def write_hostile_run(folder: Path) -> Path:
    """Return a run whose every name says something that a page must not obey."""
    named = folder / "<img src=x onerror=window.owned=40>'\"&lt;"
    named.mkdir()
    scorer = named / "own<b onclick=window.owned=41>.py"
    scorer.write_text(
        f"WORD = {EVERYWHERE!r}\n"
        "def score(example, completion):\n"
        "    if completion == 'boom':\n"
        "        raise RuntimeError(WORD)\n"
        "    return {'reward': 0.5, 'details': {'code': '<b onclick=window.owned=42>', 'message': WORD, 'parsed': WORD}}\n"
    )
    dataset, recorded = (
        named / "data</title><script>window.owned=43</script>.jsonl".replace("/", "_"),
        named / "out.jsonl",
    )
    row = {
        "id": EVERYWHERE,
        "prompt": EVERYWHERE,
        "expected_answer": {EVERYWHERE: [EVERYWHERE]},
        "metadata": {EVERYWHERE: EVERYWHERE},
    }
    dataset.write_text(json.dumps(row) + "\n" + json.dumps({**row, "id": "constructor"}) + "\n")
    recorded.write_text("".join(json.dumps({"id": name, "samples": texts}) + "\n" for name, texts in
                                ((EVERYWHERE, ["boom", EVERYWHERE]), ("constructor", ["\x00" * 50, "y" * 10_000_000]))))  # fmt: skip
    declare = (f"policy.name={json.dumps(EVERYWHERE)}", f"policy.model={json.dumps(EVERYWHERE)}",
               f"prompts.template={json.dumps(EVERYWHERE)}", f"sampling.stop={json.dumps([EVERYWHERE])}")  # fmt: skip
    run = named / "run</h1><script>window.owned=44</script>".replace("/", "_")
    evaluate(
        EvaluateConfig(dataset=str(dataset), completions=str(recorded), scorer=f"{scorer}:score", declare=declare), run
    )
    return run
