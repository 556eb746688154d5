"""Verifying a folder of the microscope: its hashes, its text from its result, and its result from what it kept.

A bandit's findings follow from its steps; the policies of a frontier are placed again, exactly; every completion of a
Goodhart run is judged again and every number derived from the verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from lockedroom.errors import Tampered
from lockedroom.jsonl import read_batches
from lockedroom.records import Example, Failure
from lockedroom.results.microscope.bandit import STEPS_JSONL, BanditResult, StepLine, find_trouble
from lockedroom.results.microscope.bandit_rendering import render_bandit
from lockedroom.results.microscope.folder import FORMAT, MicroscopeManifest
from lockedroom.results.microscope.frontier import FrontierResult, render_frontier
from lockedroom.results.microscope.goodhart import MEASURED, GoodhartResult, Measured, derive, render_goodhart
from lockedroom.results.plain_folder import check_hashes, read_plain_manifest
from lockedroom.results.run_folder import CONFIG, EXAMPLES, SUMMARY_JSON, SUMMARY_MD
from lockedroom.scorer.builtin import find_builtin

SHOWN = 5
PLACE_TOLERANCE = 1e-9


class CheckedMicroscope(msgspec.Struct):
    """What was checked: files, rows that numbers follow from, rows that were made again. It grows while checking."""

    files: int
    rows: int = 0
    again: int = 0
    not_checked: list[str] = []


def verify_microscope(path: Path) -> CheckedMicroscope:
    """Check a folder of kind bandit, frontier or goodhart. Raises Tampered naming what does not hold, and BadInput."""
    manifest = read_plain_manifest(path, MicroscopeManifest, "a run of the microscope")
    checked = CheckedMicroscope(len(manifest.files))
    trouble = check_hashes(path, manifest, (CONFIG, SUMMARY_JSON, SUMMARY_MD))
    if manifest.format != FORMAT or manifest.kind not in _CHECKS:
        trouble.append(f"manifest.json: format {manifest.format!r} and kind {manifest.kind!r} do not belong together")
    if not trouble:
        try:
            trouble = list(_CHECKS[manifest.kind](path, checked))
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, KeyError) as error:
            trouble = [f"cannot be read: {error}"]
    if trouble:
        shown = "".join(f"\n  - {line}" for line in trouble[:SHOWN])
        more = f"\n  - and {len(trouble) - SHOWN} more" if len(trouble) > SHOWN else ""
        raise Tampered(f"{path}: does not hold:{shown}{more}")
    return checked


def _bandit(path: Path, checked: CheckedMicroscope) -> Iterator[str]:
    result = msgspec.json.decode((path / SUMMARY_JSON).read_bytes(), type=BanditResult)
    steps = [step for batch in read_batches(path / STEPS_JSONL, StepLine) for step in batch.rows]
    checked.rows = checked.again = len(steps)
    if result.findings != find_trouble(result, steps):
        yield f"{SUMMARY_JSON}: the findings do not follow from {STEPS_JSONL}"
    if steps and steps[-1].expected_reward != result.final:
        yield f"{SUMMARY_JSON}: E[R] at the end is not that of the last step"
    yield from _same_text(path, render_bandit(result, steps) + "\n")


def _frontier(path: Path, checked: CheckedMicroscope) -> Iterator[str]:
    result = msgspec.json.decode((path / SUMMARY_JSON).read_bytes(), type=FrontierResult)
    yield from _same_text(path, render_frontier(result) + "\n")
    checked.rows = len(result.learned)
    try:
        from lockedroom.learning.bandit import completion_logprobs, mean_rewards
        from lockedroom.learning.bandit_worlds import find_world, first_policy
        from lockedroom.learning.frontier import place
        from lockedroom.policy.tabular import TabularPolicy
    except ModuleNotFoundError:
        checked.not_checked.append("the learned policies were not placed again: that needs PyTorch")
        return
    world = find_world(result.setting.world)
    ref_CY, rewards_CY = completion_logprobs(world, first_policy(world)).detach(), mean_rewards(world)
    for one in result.learned:
        policy = TabularPolicy.load(path / f"policy-beta-{one.beta:g}.safetensors")
        at = place(completion_logprobs(world, policy).detach(), ref_CY, rewards_CY)
        checked.again += 1
        if abs(at.reward - one.reward) > PLACE_TOLERANCE or abs(at.kl - one.kl) > PLACE_TOLERANCE:
            yield f"{SUMMARY_JSON}: the policy of β = {one.beta:g} has E[R] {at.reward:.6f} and KL {at.kl:.6f}"


def _goodhart(path: Path, checked: CheckedMicroscope) -> Iterator[str]:
    result = msgspec.json.decode((path / SUMMARY_JSON).read_bytes(), type=GoodhartResult)
    rows = [row for batch in read_batches(path / MEASURED, Measured) for row in batch.rows]
    examples = {row.id: row for batch in read_batches(path / EXAMPLES, Example) for row in batch.rows}
    checked.rows = len(rows)
    if derive(result.setting, rows) != result:
        yield f"{SUMMARY_JSON}: does not follow from {MEASURED}"
    yield from _same_text(path, render_goodhart(result))
    for role in ("proxy", "strict"):
        name = getattr(result.setting, role)
        scorer = find_builtin(name)
        if scorer is None:
            checked.not_checked.append(f"verdicts of {name}: not a scorer of this installation")
            continue
        for row in rows:
            said = getattr(row, role)
            if not isinstance(said, Failure) and scorer.score(examples[row.id], row.text) != said:
                yield f"{MEASURED}: β = {row.beta:g}, step {row.step}, id {row.id!r}, draw {row.draw}: {name} says otherwise"
        checked.again = len(rows)


def _same_text(path: Path, text: str) -> Iterator[str]:
    if (path / SUMMARY_MD).read_bytes() != text.encode():
        yield f"{SUMMARY_MD}: is not the text of {SUMMARY_JSON}"


_CHECKS: Mapping[str, Callable[[Path, CheckedMicroscope], Iterator[str]]] = MappingProxyType(
    {"bandit": _bandit, "frontier": _frontier, "goodhart": _goodhart}
)
