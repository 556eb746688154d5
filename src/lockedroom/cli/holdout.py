"""`lockedroom holdout seal|prompts|open|status`: a split that is opened on the record, and only so often."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lockedroom.cli.json_output import print_json
from lockedroom.wording import counted

if TYPE_CHECKING:
    from lockedroom.loops.look import Look
    from lockedroom.safeguards.coarse import Answer, LookIntervals, Rule
    from lockedroom.safeguards.holdout import Header
    from lockedroom.safeguards.ledger import Entry


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `holdout` and its commands."""
    summary = "seal a split, and look at it on the record, a budgeted number of times"
    commands = subparsers.add_parser("holdout", help=summary, description=f"{summary.capitalize()}.").add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    _add_seal(commands)
    _add_prompts(commands)
    _add_open(commands)
    _add_status(commands)


def _add_seal(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "seal",
        help="encrypt the answers of a dataset, or of a part of it",
        description="Write a sealed folder and its key. The terms (budget, answers, scorer, confidence) cannot be changed after. "
        "The dataset itself is left where it is: delete it, or move it out of reach.",
    )
    add = parser.add_argument
    add("dataset", type=Path, metavar="DATASET", help="examples: .jsonl, .csv or .parquet")
    add("--out", type=Path, required=True, metavar="FOLDER", help="the sealed folder to write")
    add(
        "--key",
        type=Path,
        required=True,
        metavar="FILE",
        help="the key: made if it does not exist, never inside FOLDER",
    )
    add("--fraction", type=float, metavar="F", help="seal this part, chosen by the hash of each prompt (default: all)")
    add("--rest", type=Path, metavar="FILE", help="where the examples go that --fraction leaves (.jsonl)")
    add("--budget", type=int, default=5, metavar="N", help="how many looks there will ever be (default 5)")
    add("--answers", choices=("rounded", "threshold", "ladder"), default="rounded",
        help="what a look says: the pass rate rounded, whether it reaches a threshold, or the best so far (Ladder)")  # fmt: skip
    add("--step", type=float, metavar="S", help="of rounded and ladder (default: about one standard error)")
    add("--threshold", type=float, metavar="T", help="of threshold, a pass rate")
    add(
        "--scorer",
        default="final-int",
        metavar="NAME",
        help="final-int (default), permissive, or path/to/file.py:function",
    )
    add("--confidence", type=float, default=0.95, metavar="C", help="of all looks together (default 0.95)")
    add("--reason", default="sealed", metavar="TEXT", help="for the ledger")
    add("--who", metavar="NAME", help="for the ledger (default: user and machine)")
    add("--json", action="store_true", help="print the header as JSON")
    parser.set_defaults(run=run_seal)


def _add_prompts(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "prompts",
        help="the ids and prompts, to draw completions for; no look is spent",
        description="One JSON object a line: sealed, id, prompt. No answers.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a sealed folder")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write them (default: print)")
    parser.set_defaults(run=run_prompts)


def _add_open(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "open",
        help="spend a look: judge completions, get one coarse answer",
        description="The only way to a number. The look is in the ledger before its answer is printed. Exit 5 when none is "
        "left, 4 when folder or ledger were changed.",
    )
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="a sealed folder")
    add("--key", type=Path, required=True, metavar="FILE", help="its key")
    add("--reason", required=True, metavar="TEXT", help="why this look is taken")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--completions", metavar="FILE", help="completions for every sealed prompt")
    what.add_argument("--run", dest="run_folder", metavar="RUN", help="a finished run on (at least) the sealed prompts")
    what.add_argument("--policy", metavar="NAME", help="a policy to draw from")
    add("--who", metavar="NAME", help="for the ledger (default: user and machine)")
    add("--draws", type=int, metavar="K", help="completions an example (default: all that are recorded, or 1)")
    add("--declare", action="append", default=[], metavar="KEY=VALUE", help="how recorded completions were drawn")
    add("--temperature", type=float, metavar="T", help="of a live policy (default 1)")
    add("--max-tokens", type=int, metavar="N", help="of a live policy")
    add("--seed", type=int, metavar="S", help="of a live policy (default 0)")
    add("--scorer", metavar="NAME", help="where your own scorer's file is now, if it has moved")
    add("--json", action="store_true", help="print the answer as JSON")
    parser.set_defaults(run=run_open)


def _add_status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "status",
        help="budget, looks and reasons",
        description="Print the terms and every look. With the key, also check signatures and that no line is missing.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a sealed folder")
    parser.add_argument("--key", type=Path, metavar="FILE", help="its key")
    parser.add_argument("--json", action="store_true", help="print header and ledger as JSON")
    parser.set_defaults(run=run_status)


def run_seal(args: argparse.Namespace) -> int:
    """Seal and print the terms. Exit 0, or the code of the error raised."""
    from lockedroom.loops.look import SealOptions, seal_dataset
    from lockedroom.safeguards.holdout import anchor_of

    options = SealOptions(
        fraction=args.fraction,
        rest=args.rest,
        budget=args.budget,
        confidence=args.confidence,
        answers=args.answers,
        step=args.step,
        threshold=args.threshold,
        scorer=args.scorer,
    )
    header = seal_dataset(
        args.dataset, args.out, args.key, options, who=args.who or _who(), reason=_reason(args.reason)
    )
    if args.json:
        print_json(header)
        return 0
    print("\n".join(_terms(args.out, header)))
    if args.rest is not None:
        print(f"rest        {args.rest}: the examples that are not sealed")
    print(
        f"key         {args.key}; beside it {anchor_of(args.key, header).name}, which knows the ledger's length. Back up both."
    )
    print(f"\n{args.dataset} still holds the answers in the clear: delete it, or move it out of reach.")
    print(f"Prompts to draw completions for: lockedroom holdout prompts {args.out}")
    return 0


def run_prompts(args: argparse.Namespace) -> int:
    """Print or write the prompts; exit 0."""
    from lockedroom.jsonl import encode_lines
    from lockedroom.safeguards.holdout import read_header, read_prompts
    from lockedroom.safeguards.sealing import write_durably

    prompts = read_prompts(args.folder, read_header(args.folder))
    encoded = encode_lines(prompts)
    if args.out is None:
        print(encoded.decode(), end="")
        return 0
    write_durably(args.out, encoded, new=True)
    print(f"{args.out}: {counted(len(prompts), 'prompt')}, without answers; no look was spent")
    return 0


def run_open(args: argparse.Namespace) -> int:
    """Spend a look and print its answer. Exit 0, or the code of the error raised."""
    from lockedroom.errors import BadInput
    from lockedroom.loops.look import LookOptions, look
    from lockedroom.records import Sampling

    if args.run_folder is not None and not Path(args.run_folder).is_dir():
        raise BadInput(f"--run {args.run_folder}: no such run folder")
    given = {"temperature": args.temperature, "max_tokens": args.max_tokens, "seed": args.seed}
    options = LookOptions(
        completions=args.completions or args.run_folder,
        policy=args.policy,
        draws=args.draws,
        declare=tuple(args.declare),
        scorer=args.scorer,
        sampling=Sampling(**{name: value for name, value in given.items() if value is not None}),
    )
    done = look(args.folder, args.key, options, who=args.who or _who(), reason=_reason(args.reason))
    if args.json:
        print_json(
            {
                "look": done.number,
                "looks_left": done.left,
                "answer": done.entry.answer,
                "intervals": done.intervals,
                "entry": done.entry,
            }
        )
    else:
        print("\n".join(_answered(args.folder, done)))
    return 0


def run_status(args: argparse.Namespace) -> int:
    """Print terms and looks; exit 0, or 4 when the ledger does not hold."""
    from lockedroom.loops.look import intervals_of
    from lockedroom.safeguards.holdout import looks, read_status
    from lockedroom.visible import visible

    header, entries = read_status(args.folder, args.key)
    taken = looks(entries)
    left = header.terms.budget - len(taken)
    checked = (
        "every line, signature and the end"
        if args.key
        else "only the chain: name --key to check signatures and the end"
    )
    if args.json:
        print_json({"header": header, "looks_left": left, "checked": checked, "entries": entries})
        return 0
    print("\n".join(_terms(args.folder, header)))
    print(f"looks       {len(taken)} taken, {left} left; checked: {checked}")
    for number, entry in enumerate(taken, 1):
        assert entry.answer is not None
        print(f"\n  {number}  {entry.time}  {visible(entry.who, 60)}: {visible(entry.reason, 300)}")
        print(f"     {_whose(entry)}")
        print(f"     {_said(header.terms.answers, entry.answer)}; {_interval(intervals_of(header, entry, number))}")
    return 0


def _terms(folder: Path, header: Header) -> list[str]:
    terms = header.terms
    return [
        f"holdout     {folder}: {counted(header.examples, 'example')} of {terms.name}, sealed {header.created}",
        f"commitment  {header.commitment}",
        f"scorer      {terms.scorer_identity.name} version {terms.scorer_identity.version}",
        f"answers     {_rule(terms.answers)}",
        f"budget      {counted(terms.budget, 'look')}, {terms.confidence:.4g} confidence for all together",
    ]


def _answered(folder: Path, done: Look) -> list[str]:
    from lockedroom.visible import visible

    entry, header = done.entry, done.header
    assert entry.answer is not None
    planned, adaptive = done.intervals.planned, done.intervals.adaptive
    budget = header.terms.budget
    lines = [
        f"holdout     {folder}: {counted(header.examples, 'example')} × {counted(entry.draws, 'draw')}, "
        f"judged by {header.terms.scorer_identity.name} version {header.terms.scorer_identity.version}",
        f"look        {done.number} of {budget}, {done.left} left: {visible(entry.reason, 200)} ({visible(entry.who, 60)})",
        f"submitted   {_whose(entry)}",
        f"answer      {_said(header.terms.answers, entry.answer)}",
        f"            on this holdout the pass rate lies in [{entry.answer.low:.4g}, {entry.answer.high:.4g}]; no more is said",
        f"new data    [{planned.low:.4f}, {planned.high:.4f}] at {_percent(planned.confidence)}, so that {counted(budget, 'planned look holds', 'planned looks hold')} "
        f"together at {_percent(header.terms.confidence)}",
        f"            [{adaptive.low:.4f}, {adaptive.high:.4f}] if what was submitted may depend on earlier answers",
    ]
    if entry.answer.failures:
        lines.append(
            f"failures    {counted(entry.answer.failures, 'attempt')} could not be judged: counted as not passed, which widens the ranges upwards"
        )
    return [*lines, f"ledger      entry {entry.index}, sha256 {entry.hash}"]


def _rule(rule: Rule) -> str:
    if rule.kind == "threshold":
        return f"only whether the pass rate reaches {rule.threshold:g}"
    if rule.kind == "ladder":
        return f"the best pass rate so far, raised only by more than {rule.step:g} (Ladder)"
    return f"the pass rate rounded to {rule.step:g}"


def _said(rule: Rule, answer: Answer) -> str:
    if rule.kind == "threshold":
        return f"the pass rate {'reaches' if answer.reached else 'does not reach'} {rule.threshold:g}"
    if rule.kind == "ladder":
        return f"best pass rate so far {answer.value:g}" + (
            " (this look)" if answer.reached else " (not beaten by this look)"
        )
    return f"pass rate {answer.value:g} (rounded to {rule.step:g})"


def _interval(found: LookIntervals) -> str:
    return f"new data [{found.planned.low:.4f}, {found.planned.high:.4f}], adaptive [{found.adaptive.low:.4f}, {found.adaptive.high:.4f}]"


def _percent(confidence: float) -> str:
    return f"{100 * confidence:.6g} %"


def _whose(entry: Entry) -> str:
    from lockedroom.visible import visible

    submitted = entry.submitted
    assert submitted is not None  # the entry is a look
    pinned = submitted.manifest_sha256 or submitted.completions_sha256
    what = f"run {submitted.run_id}, manifest" if submitted.run_id else "sha256"
    return f"{visible(submitted.name, 120)}" + (f" ({what} {pinned[:16]}…)" if pinned else "")


def _reason(text: str) -> str:
    from lockedroom.errors import BadInput

    if not text.strip():
        raise BadInput("--reason: say why, in a few words; it stays in the ledger")
    return text.strip()


def _who() -> str:
    import getpass
    import platform

    return f"{getpass.getuser()}@{platform.node()}"
