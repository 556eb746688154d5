"""The table of docs/audit.md: real scorers, audited. `python bench/real_scorers.py`; math-verify's row needs that package.

Figures move with the attack families and the search, so the whole table is made in one run.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import tempfile
from pathlib import Path

from lockedroom.loops.instrument.audit import DEMO_DATASET, AuditConfig, audit
from lockedroom.safeguards.audit.examination import Report
from lockedroom.stats.intervals import Interval

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"
SUBJECTS = {
    "`final-int`": AuditConfig(scorer="final-int"),
    "`gsm8k_strict`": AuditConfig(
        scorer=f"{EXAMPLES}/gsm8k_strict.py:score", golden=(f"{EXAMPLES}/gsm8k_goldens.jsonl",), dataset=str(DEMO_DATASET)
    ),
    "`gsm8k_flexible`": AuditConfig(
        scorer=f"{EXAMPLES}/gsm8k_flexible.py:score", golden=(f"{EXAMPLES}/gsm8k_goldens.jsonl",), dataset=str(DEMO_DATASET)
    ),
    "math-verify": AuditConfig(
        scorer=f"{EXAMPLES}/math_verify_boxed.py:score", golden=(f"{EXAMPLES}/boxed_goldens.jsonl",), dataset=str(DEMO_DATASET),
        signature="completion,answer", budget=600.0, scorer_memory=2048,
    ),
    "`permissive`": AuditConfig(scorer="permissive"),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="keep the audit folders here (default: they are thrown away)")
    args = parser.parse_args()
    print("| scorer | findings | false positives | J | best constant | echo | seconds |")
    print("|---|---:|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as thrown_away:
        for name, config in SUBJECTS.items():
            if name == "math-verify" and not _is_installed(name):
                print("| math-verify | not installed: `pip install 'math-verify[antlr4_13_2]'` | | | | | |")
                continue
            done = audit(config, (args.out or Path(thrown_away)) / name.strip("`"))
            print(_row(name, done.report), flush=True)


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _row(name: str, report: Report) -> str:
    if report.errors is None or report.errors.overall is None or report.constants is None:
        return f"| {name} | {report.verdict.value}: {'; '.join(report.reasons or report.incomplete)} | | | | | |"
    errors, earned = report.errors.overall, report.constants
    best, echo = (f"{policy.mean_reward:.2f}" if policy is not None else "-" for policy in (earned.best, earned.echo))
    shown = f"{errors.false_positive_rate:.4f} {_interval(errors.false_positive_interval)}"
    return f"| {name} | {len(report.findings)} | {shown} | {errors.youden_j:.3f} | {best} | {echo} | {report.seconds:.0f} |"


def _interval(interval: Interval) -> str:
    return f"[{interval.low:.4f}, {interval.high:.4f}]"


if __name__ == "__main__":
    main()
