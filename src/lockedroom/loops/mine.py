"""`audit --from RUN`: what a run's own completions say of the scorer that paid them."""

from __future__ import annotations

import itertools
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from lockedroom._version import __version__
from lockedroom.results.audit_folder import refuse_existing, write_audit
from lockedroom.results.inspection import read_pairs
from lockedroom.results.text_table import text_table
from lockedroom.results.verify import verify
from lockedroom.safeguards.audit.mining import Find, Mined, Miner, Share
from lockedroom.safeguards.environment import read_git_state, read_hardware
from lockedroom.visible import visible


class MinedRun(msgspec.Struct, frozen=True):
    """`suspicious` counts completions that were paid and are doubted."""

    path: Path
    run: str
    scorer: str
    mined: Mined
    finds: list[Find]

    @property
    def suspicious(self) -> int:
        return self.mined.split[1].count


def mine_run(run: Path, out: Path, *, confidence: float = 0.95, command: Sequence[str] = ()) -> MinedRun:
    """Read a verified run and write an audit folder. Raises Tampered for a changed run, BadInput, CannotWrite."""
    refuse_existing(out)
    began, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    manifest = verify(run).manifest
    miner = Miner(manifest.scorer.reward_range[1], confidence)
    for _, group in itertools.groupby(read_pairs(run, manifest.draws), key=lambda pair: pair[0].id):
        pairs = list(group)
        miner.read(pairs[0][0], [record for _, record in pairs])
    identity = manifest.room.scorer
    done = MinedRun(out, str(run), f"{identity.name} version {identity.version}", miner.result(), miner.finds)
    write_audit(
        out, list(done.finds), {"run": done.run, "scorer": done.scorer, "mined": done.mined}, render_mined(done) + "\n",
        {
            "kind": "mined",
            "subject": {"scorer": identity.name, "version": identity.version, "source_sha256": identity.source_sha256, "run_id": manifest.run_id},
            "config": {"from": str(run), "confidence": confidence},
            "inputs": {name: entry.sha256 for name, entry in manifest.files.items()},
            "command": list(command),
            "versions": {"lockedroom": __version__, "python": platform.python_version()},
            "git": read_git_state(Path.cwd()),
            "hardware": read_hardware(),
            "started": started,
            "seconds": round(time.monotonic() - began, 3),
        },
    )  # fmt: skip
    return done


def render_mined(done: MinedRun) -> str:
    """Return the split as tables, and completions to look at."""
    mined = done.mined
    lines = [
        f"# What {visible(done.scorer, 80)} paid for in {visible(done.run, 200)}", "",
        f"{mined.scored:,} scored attempts of {mined.examples:,} examples; {mined.failures:,} failures are in no share.", "",
        *_table("attempts", mined.split), "",
    ]  # fmt: skip
    for title, shares in (
        ("why paid completions are doubted", mined.doubts),
        ("where the answer stands in what was lost", mined.losses),
    ):
        if shares:
            lines += [*_table(title, shares), ""]
    for find in done.finds:
        odd = f"  ({', '.join(find.characters)})" if find.characters else ""
        lines.append(
            f"- {visible(find.id, 80)}: {find.why}; reward {find.reward:g}, expected {visible(str(find.expected_answer), 40)}: "
            f"{visible(find.completion, 160)}{odd}"
        )
    return "\n".join(lines)


def _table(title: str, shares: list[Share]) -> list[str]:
    rows = [
        [
            one.what,
            f"{one.count:,}",
            f"{one.share:.4f}",
            f"[{one.interval.low:.4f}, {one.interval.high:.4f}]" if one.interval else "undefined",
        ]
        for one in shares
    ]
    return text_table((title, "count", "share", "interval"), rows, numbers=(1, 2))
