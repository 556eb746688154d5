"""`lockedroom tokens TEXT…`: how texts split, how probable they are after a prompt, and the format tax."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lockedroom.cli.backend_flags import add_backend_flags, backend_of

if TYPE_CHECKING:
    from lockedroom.loops.reading import FormatTax, TextReading
    from lockedroom.protocols import TokenPolicy


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "tokens",
        help="read a policy's distribution: tokens of a text, their probabilities, the format tax",
        description="Without a prompt: how each text splits into tokens. With one: how probable each is, ranked.",
    )
    parser.add_argument("text", nargs="*", metavar="TEXT", help=r"a text; \n stands for a newline")
    parser.add_argument("--policy", default="tiny", metavar="NAME", help="a policy with probabilities (default tiny)")
    parser.add_argument("--prompt", metavar="TEXT", help="what comes before")
    parser.add_argument(
        "--answer", metavar="N", help="the right number: also read it in a dozen spellings (needs --prompt)"
    )
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help="default 1")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of PyTorch (default 1)")
    parser.add_argument("--json", action="store_true", help="print the readings as JSON")
    add_backend_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the readings; exit 0."""
    from lockedroom.errors import BadInput
    from lockedroom.loops.opening_policy import open_token_policy
    from lockedroom.loops.reading import read_spellings, read_texts
    from lockedroom.records import Example, Sampling
    from lockedroom.results.run_folder import indented_json
    from lockedroom.scorer.builtin import find_builtin

    texts = [text.replace("\\n", "\n") for text in args.text]
    if not texts and args.answer is None:
        raise BadInput("nothing to read: give a TEXT, or --prompt and --answer")
    if args.answer is not None and args.prompt is None:
        raise BadInput("--answer needs --prompt: the spellings are read after a prompt")
    policy = open_token_policy(args.policy, threads=args.threads, backend=backend_of(args))
    sampling = Sampling(temperature=args.temperature)
    tax = None
    if args.answer is None:
        readings = read_texts(policy, texts, args.prompt, sampling)
    else:
        scorer = find_builtin("final-int")
        assert scorer is not None
        example = Example(id="tokens", prompt=args.prompt, expected_answer=args.answer)
        readings, tax = read_spellings(policy, scorer, example, texts, sampling)
    if args.json:
        print(
            indented_json(
                {"policy": policy.spec, "prompt": args.prompt, "readings": readings, "format_tax": tax}
            ).decode(),
            end="",
        )
        return 0
    _print(policy, readings, tax, args.prompt)
    return 0


def _print(policy: TokenPolicy, readings: Sequence[TextReading], tax: FormatTax | None, prompt: str | None) -> None:
    from lockedroom.results.text_table import text_table
    from lockedroom.visible import visible

    if prompt is None:
        for reading in readings:
            _print_split(reading)
        return
    pieces = " · ".join(visible(token.piece) for token in policy.tokens(prompt))
    print(f"after the prompt ({len(policy.prompt_ids(prompt))} tokens, start included): {pieces}\n")
    rows = []
    for reading in readings:
        if reading.problem is not None:
            rows.append((visible(reading.text, 60), "", "", "", "", visible(reading.problem, 80)))
            continue
        probability, canonical = reading.probability or 0.0, reading.canonical or 0.0
        odd = 1 - canonical / probability if probability else 0.0
        paid = "" if reading.accepted is None else ("yes" if reading.accepted else "no")
        rows.append(
            (
                visible(reading.text, 60),
                f"{probability:.6f}",
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
            f"\nThe right number in any of these spellings: {tax.any_spelling:.4f}. final-int pays {tax.accepted:.4f} of it",
            end="",
        )
        print("." if tax.tax is None else f": the format tax is {tax.tax:.1%}.")


def _steps(reading: TextReading) -> str:
    from lockedroom.visible import visible

    pieces = [visible(token.piece) for token in reading.tokens] + ["(end)"]
    return " · ".join(f"{piece} ({step:.2f})" for piece, step in zip(pieces, reading.token_logprobs, strict=True))


def _print_split(reading: TextReading) -> None:
    from lockedroom.results.text_table import text_table
    from lockedroom.visible import visible

    print(
        f"{visible(reading.text, 200)}   {len(reading.tokens)} tokens"
        + (f"   ({visible(reading.problem, 200)})" if reading.problem else "")
    )
    rows = [(str(token.id), visible(token.piece), f"{token.start}–{token.end}") for token in reading.tokens]
    if rows:
        print("\n".join(text_table(("id", "piece", "span"), rows, numbers=(0,))) + "\n")
