"""`lockedroom tokens`: how texts split and how probable they are, the format tax, and a run's records token by token."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lockedroom.cli.backend_flags import add_backend_flags, backend_config, backend_of
from lockedroom.cli.json_output import print_json
from lockedroom.wording import counted

if TYPE_CHECKING:
    from lockedroom.loops.microscope.reading import FormatTax, TextReading
    from lockedroom.protocols import TokenPolicy


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "tokens",
        help="read a policy's distribution: tokens of a text, their probabilities, the format tax, a run's records",
        description="Without a prompt: how each text splits into tokens. With one: how probable each is, ranked. With "
        "--run: that run's completions token by token, under its policy and a reference.",
    )
    parser.add_argument("text", nargs="*", metavar="TEXT", help=r"a text; \n stands for a newline")
    parser.add_argument(
        "--policy", metavar="NAME", help="a policy with probabilities (default tiny; with --run, the one that it names)"
    )
    parser.add_argument("--prompt", metavar="TEXT", help="what comes before")
    parser.add_argument(
        "--answer", metavar="N", help="the right number: also read it in a dozen spellings (needs --prompt)"
    )
    parser.add_argument("--temperature", type=float, metavar="T", help="default 1")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of PyTorch (default 1)")
    parser.add_argument("--json", action="store_true", help="print the readings as JSON")
    add = parser.add_argument_group("a run's records").add_argument
    add(
        "--run",
        dest="records_of",
        metavar="RUN",
        help="a finished run whose records hold token ids; a learning run too",
    )
    add("--id", action="append", metavar="ID", help="only this example (may be repeated)")
    add("--draw", type=int, metavar="K", help="only this draw")
    add("--code", metavar="C", help="only records with this code")
    add("--step", type=int, metavar="S", help="only this step of a learning run")
    add("--show", type=int, metavar="N", help="how many, from the first (default 3)")
    add("--reference", metavar="NAME", help="what KL is measured to (default: what a learned policy was learned from)")
    add_backend_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the readings; exit 0."""
    from lockedroom.errors import BadInput
    from lockedroom.loops.microscope.reading import read_spellings, read_texts
    from lockedroom.loops.opening.policy import open_token_policy
    from lockedroom.records import Example, Sampling
    from lockedroom.scorer.builtin import find_builtin

    if args.records_of is not None:
        return _run_records(args)
    _refuse(args, ("id", "draw", "code", "step", "show", "reference"), "goes with --run RUN")
    texts = [text.replace("\\n", "\n") for text in args.text]
    if not texts and args.answer is None:
        raise BadInput("nothing to read: give a TEXT, or --prompt and --answer")
    if args.answer is not None and args.prompt is None:
        raise BadInput("--answer needs --prompt: the spellings are read after a prompt")
    policy = open_token_policy(args.policy or "tiny", threads=args.threads, backend=backend_of(args))
    sampling = Sampling() if args.temperature is None else Sampling(temperature=args.temperature)
    tax = None
    if args.answer is None:
        readings = read_texts(policy, texts, args.prompt, sampling)
    else:
        scorer = find_builtin("final-int")
        assert scorer is not None
        example = Example(id="tokens", prompt=args.prompt, expected_answer=args.answer)
        readings, tax = read_spellings(policy, scorer, example, texts, sampling)
    if args.json:
        found = {"policy": policy.spec, "prompt": args.prompt, "readings": readings, "format_tax": tax}
        print_json(found)
        return 0
    _print(policy, readings, tax, args.prompt)
    return 0


def _run_records(args: argparse.Namespace) -> int:
    from pathlib import Path

    from lockedroom.cli.microscope import require_torch
    from lockedroom.errors import BadInput

    _refuse(args, ("prompt", "answer", "temperature"), "does not go with --run, which reads what was drawn")
    if args.text:
        raise BadInput("a TEXT does not go with --run, which reads what was drawn; leave one of them out")
    if args.show is not None and args.show < 1:
        raise BadInput(f"--show {args.show}: must be at least 1")
    require_torch("the token X-ray")
    from lockedroom.loops.microscope.xray import SHOWN, Wanted, xray_run
    from lockedroom.results.microscope.xray import render_xrays

    wanted = Wanted(tuple(args.id or ()), args.draw, args.code, args.step, args.show or SHOWN)
    xrays = xray_run(
        Path(args.records_of),
        wanted,
        policy=args.policy,
        reference=args.reference,
        threads=args.threads,
        backend=backend_config(args).get("backend"),
    )
    print_json(xrays) if args.json else print(render_xrays(xrays))
    return 0


def _refuse(args: argparse.Namespace, names: Sequence[str], why: str) -> None:
    from lockedroom.errors import BadInput

    for name in names:
        if getattr(args, name) is not None:
            raise BadInput(f"--{name} {why}")


def _print(policy: TokenPolicy, readings: Sequence[TextReading], tax: FormatTax | None, prompt: str | None) -> None:
    from lockedroom.results.microscope.xray import shown_piece
    from lockedroom.results.text_table import text_table
    from lockedroom.visible import visible

    if prompt is None:
        for reading in readings:
            _print_split(reading)
        return
    pieces = " · ".join(shown_piece(token.piece) for token in policy.tokens(prompt))
    print(f"after the prompt ({counted(len(policy.prompt_ids(prompt)), 'token')}, start included): {pieces}\n")
    rows = []
    for reading in readings:
        if reading.problem is not None:
            rows.append((shown_piece(reading.text, limit=60), "", "", "", "", visible(reading.problem, 80)))
            continue
        probability, canonical = reading.probability or 0.0, reading.canonical or 0.0
        odd = 1 - canonical / probability if probability else 0.0
        paid = "" if reading.accepted is None else ("yes" if reading.accepted else "no")
        rows.append(
            (
                shown_piece(reading.text, limit=60),
                f"{probability:.6f}" if probability >= 1e-6 else f"{probability:.1e}",
                f"{sum(reading.token_logprobs):.3f}",
                f"{odd:.2%}",
                paid,
                _steps(reading),
            )
        )
    header = (
        "text",
        "probability",
        "logprob",
        "odd tokenisations",
        "paid" if tax else "",
        "canonical tokens, with logprobs in nats",
    )
    print("\n".join(text_table(header, rows, numbers=(1, 2, 3))))
    if tax is not None:
        print(
            f"\nThe right number in any of these spellings: {tax.any_spelling:.4g}. final-int pays {tax.accepted:.4g} of it",
            end="",
        )
        print("." if tax.tax is None else f": the format tax is {tax.tax:.1%}.")


def _steps(reading: TextReading) -> str:
    from lockedroom.results.microscope.xray import shown_piece

    pieces = [*(shown_piece(token.piece) for token in reading.tokens), "(end)"]
    return " · ".join(f"{piece} ({step:.2f})" for piece, step in zip(pieces, reading.token_logprobs, strict=True))


def _print_split(reading: TextReading) -> None:
    from lockedroom.results.microscope.xray import shown_piece
    from lockedroom.results.text_table import text_table
    from lockedroom.visible import visible

    print(
        f"{visible(reading.text, 200)}   {counted(len(reading.tokens), 'token')}"
        + (f"   ({visible(reading.problem, 200)})" if reading.problem else "")
    )
    rows = [(str(token.id), shown_piece(token.piece), f"{token.start}–{token.end}") for token in reading.tokens]
    if rows:
        print("\n".join(text_table(("id", "piece", "span"), rows, numbers=(0,))) + "\n")
