"""`lockedroom warmup`: show a policy right answers, so that there is something to learn from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lockedroom.cli.backend_flags import add_backend_flags, backend_config
from lockedroom.wording import counted

if TYPE_CHECKING:
    pass


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "warmup",
        help="a short supervised stage before learn: right answers in the format the scorer pays",
        description="Trains on `Final: N` of a dataset's answers, loss on the completion only. Use the result as --policy.",
    )
    add = parser.add_argument
    add("--policy", metavar="NAME", help="what to train: tiny (default), a .safetensors file, hf:PATH_OR_ID")
    add("--dataset", required=True, metavar="FILE", help="examples whose answers are shown")
    add("--scorer", metavar="NAME", help="must pay for what is shown (default final-int)")
    add("--target", metavar="TEXT", help="the completion shown (default 'Final: {answer}')")
    add("--steps", type=int, metavar="N", help="updates (default 16)")
    add("--examples", type=int, metavar="N", help="examples a step (default 32)")
    add("--micro-batch", type=int, metavar="N", help="examples in one pass, to save memory (default 8)")
    add("--learning-rate", type=float, metavar="R", help="falls to 0 linearly (default 0.0005)")
    add("--seed", type=int, metavar="S", help="decides the order of the examples (default 0)")
    add("--threads", type=int, metavar="N", help="of PyTorch (default 1)")
    add("--out", required=True, metavar="FOLDER", help="where to write the policy, the losses and the settings")
    add("--json", action="store_true", help="print the result as JSON")
    add_backend_flags(parser)
    parser.set_defaults(run=run)


_PLAIN = ("policy", "dataset", "scorer", "target", "steps", "micro_batch", "learning_rate", "seed", "threads")


def run(args: argparse.Namespace) -> int:
    """Warm up and print where the policy is. Exit 0, or the code of the error raised."""
    import msgspec

    from lockedroom.cli.json_output import print_json
    from lockedroom.cli.progress import steps_bar
    from lockedroom.loops.learning.warmup import WarmupConfig, warm_up

    given = {name: value for name, value in vars(args).items() if value is not None}
    table = {name: given[name] for name in _PLAIN if name in given} | backend_config(args)
    if "examples" in given:
        table["batch"] = given["examples"]
    config = msgspec.convert(table, WarmupConfig)
    with steps_bar("warmup", config.steps) as show:
        done = warm_up(
            config, Path(args.out), progress=lambda step: show(step.step + 1, f"loss {step.loss:.3f} nats a token")
        )
    if args.json:
        print_json({"path": str(done.path), "policy": done.policy, "weights_sha256": done.weights_sha256,
                    "steps": done.steps})  # fmt: skip
        return 0
    first, last = done.steps[0], done.steps[-1]
    print(
        f"loss {first.loss:.3f} → {last.loss:.3f} nats a token, in {counted(len(done.steps), 'step')} of {counted(last.tokens, 'token')}"
    )
    print(f"use it as: --policy {done.policy}")
    return 0
