"""`lockedroom select`: Loop B."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lockedroom.loops.select import Selected

DESCRIPTION = """Loop B. Picks one of n draws with a selector and says what that bought: the policy does not change. From a
finished run with several draws (--run), or from draws made now (--dataset with --policy or --completions, and --draws),
which become a run of their own beside --out."""
SELECTORS = """first, random, best-of-n, logprob, mean-logprob, majority-vote, weighted-vote, proxy:SCORER, kl-regularized,
rejection-sampling, or your own as path/to/file.py:Class; viable-sampling and viable-beam search the policy's tokens by
what --measure says can still be well formed"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "select", help="choose among draws, and measure what choosing really buys", description=DESCRIPTION
    )
    add = parser.add_argument
    add("--run", metavar="RUN", dest="source", help="a finished run whose draws to choose from")
    add("--dataset", metavar="FILE", help="instead of --run: examples to draw completions for")
    add("--policy", metavar="NAME", help="with --dataset: whom to draw from, as for evaluate")
    add("--completions", metavar="FILE", help="with --dataset: recorded completions, as for evaluate")
    add("--draws", type=int, metavar="N", help="with --dataset: completions an example")
    add("--limit", type=int, metavar="N", help="with --dataset: only the first N examples")
    add("--width", type=int, default=2, metavar="W", help="beams of viable-beam (default 2)")
    add("--temperature", type=float, metavar="T", help="with --policy")
    add("--exact", action="store_true", help="with --policy: also exact pass@k, from its probabilities")
    add("--selector", required=True, metavar="S", help=SELECTORS)
    add("--measure", metavar="SCORER", help="what picks are judged by (default: the run's scorer; final-int)")
    add("--n", metavar="1,2,4", help="how many draws the selector sees (default: 1, 2, 4, … and all)")
    add("--confirm", nargs="?", const="", metavar="RUN",
        help="measure the best n again on fresh draws: those of RUN, or (with --policy) made now with another seed")  # fmt: skip
    add("--parse", metavar="SCORER", help="what reads the answers that vote (default: --measure, else final-int)")
    add("--beta", type=float, default=0.1, metavar="B", help="of kl-regularized (default 0.1)")
    add("--verifier-errors", metavar="FPR,FNR", help="error rates of the verifier, for the predicted curve")
    add("--unequal", choices=("refuse", "common-minimum"), default="refuse",
        help="when failures leave examples with unequal draws: refuse (default), or curves up to the least number")  # fmt: skip
    add("--seed", type=int, default=0, metavar="S", help="of the draws, of random and of the bands (default 0)")
    add("--confidence", type=float, default=0.95, metavar="C", help="of every interval (default 0.95)")
    add("--plots", metavar="FOLDER", help="also draw the curves as SVG and PNG (needs the extra [report])")
    add("--out", metavar="RUN", help="the run folder to write (default: runs/select-<time>)")
    add("--json", action="store_true", help="print the numbers as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Select and print. Exit 0, or the code of the error raised."""
    import time

    from lockedroom.cli.progress import progress_bar
    from lockedroom.loops.select import select
    from lockedroom.loops.select_opening import SelectConfig

    out = Path(args.out) if args.out else Path("runs") / f"select-{time.strftime('%Y%m%d-%H%M%S')}"
    if args.selector in ("viable-sampling", "viable-beam"):
        return _search(args, out)
    ns, verifier_errors = _numbers(args.n), _rates(args.verifier_errors)
    if args.plots:
        from lockedroom.report.plots import require_matplotlib

        require_matplotlib()
    pool, confirm = _pools(args, out)
    config = SelectConfig(
        run=str(pool),
        selector=args.selector,
        measure=args.measure,
        parse=args.parse,
        confirm=confirm,
        seed=args.seed,
        beta=args.beta,
        confidence=args.confidence,
        unequal="refuse" if args.unequal == "refuse" else "common minimum",
        ns=ns,
        verifier_errors=verifier_errors,
    )
    with progress_bar("select") as progress:
        done = select(config, out, command=sys.argv, progress=progress)
    if args.plots:
        from lockedroom.report.plots import write_plots

        write_plots(done.selection, Path(args.plots))
    _print(done, as_json=args.json)
    return 0


def _search(args: argparse.Namespace, out: Path) -> int:
    from lockedroom.cli.compare import print_json
    from lockedroom.cli.progress import progress_bar
    from lockedroom.errors import BadInput
    from lockedroom.loops.search import SearchConfig, search
    from lockedroom.records import Sampling
    from lockedroom.results.search import render_search

    if args.dataset is None or args.policy is None:
        raise BadInput(
            f"--selector {args.selector}: draws token by token, so it needs --dataset FILE and --policy NAME"
        )
    if args.n or args.confirm is not None or args.plots or args.exact or args.completions:
        raise BadInput(
            f"--selector {args.selector}: takes --draws or --width; leave out --n, --confirm, --plots, --exact"
        )
    config = SearchConfig(
        dataset=args.dataset,
        selector=args.selector,
        policy=args.policy,
        scorer=args.measure or "final-int",
        draws=args.draws,
        width=args.width,
        limit=args.limit,
        confidence=args.confidence,
        sampling=Sampling(temperature=1.0 if args.temperature is None else args.temperature, seed=args.seed),
    )
    with progress_bar("search") as progress:
        done = search(config, out, command=sys.argv, progress=progress)
    if args.json:
        print_json({"run": str(done.path), "search": done.search, "summary": done.summary})
        return 0
    print(render_search(done.search, done.summary))
    print(f"run folder: {done.path}   check it: lockedroom verify {done.path}")
    return 0


def _pools(args: argparse.Namespace, out: Path) -> tuple[Path, str | None]:
    """Return the run to choose from and the one to confirm with; draws that are not there yet are made."""
    from lockedroom.errors import BadInput

    if (args.source is None) == (args.dataset is None):
        raise BadInput("name what to choose from: either --run RUN, or --dataset FILE with --policy or --completions")
    if args.source is not None:
        if args.policy or args.completions or args.draws or args.limit or args.exact or args.temperature is not None:
            raise BadInput("--run: its draws are made already; leave out --policy, --completions, --draws and the like")
        if args.confirm == "":
            raise BadInput("--confirm: name a run of fresh draws of the same policy: --confirm RUN")
        return Path(args.source), args.confirm
    if args.completions and args.confirm == "":
        raise BadInput("--confirm: recorded completions cannot be drawn again; name a run of fresh ones: --confirm RUN")
    pool = _draw(args, out.with_name(f"{out.name}-pool"), args.seed)
    if args.confirm != "":
        return pool, args.confirm
    return pool, str(_draw(args, out.with_name(f"{out.name}-fresh"), _other_seed(args.seed)))


def _draw(args: argparse.Namespace, out: Path, seed: int) -> Path:
    from lockedroom.cli.progress import progress_bar
    from lockedroom.loops.configuration import EvaluateConfig
    from lockedroom.loops.evaluate import evaluate
    from lockedroom.records import Sampling

    temperature = 1.0 if args.temperature is None else args.temperature
    config = EvaluateConfig(
        dataset=args.dataset,
        policy=args.policy,
        completions=args.completions,
        scorer=args.measure or "final-int",
        draws=args.draws,
        limit=args.limit,
        exact=args.exact,
        sampling=Sampling() if args.completions else Sampling(temperature=temperature, seed=seed),
    )
    with progress_bar("draw") as progress:
        evaluate(config, out, command=sys.argv, progress=progress)
    return out


def _other_seed(seed: int) -> int:
    """A seed for fresh draws, hashed so that it is not one that somebody counts up to."""
    import hashlib

    digest = hashlib.blake2b(f"confirm/{seed}".encode(), digest_size=6, person=b"lockedroom-seed").digest()
    return int.from_bytes(digest)


def _numbers(text: str | None) -> tuple[int, ...]:
    from lockedroom.errors import BadInput

    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise BadInput(f"--n {text!r}: give whole numbers separated by commas, e.g. 1,2,4") from None


def _rates(text: str | None) -> tuple[float, float] | None:
    from lockedroom.errors import BadInput

    if text is None:
        return None
    try:
        false_positive, false_negative = (float(part) for part in text.split(","))
    except ValueError:
        raise BadInput(f"--verifier-errors {text!r}: give two rates, FPR,FNR, e.g. 0.05,0") from None
    return false_positive, false_negative


def _print(done: Selected, *, as_json: bool) -> None:
    from lockedroom.cli.compare import print_json
    from lockedroom.results.selection_rendering import render_selection

    if as_json:
        print_json({"run": str(done.path), "selection": done.selection})
        return
    print(render_selection(done.selection))
    drawn = done.source.timing
    print(f"{drawn.attempts:,} draws took {drawn.seconds:.2f} s, choosing {done.manifest.timing.seconds:.2f} s")
    print(f"run folder: {done.path}   check it: lockedroom verify {done.path}")
