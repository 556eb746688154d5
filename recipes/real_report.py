"""The page about the real-model runs: every number is read, or derived again, from their folders.

`write_report` is read top to bottom; each section is a function from the lab to lines of Markdown.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
from real_lab import Lab, Part
from real_server import ENVIRONMENT, INSTALL
from real_tracks import SELECTORS, TEMPERATURE, Sizes

from lockedroom.jsonl import read_batches
from lockedroom.loops.learning.warmup import LOSSES, Shown
from lockedroom.records import Outcome
from lockedroom.results.compare import Against, CompareOptions, compare
from lockedroom.results.evaluation.inspection import read_summary
from lockedroom.results.evaluation.summary import Summary
from lockedroom.results.learning.summary import LEARNING_JSON, LearningSummary
from lockedroom.results.selection.files import SELECTION_JSON
from lockedroom.results.selection.numbers import Selection
from lockedroom.results.text_table import text_table
from lockedroom.safeguards.manifest import NAME, read_manifest
from lockedroom.stats.pass_at_k import pass_curve
from lockedroom.stats.verdict import Verdict
from lockedroom.visible import visible

ENGINES = {"hf": "`hf:`", "server": "server"}
KS = (1, 2, 4, 8)
SHOWN_CODES = 4


def write_report(lab: Lab, page: Path, sizes: Sizes) -> None:
    """Write the page. Everything it needs has been finished and verified."""
    engines = [name for name in ENGINES if lab.finished(f"{name}-permissive")]
    lines = [
        *_head(lab, sizes),
        *_measured(lab, engines),
        *_selected(lab, engines, sizes),
        *_format_tax(lab),
        *_learned(lab, sizes),
        *_costs(lab),
    ]
    page.write_text("\n".join(lines) + "\n", "utf-8")


def _head(lab: Lab, sizes: Sizes) -> list[str]:
    manifest = read_manifest(Path(lab / "hf-four-shot"))
    identity, hardware = manifest.policy.identity, manifest.hardware
    served = _served(lab)
    return [
        "# The three loops on a real model",
        "",
        "`make real` writes this page; nothing on it was typed in. SmolLM2-135M-Instruct is fetched from a package registry "
        "([Hugging Face models](huggingface.md)), every loop is run on it, and every run is verified before its numbers come here.",
        "",
        f"Weights sha256 `{str(identity['weights_sha256'])[:16]}…`, {identity['dtype']}. lockedroom "
        f"{manifest.versions['lockedroom']}, Python {manifest.versions['python']}, torch {identity['torch']}, transformers "
        f"{identity['transformers']}{served}. {hardware.processor}, {hardware.cores} cores, "
        f"{identity['instruction_set']} kernels, {identity['threads']} thread a process.",
        "",
        f"**What this can show.** One model, one seed, {sizes.measured} problems for Loops A and B and {sizes.dev} for Loop C. "
        "Intervals are 95 % over problems: they hold for other problems of the kind, not for other training seeds.",
        "",
    ]


def _served(lab: Lab) -> str:
    if lab.finished("server-four-shot") is None:
        return ""
    identity = read_manifest(Path(lab / "server-four-shot")).policy.identity
    return f", server {identity.get('system_fingerprint') or identity.get('server') or 'of unknown make'}"


def _measured(lab: Lab, engines: Sequence[str]) -> list[str]:
    rows = []
    for engine in engines:
        for prompts in ("zero-shot", "four-shot"):
            summary = read_summary(Path(lab / f"{engine}-{prompts}"))
            rows.append((ENGINES[engine], prompts, f"{summary.attempts:,}", _rate(summary), _codes(summary)))
        summary = read_summary(Path(lab / f"{engine}-permissive"))
        rows.append(
            (ENGINES[engine], "zero-shot, `permissive`", f"{summary.attempts:,}", _rate(summary), _codes(summary))
        )
    missing = [] if "server" in engines else [
        "",
        f"The server's part was left out: `{ENVIRONMENT}` is not there. To have it: `{INSTALL}`.",
    ]  # fmt: skip
    return [
        "## Loop A",
        "",
        f"Small sums, differences and products at temperature {TEMPERATURE}, judged by `final-int`. Zero-shot is the prompt alone in the "
        "model's chat template; four-shot puts four solved problems before it, as plain text.",
        "",
        *text_table(("engine", "prompts", "drawn", "pass rate", "what came, share of drawn"), rows, numbers=(2,)),
        "",
        f"The two prompts are two rooms: `compare` refuses (exit {_done(lab, 'compare-hf-prompts').exit}). The `permissive` rows are the "
        "zero-shot completions judged again (`rescore`), no token drawn.",
        *missing,
        "",
    ]


def _selected(lab: Lab, engines: Sequence[str], sizes: Sizes) -> list[str]:
    ks = [k for k in KS if k <= sizes.draws]
    curves = [(ENGINES[engine], *_pass_at(read_summary(Path(lab / f"{engine}-four-shot")), ks)) for engine in engines]
    rows = []
    for engine in engines:
        for selector in SELECTORS:
            run = Path(lab / f"{engine}-{selector}")
            selection = msgspec.json.decode((run / SELECTION_JSON).read_bytes(), type=Selection)
            best = selection.at_n[-1]
            value = "none" if best.accuracy is None else _value(best.accuracy.mean, best.accuracy.interval)
            found = _against(lab, f"{engine}-four-shot", f"{engine}-{selector}")
            rows.append((ENGINES[engine], selector, str(best.n), value, _difference(found), found.verdict.name))
    return [
        "## Loop B",
        "",
        f"The same four-shot draws, {sizes.draws} an example. pass@k is what a perfect selector gets; `best-of-n` is one, as it chooses "
        "with the scorer that also measures, and `majority-vote` asks no scorer:",
        "",
        *text_table(("engine", *(f"pass@{k}" for k in ks)), curves, numbers=()),
        "",
        *text_table(("engine", "selector", "n", "accuracy", "against one draw", "verdict"), rows, numbers=(2,)),
        "",
        *_engines_side_by_side(lab),
    ]


def _engines_side_by_side(lab: Lab) -> list[str]:
    if lab.finished("compare-engines") is None:
        return []
    found = _against(lab, "hf-four-shot", "server-four-shot")
    return [
        "The same weights in two engines are two policies in one room, each with random numbers of its own. One draw at a time the "
        f"server passes {_difference(found)} against `hf:` (p {found.p_value:.2g}): **{found.verdict.name}**.",
        "",
    ]


def _format_tax(lab: Lab) -> list[str]:
    said = json.loads(lab.printed("hf-tokens"))
    tax = said["format_tax"]
    readings = [one for one in said["readings"] if one["problem"] is None]
    paid = next(one for one in readings if one["accepted"])
    top = readings[0]
    share = "undefined" if tax["tax"] is None else f"{tax['tax']:.1%}"
    return [
        "## The format tax",
        "",
        f"After “{visible(said['prompt'], 120)}” (chat) the model gives the right number a probability of {tax['any_spelling']:.2g} in all "
        f"spellings together; `final-int` pays for {tax['accepted']:.2g}: a format tax of {share}. Its likeliest right spelling is "
        f"`{visible(top['text'], 40)}` at {top['probability']:.2g}; `{visible(paid['text'], 40)}` has {paid['probability']:.2g}.",
        "",
    ]


def _learned(lab: Lab, sizes: Sizes) -> list[str]:
    run = Path(lab / "learned")
    learned = msgspec.json.decode((run / LEARNING_JSON).read_bytes(), type=LearningSummary)
    return [
        "## Loop C",
        "",
        f"Two-digit sums: {sizes.train} to learn from, {sizes.dev} others to measure on. The model as it came is refused before anything is "
        "spent:",
        "",
        "```text",
        *lab.printed("refused").strip().splitlines(),
        "```",
        "",
        *_warm_ups(lab, sizes),
        "",
        f"Then {sizes.steps} policy-gradient steps of {sizes.prompts} prompts × {sizes.group} completions (leave-one-out baseline, KL in the "
        f"reward, learning rate {sizes.rate:g}, the adapter alone): {learned.completions:,} completions, {learned.tokens:,} tokens. "
        "The control arm spends the CPU time of these steps on more of the warm-up instead (that of the learning run by the share of its "
        "wall time that steps took).",
        "",
        *_arms(lab, sizes),
        "",
        *_verdicts(lab),
        "",
        _conclusion(lab),
        "",
        "What `learn` says of it, against the warm-up alone:",
        "",
        *(f"- {finding}." for finding in learned.findings),
        f"- KL to the warmed policy: {learned.last.kl_exact:.2f} nats a completion.",
        "",
    ]


def _warm_ups(lab: Lab, sizes: Sizes) -> list[str]:
    first, more = (_losses(lab, name) for name in ("warm", "longer"))
    return [
        f"A warm-up of {len(first)} steps × {sizes.warm_examples} right answers (LoRA of rank {sizes.lora}, "
        f"{_done(lab, 'warm').cpu_seconds:.0f} CPU-s) takes the loss from {first[0].loss:.3f} to {first[-1].loss:.3f} nats a token; "
        f"{len(more)} further steps, in the control arm, to {more[-1].loss:.3f}."
    ]


def _losses(lab: Lab, name: str) -> list[Shown]:
    return [row for batch in read_batches(Path(lab / name) / LOSSES, Shown) for row in batch.rows]


def _arms(lab: Lab, sizes: Sizes) -> list[str]:
    ks = [k for k in KS if k in (1, sizes.draws)]
    arms = {
        "warm-up only": "learned/base",
        "warm-up + policy gradients": "learned/learned",
        "longer warm-up": "longer-dev",
    }
    rows = []
    for arm, run in arms.items():
        summary = read_summary(Path(lab / run))
        formed = 1 - sum(code.share for code in summary.codes if code.outcome is Outcome.MALFORMED)
        right = sum(code.share for code in summary.codes if code.outcome is Outcome.CORRECT)
        rows.append((arm, *_pass_at(summary, ks), f"{formed:.3f}", f"{right / formed:.3f}" if formed else "none"))
    header = ("temperature 1", *(f"pass@{k}" for k in ks), "well-formed", "right among those")
    return text_table(header, rows, numbers=(len(ks) + 1, len(ks) + 2))


def _conclusion(lab: Lab) -> str:
    """Say what the two comparisons of the learned policy amount to."""
    said = {Verdict.BETTER: "better than", Verdict.WORSE: "worse than"}
    alone, control = (_against(lab, a, "learned/learned").verdict for a in ("learned/base", "longer-dev"))
    to_base, to_control = (said.get(verdict, "not distinguishable from") for verdict in (alone, control))
    sentence = (
        f"On problems it never trained on, warm-up + policy gradients is {to_base} warm-up only, and {to_control} the longer "
        "warm-up, which cost as much CPU time."
    )
    if control is Verdict.WORSE:
        sentence += (
            " Where right answers can be shown, showing them taught more here than drawing and judging did; learning from rewards "
            "is for problems where answers can be judged and not shown."
        )
    return sentence


def _verdicts(lab: Lab) -> list[str]:
    pairs = (
        ("policy gradients against warm-up only", "learned/base", "learned/learned"),
        ("longer warm-up against warm-up only", "learned/base", "longer-dev"),
        ("policy gradients against longer warm-up", "longer-dev", "learned/learned"),
        ("the first, greedy", "learned/base-greedy", "learned/learned-greedy"),
    )
    rows = []
    for name, a, b in pairs:
        found = _against(lab, a, b)
        rows.append((name, _difference(found), f"{found.p_value:.2g}", found.verdict.name))
    return text_table(("`compare`", "difference in pass rate", "p", "verdict"), rows, numbers=(2,))


def _costs(lab: Lab) -> list[str]:
    files = sorted((file for file in lab.folder.glob("*.json")), key=lambda file: file.stat().st_mtime_ns)
    parts = [_done(lab, file.stem) for file in files]
    resumed = [part.name for part in parts if part.resumed]
    note = f" Interrupted, so that more was spent than counted: {', '.join(resumed)}." if resumed else ""
    runs = len(list(lab.folder.glob(f"*/{NAME}")))
    return [
        "## What it cost, and how to do it again",
        "",
        f"{sum(part.cpu_seconds for part in parts):,.0f} CPU-s in {len(parts)} parts. Wall time is that of a machine that did other work, "
        f"and part `server` spans the others behind the server. `verify` accepts all {runs} runs.{note}",
        "",
        *(f"- {part.name} ({_cost(part)}): `{part.shown}`".replace("\n", "\\n") for part in parts),
    ]


def _cost(part: Part) -> str:
    ended = f", exit {part.exit}" if part.exit else ""
    return f"{part.cpu_seconds:.1f} CPU-s, {part.seconds:.0f} s{ended}"


def _done(lab: Lab, name: str) -> Part:
    part = lab.finished(name)
    assert part is not None, "the page is written when every part is finished"
    return part


def _against(lab: Lab, a: str, b: str) -> Against:
    return compare([Path(lab / a), Path(lab / b)], CompareOptions(show=0)).against[0]


def _pass_at(summary: Summary, ks: Sequence[int]) -> list[str]:
    rows = [(rate.scored, rate.correct) for rate in summary.pass_rates for _ in range(rate.examples)]
    points = pass_curve([n for n, _ in rows], [c for _, c in rows], ks=ks).points
    return [_value(point.estimate, point.pointwise) for point in points]


def _rate(summary: Summary) -> str:
    rate = summary.pass_rate
    return (
        "none"
        if rate is None
        else f"{rate.value:.3f}" + ("" if rate.low is None else f" [{rate.low:.3f}, {rate.high:.3f}]")
    )


def _codes(summary: Summary) -> str:
    codes = [f"{visible(one.code, 40)} {one.share:.0%}" for one in summary.codes[:SHOWN_CODES]]
    rest = summary.codes[SHOWN_CODES:]
    return ", ".join(codes + ([f"others {sum(one.share for one in rest):.0%}"] if rest else []))


def _value(value: float, interval: object) -> str:
    low, high = getattr(interval, "low", None), getattr(interval, "high", None)
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _difference(found: Against) -> str:
    return f"{found.numbers.difference:+.3f}" + _span(found)


def _span(found: Against) -> str:
    interval = found.numbers.interval
    return "" if interval is None else f" [{interval.low:+.3f}, {interval.high:+.3f}]"
