"""`lockedroom learn`: Loop C."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lockedroom.cli.backend_flags import add_backend_flags, backend_config
from lockedroom.cli.json_output import print_json

if TYPE_CHECKING:
    from lockedroom.loops.learn import Learned, Progress
    from lockedroom.results.learning.metrics import Evaluation, StepMetrics


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "learn",
        help="train a policy on verifiable rewards, then say whether it learned or sharpened",
        description="Loop C. Moves a policy by policy gradients of the scorer's rewards, then measures it before and "
        "after in one room. The run folder is a policy: --policy RUN.",
    )
    add = parser.add_argument
    add("--policy", metavar="NAME", help="what to train: tiny (default), tiny-weak, tiny-hedge, a run, hf:PATH_OR_ID")
    add("--dataset", metavar="FILE", help="examples to learn from: .jsonl, .csv, .parquet or a saved folder")
    add("--dev", metavar="FILE", help="examples to measure on (default: dev.jsonl beside the dataset)")
    add("--scorer", metavar="NAME", help="final-int (default), permissive, or path/to/file.py:function")
    add("--steps", type=int, metavar="N", help="updates (default 120)")
    add("--prompts", type=int, metavar="P", help="examples a step (default 64, or all there are)")
    add("--group", type=int, metavar="G", help="completions an example and step (default 8)")
    add("--seed", type=int, metavar="S", help="decides the order of the examples and every draw (default 0)")
    add(
        "--controls",
        metavar="LIST",
        help="control arms on the same budget: random,format-only,shuffled,frozen,best-of-n",
    )
    add("--config", metavar="FILE", help="a TOML file with these settings; flags win over it")
    add("--out", metavar="RUN", help="the run folder to write (default: runs/learn-<dataset>-<policy>-<time>)")
    add("--resume", action="store_true", help="continue an interrupted run in --out from its last checkpoint")
    add("--plot", type=Path, metavar="FILE", help="draw training, KL and pass@k as FILE.svg or FILE.png")
    add("--json", action="store_true", help="print the summary as JSON")
    _add_estimator(parser.add_argument_group("the estimator of the gradient (judge one with: lockedroom court)"))
    _add_limits(parser.add_argument_group("measuring, stopping and resources"))
    add_backend_flags(parser)
    parser.set_defaults(run=run)


def _add_estimator(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--preset", metavar="NAME", help="rloo (default), reinforce, grpo, dr-grpo, ppo-clip, rejection-sampling")
    add("--baseline", metavar="NAME", help="none, leave-one-out, group-mean, batch-mean, ema, value")
    add("--scale", metavar="NAME", help="none, group-std")
    add("--kl", type=float, metavar="BETA", help="weight of KL to the base policy, in reward per nat; 0 is none")
    add("--kl-as", metavar="NAME", help="k1-in-reward (default), k2-in-loss, k3-ratio-in-loss, exact-in-loss, …")
    add("--normalisation", metavar="NAME", help="completions (the true gradient), tokens, per-completion, max-tokens")
    add("--epochs", type=int, metavar="N", help="updates on the same completions")
    add("--allow-biased", action="store_true", default=None, help="use an estimator that the court found biased")
    add("--learning-rate", type=float, metavar="R", help="default 0.001")
    add(
        "--schedule",
        metavar="NAME",
        choices=("linear", "cosine", "constant"),
        help="linear (default), cosine, constant",
    )
    add("--optimizer", metavar="NAME", choices=("adamw", "sgd"), help="adamw (default), sgd")
    add("--max-grad-norm", type=float, metavar="G", help="longer gradients are scaled to it (default 1; inf: never)")


def _add_limits(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--temperature", type=float, metavar="T", help="of the draws (default 1)")
    add("--max-tokens", type=int, metavar="N", help="token limit of a completion (default 24)")
    add("--draws", type=int, metavar="K", help="completions an example, before and after (default 8; 64 if not exact)")
    add("--eval-every", type=int, metavar="N", help="steps between evaluations on dev (default 20)")
    add("--eval-examples", type=int, metavar="N", help="dev examples of each (default 200)")
    add("--checkpoint-every", type=int, metavar="N", help="steps between checkpoints (default 10)")
    add(
        "--max-failed",
        type=float,
        metavar="SHARE",
        help="of a step's completions; above it learning stops (default 0.2)",
    )
    add("--max-truncated", type=float, metavar="SHARE", help="as --max-failed, of truncated completions (default 0.5)")
    add("--max-kl", type=float, metavar="NATS", help="a completion, above which learning stops (default 50)")
    add("--micro-batch", type=int, metavar="P", help="examples in one pass, to save memory (default: all of a step)")
    add("--scorer-timeout", type=float, metavar="SECONDS", help="for one call of your own scorer (default 5)")
    add("--scorer-memory", type=int, metavar="MB", help="that your own scorer may allocate (default 512)")
    add("--threads", type=int, metavar="N", help="of PyTorch (default 1; more can be far slower)")


_PLAIN = ("policy", "dataset", "dev", "scorer", "prompts", "preset", "allow_biased", "draws", "eval_every",
          "eval_examples", "checkpoint_every", "max_failed", "max_truncated", "max_kl", "scorer_timeout",
          "scorer_memory", "threads")  # fmt: skip
_LEARNER = ("steps", "group", "learning_rate", "schedule", "optimizer", "max_grad_norm", "micro_batch")
_SAMPLING = ("temperature", "max_tokens", "seed")


def run(args: argparse.Namespace) -> int:
    """Learn and print what it amounts to. Exit 0, or the code of the error raised."""
    from lockedroom.cli.microscope import check_plot, require_torch
    from lockedroom.cli.progress import steps_bar

    require_torch("learning")
    if args.plot is not None:
        check_plot(args.plot)
    from lockedroom.loops.learn import learn
    from lockedroom.loops.learning.configuration import ESTIMATOR_FLAGS, read_learn_config
    from lockedroom.results.run_folder import default_folder

    given = {name: value for name, value in vars(args).items() if value is not None}
    flags: dict[str, Any] = {name: given[name] for name in _PLAIN if name in given} | backend_config(args)
    if "controls" in given:
        flags["controls"] = [name.strip() for name in given["controls"].split(",")]
    out = Path(args.out) if args.out else default_folder("learn", args.dataset or "run", args.policy or "tiny")
    config = read_learn_config(
        flags,
        learner={name: given[name] for name in _LEARNER if name in given},
        sampling={name: given[name] for name in _SAMPLING if name in given},
        estimator={field: given[name] for name, field in ESTIMATOR_FLAGS.items() if name in given},
        file=Path(args.config) if args.config else None,
        resumed=out if args.resume else None,
    )
    with steps_bar("learn", config.learner.steps) as show:
        done = learn(config, out, resume=args.resume, command=sys.argv, progress=_shown(show))
    if args.plot is not None:
        from lockedroom.report.learning_curves import plot_learning

        plot_learning(done.path, args.plot)
    _print_learned(done, as_json=args.json)
    return 0


def _shown(show: Callable[[int, str], None]) -> Progress:
    from lockedroom.results.learning.metrics import Evaluation, StepMetrics

    dev, done = "", 0

    def progress(what: StepMetrics | Evaluation | str) -> None:
        nonlocal dev, done
        if isinstance(what, Evaluation):
            dev = _dev_text(what)
            show(done, dev)
        elif isinstance(what, StepMetrics):
            done = what.step + 1
            show(done, f"{_step_text(what)}  {dev}")
        else:
            show(done, what)

    return progress


def _dev_text(one: Evaluation) -> str:
    rate = one.pass_rate if one.exact_pass_at_1 is None else one.exact_pass_at_1
    return "" if rate is None else f"dev pass@1 {rate:.3f} (step {one.step})"


def _step_text(step: StepMetrics) -> str:
    from lockedroom.visible import visible

    reward = "none" if step.reward is None else f"{step.reward:.3f}"
    distance = "" if step.distance is None else f"  KL {step.distance:.2f}"
    failures = "".join(f"  {visible(code, 40)} {count}" for code, count in step.failures.items())
    return f"reward {reward}{distance}{failures}"


def _print_learned(done: Learned, *, as_json: bool) -> None:
    if as_json:
        print_json({"run": str(done.path), "summary": done.summary})
        return
    from lockedroom.results.learning.rendering import render_learning

    print(render_learning(done.summary))
    timing = done.manifest.timing
    print(f"{timing.seconds:.1f} s ({timing.cpu_seconds:.1f} CPU-s), of which what was resumed is not a part")
    print(
        f"run folder: {done.path}   use it: lockedroom evaluate --policy {shlex.quote(str(done.path))}   check it: lockedroom verify {shlex.quote(str(done.path))}"
    )
