"""`lockedroom select`: Loop B."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lockedroom.cli.backend_flags import add_backend_flags, backend_of
from lockedroom.cli.on import add_on_flag, opened_engine

if TYPE_CHECKING:
    from lockedroom.loops.configuration import EvaluateConfig
    from lockedroom.loops.engine import Engine
    from lockedroom.loops.select import Selected
    from lockedroom.loops.select_opening import SelectConfig

DESCRIPTION = """Loop B. Picks one of n draws with a selector and says what that bought: the policy does not change. From a
finished run with several draws (--run), or from draws made now (--dataset with --policy or --completions, and --draws),
which become a run of their own beside --out."""
SELECTORS = """first, random, best-of-n, logprob, mean-logprob, majority-vote, weighted-vote, proxy:SCORER, kl-regularized,
rejection-sampling, or your own as path/to/file.py:Class; viable-sampling and viable-beam search the policy's tokens by
what --measure says can still be well formed, and beam searches them by probability alone"""

SEARCHES = ("viable-sampling", "viable-beam", "beam")


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
    add("--width", type=int, default=2, metavar="W", help="beams of viable-beam and beam (default 2)")
    add("--temperature", type=float, metavar="T", help="with --policy")
    add("--max-tokens", type=int, metavar="N", help="with --policy: token limit (default: what the context leaves)")
    add("--exact", action="store_true", help="with --policy: also exact pass@k, from its probabilities")
    add("--selector", required=True, metavar="S", help=SELECTORS)
    add("--measure", metavar="SCORER", help="what picks are judged by (default: the run's scorer; final-int)")
    add("--n", metavar="1,2,4", help="how many draws the selector sees (default: 1, 2, 4, … and all)")
    add("--confirm", nargs="?", const="", metavar="RUN",
        help="measure the best n again on fresh draws: those of RUN, or (with --policy) made now with another seed")  # fmt: skip
    add("--parse", metavar="SCORER", help="what reads the answers that vote (default: --measure, else final-int)")
    add("--beta", type=float, default=0.1, metavar="B", help="of kl-regularized (default 0.1)")
    add("--tie-break", choices=("logprob", "random", "shorter"), default="logprob",
        help="among equals: the more probable (default), one that knows nothing of them, or the shorter; part of the knob")  # fmt: skip
    add("--verifier-errors", metavar="FPR,FNR|AUDIT",
        help="error rates of the verifier, for the predicted curve: two rates, or an audit folder of it")  # fmt: skip
    add("--unequal", choices=("refuse", "common-minimum"), default="refuse",
        help="when failures leave examples with unequal draws: refuse (default), or curves up to the least number")  # fmt: skip
    add("--seed", type=int, default=0, metavar="S", help="of the draws, of random and of the bands (default 0)")
    add("--confidence", type=float, default=0.95, metavar="C", help="of every interval (default 0.95)")
    add("--plots", metavar="FOLDER", help="also draw the curves as SVG and PNG (needs the extra [report])")
    add_on_flag(parser)
    add("--out", metavar="RUN", help="the run folder to write (default: runs/select-<time>)")
    add(
        "--resume",
        action="store_true",
        help="continue what an interrupted call with the same arguments began; needs --out",
    )
    add("--json", action="store_true", help="print the numbers as JSON")
    add_backend_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Select and print. Exit 0, or the code of the error raised."""
    import time

    from lockedroom.cli.progress import progress_bar
    from lockedroom.errors import BadInput
    from lockedroom.loops.select import select
    from lockedroom.loops.select_opening import require_selector

    out = Path(args.out) if args.out else Path("runs") / f"select-{time.strftime('%Y%m%d-%H%M%S')}"
    if args.resume and not args.out:
        raise BadInput("--resume: name the run to continue with --out RUN")
    until_pass = args.selector == "rejection-sampling" and args.policy and not _wants_curves(args)
    if args.on is not None and (until_pass or args.selector in SEARCHES):
        raise BadInput(f"--on: --selector {args.selector} decides while it draws, in one process; leave out --on")
    if args.selector in SEARCHES:
        return _search(args, out)
    if until_pass:
        return _draw_until_pass(args, out)
    require_selector(args.selector)
    ns, errors = _numbers(args.n), _rates(args.verifier_errors)
    if args.plots:
        from lockedroom.report.plots import require_matplotlib

        require_matplotlib()
    with opened_engine(args.on) as engine:
        pool, confirm = _pools(args, out, engine)
        config = _config(args, pool, confirm, ns=ns, errors=errors)
        with progress_bar("select") as progress:
            done = select(
                config, out, resume=_unfinished(args, out), engine=engine, command=sys.argv, progress=progress
            )
    if args.plots:
        from lockedroom.report.plots import write_plots

        write_plots(done.selection, Path(args.plots))
    _print(done, as_json=args.json)
    return 0


def _config(
    args: argparse.Namespace,
    pool: Path,
    confirm: str | None,
    *,
    ns: tuple[int, ...],
    errors: tuple[tuple[float, float] | None, str | None],
) -> SelectConfig:
    from lockedroom.loops.select_opening import SelectConfig

    rates, audit = errors
    return SelectConfig(
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
        verifier_errors=rates,
        verifier_audit=audit,
        tie_break=args.tie_break,
    )


def _search(args: argparse.Namespace, out: Path) -> int:
    from lockedroom.cli.json_output import print_json
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
        backend=backend_of(args),
        sampling=Sampling(
            temperature=1.0 if args.temperature is None else args.temperature,
            max_tokens=args.max_tokens,
            seed=args.seed,
        ),
    )
    with progress_bar("search") as progress:
        done = search(config, out, resume=_unfinished(args, out), command=sys.argv, progress=progress)
    if args.json:
        print_json({"run": str(done.path), "search": done.search, "summary": done.summary})
        return 0
    print(render_search(done.search, done.summary))
    print(f"run folder: {done.path}   check it: lockedroom verify {done.path}")
    return 0


def _wants_curves(args: argparse.Namespace) -> bool:
    """Whether something is asked for that needs every draw of every example."""
    return bool(args.n or args.confirm is not None or args.exact or args.plots or args.verifier_errors)


def _unfinished(args: argparse.Namespace, out: Path) -> bool:
    """Whether an interrupted call left a folder to be taken over."""
    return bool(args.resume) and (out / "config.toml").is_file()


def _draw_until_pass(args: argparse.Namespace, out: Path) -> int:
    from lockedroom.cli.json_output import print_json
    from lockedroom.cli.progress import progress_bar
    from lockedroom.errors import BadInput
    from lockedroom.loops.select_adaptive import draw_until_pass
    from lockedroom.results.adaptive import render_adaptive

    if args.source is not None or args.completions is not None or args.dataset is None or args.draws is None:
        raise BadInput(
            "--selector rejection-sampling with --policy: give --dataset FILE and --draws N, the most draws an example may have"
        )
    with progress_bar("draw until pass") as progress:
        done = draw_until_pass(
            _evaluate_config(args, args.seed), out, resume=_unfinished(args, out), command=sys.argv, progress=progress
        )
    if args.json:
        print_json({"run": str(done.path), "adaptive": done.adaptive, "summary": done.summary})
        return 0
    print(render_adaptive(done.adaptive, done.summary.confidence))
    print(f"run folder: {done.path}   check it: lockedroom verify {done.path}")
    return 0


def _pools(args: argparse.Namespace, out: Path, engine: Engine | None) -> tuple[Path, str | None]:
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
    pool = _draw(args, out.with_name(f"{out.name}-pool"), args.seed, engine)
    if args.confirm != "":
        return pool, args.confirm
    return pool, str(_draw(args, out.with_name(f"{out.name}-fresh"), _other_seed(args.seed), engine))


def _draw(args: argparse.Namespace, out: Path, seed: int, engine: Engine | None) -> Path:
    from lockedroom.cli.progress import progress_bar
    from lockedroom.loops.evaluate import evaluate

    config = _evaluate_config(args, seed)
    if args.resume and (out / "manifest.json").is_file():
        _require_same(config, out)
        return out
    with progress_bar("draw") as progress:
        evaluate(config, out, resume=_unfinished(args, out), engine=engine, command=sys.argv, progress=progress)
    return out


def _require_same(config: EvaluateConfig, out: Path) -> None:
    """Refuse draws that a call with other arguments made."""
    import msgspec

    from lockedroom.errors import BadInput
    from lockedroom.loops.configuration import read_config

    made = read_config({}, {}, resumed=out)
    settled = {name: getattr(made, name) for name in ("scorer_sha256", "scorer_fingerprint")}
    if msgspec.structs.replace(config, draws=config.draws or made.draws, **settled) != made:
        raise BadInput(f"{out}: its draws were made with other arguments; resume with those, or choose another --out")


def _evaluate_config(args: argparse.Namespace, seed: int) -> EvaluateConfig:
    from lockedroom.loops.configuration import EvaluateConfig
    from lockedroom.records import Sampling

    temperature = 1.0 if args.temperature is None else args.temperature
    return EvaluateConfig(
        dataset=args.dataset,
        policy=args.policy,
        completions=args.completions,
        scorer=args.measure or "final-int",
        draws=args.draws,
        limit=args.limit,
        exact=args.exact,
        confidence=args.confidence,
        sampling=Sampling() if args.completions else Sampling(temperature=temperature, seed=seed),
    )


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


def _rates(text: str | None) -> tuple[tuple[float, float] | None, str | None]:
    """Return two rates, or the name of an audit folder."""
    from lockedroom.errors import BadInput

    if text is None:
        return None, None
    if Path(text).is_dir():
        return None, text
    try:
        false_positive, false_negative = (float(part) for part in text.split(","))
    except ValueError:
        raise BadInput(
            f"--verifier-errors {text!r}: give two rates, FPR,FNR, e.g. 0.05,0, or an audit folder"
        ) from None
    return (false_positive, false_negative), None


def _print(done: Selected, *, as_json: bool) -> None:
    from lockedroom.cli.json_output import print_json
    from lockedroom.results.selection_rendering import render_selection

    if as_json:
        print_json({"run": str(done.path), "selection": done.selection})
        return
    print(render_selection(done.selection))
    drawn = done.source.timing
    print(f"{drawn.attempts:,} draws took {drawn.seconds:.2f} s, choosing {done.manifest.timing.seconds:.2f} s")
    print(f"run folder: {done.path}   check it: lockedroom verify {done.path}")
