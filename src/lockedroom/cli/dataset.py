"""`lockedroom dataset make arithmetic|reasoning-gym` and `lockedroom dataset check`."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lockedroom.errors import BadInput
from lockedroom.wording import counted

if TYPE_CHECKING:
    from lockedroom.dataset.describe import DatasetSummary
    from lockedroom.dataset.folder import WrittenSplit


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `dataset` and its commands; each sets `run`, which takes the parsed arguments and returns an exit code."""
    summary = "make a dataset, or check one"
    commands = subparsers.add_parser("dataset", help=summary, description=f"{summary.capitalize()}.").add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    _add_make(commands)
    _add_check(commands)


def run_make_arithmetic(args: argparse.Namespace) -> int:
    """Write the splits and print their files and hashes."""
    from lockedroom.dataset.arithmetic import TEMPLATE, ArithmeticConfig, write_dataset

    low, high = _digits(args.digits)
    config = ArithmeticConfig(
        operators=args.operators,
        min_digits=low,
        max_digits=high,
        template=TEMPLATE if args.template is None else args.template,
        seed=args.seed,
        train=args.train,
        dev=args.dev,
        holdout=args.holdout,
        non_negative=args.non_negative,
        metadata=args.metadata,
    )
    _print_written(write_dataset(config, args.out), args.out, as_json=args.json)
    return 0


def run_make_reasoning_gym(args: argparse.Namespace) -> int:
    """Write the splits and print their files and hashes."""
    from lockedroom.dataset.reasoning_gym import TEMPLATE, ReasoningGymConfig, write_reasoning_gym
    from lockedroom.scorer.final_int import accepts

    config = ReasoningGymConfig(
        task=args.task,
        settings=dict(map(_setting, args.set)),
        template=TEMPLATE if args.template is None else args.template,
        seed=args.seed,
        train=args.train,
        dev=args.dev,
        holdout=args.holdout,
    )
    _print_written(write_reasoning_gym(config, accepts, args.out), args.out, as_json=args.json)
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Validate each file, print what it holds, and check that no two share an example."""
    from lockedroom.dataset.describe import describe
    from lockedroom.dataset.load import first_refused_by
    from lockedroom.dataset.splits import check_disjoint
    from lockedroom.scorer.builtin import BUILTIN, find_builtin

    scorer = find_builtin(args.scorer)
    if scorer is None:
        raise BadInput(f"--scorer {args.scorer}: no such scorer; the built-in ones are {', '.join(BUILTIN)}")
    first_refused = first_refused_by(scorer.accepts)
    summaries = [describe(path, first_refused, scorer_name=args.scorer) for path in args.files]
    if len(args.files) > 1:
        check_disjoint(args.files)
    if args.json:
        _print_json(summaries, args.scorer)
    else:
        _print_text(summaries, args.scorer)
    return 0


def _add_make(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    kinds = commands.add_parser("make", help="make a dataset").add_subparsers(
        title="datasets", metavar="KIND", required=True
    )
    parser = kinds.add_parser(
        "arithmetic",
        help="sums, differences and products, in splits that share no problem",
        description="Write train.jsonl, dev.jsonl and holdout.jsonl, and dataset.toml, which says how they were made. "
        "The same values give the same bytes. No two splits share a problem, not even with its operands swapped.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder")
    parser.add_argument("--operators", default="+-*", help="some of + - * (write --operators=-* when - comes first)")
    parser.add_argument("--digits", default="1-2", metavar="LOW-HIGH", help="digits of an operand (default 1-2)")
    _add_sizes(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which problems are drawn (default 0)")
    parser.add_argument("--template", metavar="TEXT", help="the prompt, with {a}, {op} and {b} where they should stand")
    parser.add_argument("--non-negative", action="store_true", help="no difference below zero")
    parser.add_argument("--metadata", action="store_true", help="add a, op and b to each row as metadata")
    parser.set_defaults(run=run_make_arithmetic)
    _add_reasoning_gym(kinds)


def _add_reasoning_gym(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "reasoning-gym",
        help="a task of the reasoning-gym library whose answers are integers",
        description="As for arithmetic, from one of reasoning-gym's generators. Every answer has to be one that final-int "
        "accepts, or nothing is written. No two splits share a question. Needs the extra reasoning-gym.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder")
    parser.add_argument(
        "--task", required=True, metavar="NAME", help="such as chain_sum, products, gcd, lcm, leg_counting"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the task (repeatable)"
    )
    _add_sizes(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which questions are drawn (default 0)")
    parser.add_argument("--template", metavar="TEXT", help="the prompt, with {question} where it should stand")
    parser.set_defaults(run=run_make_reasoning_gym)


def _add_sizes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--train", type=int, default=1000, metavar="N", help="examples to train on (default 1000)")
    parser.add_argument("--dev", type=int, default=200, metavar="N", help="examples to choose with (default 200)")
    parser.add_argument("--holdout", type=int, default=200, metavar="N", help="examples to seal (default 200)")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def _add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "check",
        help="validate files, and refuse files that share an example",
        description="Read every row of each file, print what it holds and its hash, and name the first bad row. "
        "Several files are taken for splits: they may not share an example.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".jsonl, .csv, .parquet, or a saved folder")
    parser.add_argument("--scorer", default="final-int", metavar="NAME", help="must be able to judge every answer")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run_check)


def _print_written(written: Sequence[WrittenSplit], folder: Path, *, as_json: bool) -> None:
    if as_json:
        from lockedroom.cli.json_output import print_json

        print_json(
            {
                "folder": str(folder),
                "files": [
                    {"path": str(file.path), "examples": file.examples, "sha256": file.sha256} for file in written
                ],
            }
        )
        return
    for file in written:
        print(f"{file.path}: {counted(file.examples, 'example')}, sha256 {file.sha256}")
    print(f"{folder / 'dataset.toml'}: how they were made")
    print(f"Check them: lockedroom dataset check {shlex.join(str(file.path) for file in written)}")


def _setting(text: str) -> tuple[str, Any]:
    import tomllib

    name, _, value = text.partition("=")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        raise BadInput(f"--set {text!r}: write NAME=VALUE with a number, true, false or quoted text") from None


def _digits(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", text)
    if found is None:
        raise BadInput(f"--digits {text!r}: expected a number or a range, such as 2 or 1-2")
    return int(found[1]), int(found[2] or found[1])


def _print_json(summaries: Sequence[DatasetSummary], scorer: str) -> None:
    import msgspec

    # A single file has nothing to overlap with; overlapping files were refused before.
    disjoint = True if len(summaries) > 1 else None
    print(msgspec.json.encode({"scorer": scorer, "disjoint": disjoint, "files": summaries}).decode())


def _print_text(summaries: Sequence[DatasetSummary], scorer: str) -> None:
    for file in summaries:
        lengths = file.prompt_characters
        answers = ", ".join(f"{count:,} {kind}" for kind, count in file.answers.items())
        print(f"{file.path}: {counted(file.examples, 'example')}, each with an answer that {scorer} can judge")
        print(f"  answers   {answers}")
        print(f"  prompts   {lengths.min:,} to {counted(lengths.max, 'character')}, median {lengths.median:,}")
        print(f"  sha256    {file.sha256}")
    if len(summaries) > 1:
        print(f"The {counted(len(summaries), 'file shares', 'files share')} no example.")
