"""`lockedroom select`: Loop B."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lockedroom.cli.backend_flags import add_backend_flags
from lockedroom.cli.on import add_on_flag, opened_engine
from lockedroom.cli.sampling_flags import add_sampling_flags
from lockedroom.cli.select_flags import (
    SEARCHES,
    evaluate_config,
    refuse_idle_flags,
    search_config,
    select_config,
    stops_drawing,
)
from lockedroom.wording import counted

if TYPE_CHECKING:
    from lockedroom.loops.evaluating.configuration import EvaluateConfig
    from lockedroom.loops.opening.engine import Engine
    from lockedroom.loops.select import Selected

DESCRIPTION = """Loop B. Picks one of n draws with a selector and says what that bought: the policy does not change. From a
finished run with several draws (--run), or from draws made now (--dataset with --policy or --completions, and --draws),
which become a run of their own beside --out."""
SELECTORS = """first, random, best-of-n, logprob, mean-logprob, majority-vote, weighted-vote, proxy:SCORER, kl-regularized,
rejection-sampling, or your own as path/to/file.py:Class; viable-sampling and viable-beam search the policy's tokens by
what --measure says can still be well formed, and beam searches them by probability alone"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "select", help="choose among draws, and measure what choosing really buys", description=DESCRIPTION
    )
    add = parser.add_argument
    _add_source(parser)
    add("--selector", required=True, metavar="S", help=SELECTORS)
    add("--measure", metavar="SCORER", help="what picks are judged by (default: the run's scorer; final-int)")
    add("--n", metavar="1,2,4", help="how many draws the selector sees (default: 1, 2, 4, … and all)")
    add("--confirm", nargs="?", const="", metavar="RUN",
        help="measure the best n again on fresh draws: those of RUN, or (with --policy) made now with another seed")  # fmt: skip
    add("--parse", metavar="SCORER", help="what reads the answers that vote (default: --measure, else final-int)")
    add("--beta", type=float, metavar="B", help="of kl-regularized (default 0.1)")
    add("--width", type=int, metavar="W", help="beams of viable-beam and beam (default 2)")
    add("--tie-break", choices=("logprob", "random", "shorter"),
        help="among equals: the more probable (default), one that knows nothing of them, or the shorter; part of the knob")  # fmt: skip
    add("--verifier-errors", metavar="FPR,FNR|AUDIT",
        help="error rates of the verifier, for the predicted curve: two rates, or an audit folder of it")  # fmt: skip
    add("--unequal", choices=("refuse", "common-minimum"),
        help="when failures leave examples with unequal draws: refuse (default), or curves up to the least number")  # fmt: skip
    add("--seed", type=int, default=0, metavar="S", help="of the draws, of random and of the bands (default 0)")
    add("--confidence", type=float, default=0.95, metavar="C", help="of every interval (default 0.95)")
    add(
        "--scorer-timeout",
        type=float,
        metavar="SECONDS",
        help="for one call of your own scorer or selector (default 5)",
    )
    add("--scorer-memory", type=int, metavar="MB", help="that your own scorer or selector may allocate (default 512)")
    add("--plots", metavar="FOLDER", help="also draw the curves as SVG and PNG (needs the extra [report])")
    add_on_flag(parser)
    add("--out", metavar="RUN", help="the run folder to write (default: runs/select-<time>)")
    add(
        "--resume",
        action="store_true",
        help="continue what an interrupted call with the same arguments began; needs --out",
    )
    add("--json", action="store_true", help="print the numbers as JSON")
    _add_sampling(parser)
    parser.set_defaults(run=run)


def _add_source(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--run", metavar="RUN", dest="source", help="a finished run whose draws to choose from")
    add("--dataset", metavar="FILE", help="instead of --run: examples to draw completions for")
    add("--policy", metavar="NAME", help="with --dataset: whom to draw from, as for evaluate")
    add("--completions", metavar="FILE", help="with --dataset: recorded completions, as for evaluate")
    add("--draws", type=int, metavar="N", help="with --dataset: completions an example")
    add("--limit", type=int, metavar="N", help="with --dataset: only the first N examples")
    add("--split", metavar="NAME", help="with --dataset: name of the dataset split (default: the file's stem)")
    add(
        "--declare",
        action="append",
        metavar="KEY=VALUE",
        help="with --completions: how they were drawn, as for evaluate",
    )


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how a live policy is sampled (with --policy)")
    add_sampling_flags(group)
    group.add_argument(
        "--exact", action="store_true", default=None, help="also exact pass@k, from the policy's probabilities"
    )
    add_backend_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Select and print. Exit 0, or the code of the error raised."""
    from lockedroom.errors import BadInput
    from lockedroom.loops.selecting.opening import require_selector
    from lockedroom.results.run_folder import default_folder

    out = Path(args.out) if args.out else default_folder("select")
    if args.resume and not args.out:
        raise BadInput("--resume: name the run to continue with --out RUN")
    if args.selector not in SEARCHES:
        require_selector(args.selector, SEARCHES)
    refuse_idle_flags(args)
    if args.selector in SEARCHES:
        return _search(args, out)
    if stops_drawing(args):
        return _draw_until_pass(args, out)
    return _select(args, out)


def _select(args: argparse.Namespace, out: Path) -> int:
    from lockedroom.cli.progress import progress_bar, records_of
    from lockedroom.loops.select import select
    from lockedroom.loops.selecting.opening import check_before_drawing

    _require_source(args)
    check_before_drawing(select_config(args, out, None), None if args.source else args.draws)
    if args.plots is not None:
        from lockedroom.report.plots import require_matplotlib, require_plots_folder

        require_matplotlib()
        require_plots_folder(Path(args.plots))
    with opened_engine(args.on) as engine:
        pool, confirm = _pools(args, out, engine)
        with progress_bar("select", total=lambda: records_of(pool)) as progress:
            done = select(
                select_config(args, pool, confirm), out, resume=_unfinished(args, out), engine=engine, command=sys.argv,
                progress=progress,
            )  # fmt: skip
    if args.plots is not None:
        from lockedroom.report.plots import write_plots

        write_plots(done.selection, Path(args.plots))
    _print(done, as_json=args.json)
    return 0


def _search(args: argparse.Namespace, out: Path) -> int:
    from lockedroom.cli.json_output import print_json
    from lockedroom.cli.progress import attempts_of, progress_bar
    from lockedroom.loops.selecting.search import search
    from lockedroom.results.selection.search import render_search

    config = search_config(args)
    with progress_bar("search", total=lambda: attempts_of(Path(config.dataset), 1, config.limit)) as progress:
        done = search(config, out, resume=_unfinished(args, out), command=sys.argv, progress=progress)
    if args.json:
        print_json({"run": str(done.path), "search": done.search, "summary": done.summary})
        return 0
    print(render_search(done.search, done.summary))
    print(f"run folder: {done.path}   check it: lockedroom verify {shlex.quote(str(done.path))}")
    return 0


def _unfinished(args: argparse.Namespace, out: Path) -> bool:
    """Whether an interrupted call left a folder to be taken over."""
    return bool(args.resume) and (out / "config.toml").is_file()


def _draw_until_pass(args: argparse.Namespace, out: Path) -> int:
    from lockedroom.cli.json_output import print_json
    from lockedroom.cli.progress import progress_bar
    from lockedroom.errors import BadInput
    from lockedroom.loops.selecting.adaptive import draw_until_pass
    from lockedroom.results.selection.adaptive import render_adaptive

    if args.dataset is None or args.draws is None:
        raise BadInput(
            "--selector rejection-sampling with --policy: give --dataset FILE and --draws N, the most draws an example may have"
        )
    with progress_bar("draw until pass") as progress:
        done = draw_until_pass(
            evaluate_config(args), out, resume=_unfinished(args, out), command=sys.argv, progress=progress
        )
    if args.json:
        print_json({"run": str(done.path), "adaptive": done.adaptive, "summary": done.summary})
        return 0
    print(render_adaptive(done.adaptive, done.summary.confidence))
    print(f"run folder: {done.path}   check it: lockedroom verify {shlex.quote(str(done.path))}")
    return 0


def _require_source(args: argparse.Namespace) -> None:
    from lockedroom.errors import BadInput

    if (args.source is None) == (args.dataset is None):
        raise BadInput("name what to choose from: either --run RUN, or --dataset FILE with --policy or --completions")
    if args.selector == "kl-regularized" and args.policy is not None:
        raise BadInput(
            "--selector kl-regularized: needs what a reference policy says of each draw, which live draws do not record; choose "
            "from recorded completions with ref_logprob, or with --run from the runs of a learning run (RUN/learned)"
        )
    if args.confirm == "" and args.source is not None:
        raise BadInput("--confirm: name a run of fresh draws of the same policy: --confirm RUN")
    if args.confirm == "" and args.completions is not None:
        raise BadInput("--confirm: recorded completions cannot be drawn again; name a run of fresh ones: --confirm RUN")


def _pools(args: argparse.Namespace, out: Path, engine: Engine | None) -> tuple[Path, str | None]:
    """Return the run to choose from and the one to confirm with; draws that are not there yet are made."""
    from lockedroom.results.run_folder import require_new

    if not args.resume:
        require_new(out)
    if args.source is not None:
        return Path(args.source), args.confirm
    pool = _draw(args, out.with_name(f"{out.name}-pool"), evaluate_config(args), engine)
    if args.confirm != "":
        return pool, args.confirm
    return pool, str(_draw(args, out.with_name(f"{out.name}-fresh"), evaluate_config(args, fresh=True), engine))


def _draw(args: argparse.Namespace, out: Path, config: EvaluateConfig, engine: Engine | None) -> Path:
    from lockedroom.cli.progress import progress_bar
    from lockedroom.loops.evaluate import evaluate

    if args.resume and (out / "manifest.json").is_file():
        _require_same(config, out)
        return out
    with progress_bar("draw", total=lambda: _attempts(config)) as progress:
        evaluate(config, out, resume=_unfinished(args, out), engine=engine, command=sys.argv, progress=progress)
    return out


def _attempts(config: EvaluateConfig) -> int | None:
    from lockedroom.cli.progress import attempts_of, recorded_attempts

    dataset = Path(config.dataset)
    if config.draws is None and config.completions is not None:
        return recorded_attempts(dataset, Path(config.completions), config.limit)
    return attempts_of(dataset, config.draws or 1, config.limit)


def _require_same(config: EvaluateConfig, out: Path) -> None:
    """Refuse draws that a call with other arguments made."""
    import msgspec

    from lockedroom.errors import BadInput
    from lockedroom.loops.evaluating.configuration import read_config

    made = read_config({}, {}, resumed=out)
    settled = {name: getattr(made, name) for name in ("scorer_sha256", "scorer_fingerprint")}
    if msgspec.structs.replace(config, draws=config.draws or made.draws, **settled) != made:
        raise BadInput(f"{out}: its draws were made with other arguments; resume with those, or choose another --out")


def _print(done: Selected, *, as_json: bool) -> None:
    from lockedroom.cli.json_output import print_json
    from lockedroom.results.selection.rendering import render_selection

    if as_json:
        print_json({"run": str(done.path), "selection": done.selection})
        return
    print(render_selection(done.selection))
    drawn = done.source.timing
    print(
        f"{counted(drawn.attempts, 'draw')} took {drawn.seconds:.2f} s, choosing {done.manifest.timing.seconds:.2f} s"
    )
    print(f"run folder: {done.path}   check it: lockedroom verify {shlex.quote(str(done.path))}")
