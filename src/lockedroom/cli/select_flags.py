"""The flags of `lockedroom select`, as configurations; a flag that would have no effect is refused, not dropped."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lockedroom.cli.backend_flags import BACKEND_FLAGS, backend_config, backend_of
from lockedroom.cli.sampling_flags import SAMPLING_FLAGS

if TYPE_CHECKING:
    from lockedroom.loops.evaluating.configuration import EvaluateConfig
    from lockedroom.loops.selecting.opening import SelectConfig
    from lockedroom.loops.selecting.search import SearchConfig
    from lockedroom.records import Sampling

SEARCHES = ("viable-sampling", "viable-beam", "beam")
_OF_THE_DATASET = ("policy", "completions", "draws", "limit", "split", "declare")
_OF_DRAWING = (*(name for name in SAMPLING_FLAGS if name != "seed"), "threads", "exact", *BACKEND_FLAGS)
_OF_CURVES = ("n", "confirm", "plots", "parse", "beta", "tie_break", "verifier_errors", "unequal")
# What no sampling reads in a beam, which is certain of its one result.
_NOT_OF_BEAMS = ("temperature", "top_k", "top_p", "stop")


def stops_drawing(args: argparse.Namespace) -> bool:
    """Whether drawing may end at the first pass: nothing is asked for that needs every draw of every example."""
    curves = args.n is not None or args.confirm is not None or args.exact or args.plots or args.verifier_errors
    return args.selector == "rejection-sampling" and args.policy is not None and not curves


def refuse_idle_flags(args: argparse.Namespace) -> None:
    """Raise BadInput for the first flag that was given and would have no effect on what is asked for."""
    from lockedroom.errors import BadInput

    selector = f"--selector {args.selector}"
    idle: list[tuple[tuple[str, ...], str]] = []
    if args.source is not None:
        idle.append(((*_OF_THE_DATASET, *_OF_DRAWING), "--run, whose draws are made already"))
    elif args.completions is not None:
        idle.append((_OF_DRAWING, "--completions, which were drawn already"))
    elif args.policy is not None:
        idle.append((("declare",), "--policy, whose sampling is known"))
    if args.selector not in ("viable-beam", "beam"):
        idle.append((("width",), f"{selector}; it is for viable-beam and beam"))
    if args.selector in SEARCHES:
        idle.append(
            ((*_OF_CURVES, "completions", "exact", "declare", "on"), f"{selector}, which searches token by token")
        )
        if args.selector != "viable-sampling":
            idle.append((_NOT_OF_BEAMS, f"{selector}, which takes the most probable"))
    elif stops_drawing(args):
        idle.append(
            (("parse", "tie_break", "unequal", "on"), f"{selector} on a live policy, which stops at the first pass")
        )
    if args.selector != "kl-regularized":
        idle.append((("beta",), f"{selector}; it is for kl-regularized"))
    for names, where in idle:
        for name in names:
            if getattr(args, name) is not None:
                raise BadInput(f"leave out --{name.replace('_', '-')}: it has no effect with {where}")


def evaluate_config(args: argparse.Namespace, *, fresh: bool = False) -> EvaluateConfig:
    """Return how the draws are made; `fresh` ones have another seed, hashed so that nobody counts up to it."""
    from lockedroom.loops.evaluating.configuration import read_config

    names = ("dataset", "policy", "completions", "draws", "limit", "split", "declare", "confidence", "threads", "exact",
             "scorer_timeout", "scorer_memory")  # fmt: skip
    given: dict[str, Any] = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.measure is not None:
        given["scorer"] = args.measure
    sampling = {}
    if args.completions is None:
        sampling = {name: getattr(args, name) for name in SAMPLING_FLAGS if getattr(args, name) is not None}
        if fresh:
            digest = hashlib.blake2b(f"confirm/{args.seed}".encode(), digest_size=6, person=b"lockedroom-seed").digest()
            sampling["seed"] = int.from_bytes(digest)
    return read_config(given | backend_config(args), sampling)


def select_config(args: argparse.Namespace, pool: Path, confirm: str | None) -> SelectConfig:
    from lockedroom.loops.selecting.opening import SelectConfig

    rates, audit = _rates(args.verifier_errors)
    limits = {name: given for name in ("scorer_timeout", "scorer_memory") if (given := getattr(args, name)) is not None}
    return SelectConfig(
        run=str(pool),
        selector=args.selector,
        measure=args.measure,
        parse=args.parse,
        confirm=confirm,
        seed=args.seed,
        beta=0.1 if args.beta is None else args.beta,
        confidence=args.confidence,
        unequal="common minimum" if args.unequal == "common-minimum" else "refuse",
        ns=_numbers(args.n),
        verifier_errors=rates,
        verifier_audit=audit,
        tie_break=args.tie_break or "logprob",
        **limits,
    )


def search_config(args: argparse.Namespace) -> SearchConfig:
    from lockedroom.errors import BadInput
    from lockedroom.loops.selecting.search import SearchConfig

    if args.dataset is None or args.policy is None:
        raise BadInput(
            f"--selector {args.selector}: draws token by token, so it needs --dataset FILE and --policy NAME"
        )
    names = ("dataset", "selector", "policy", "draws", "width", "limit", "split", "threads", "scorer_timeout",
             "scorer_memory")  # fmt: skip
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return SearchConfig(
        **given,
        scorer=args.measure or "final-int",
        confidence=args.confidence,
        backend=backend_of(args),
        sampling=_sampling(args),
    )


def _sampling(args: argparse.Namespace) -> Sampling:
    from lockedroom.records import Sampling

    given = {name: getattr(args, name) for name in SAMPLING_FLAGS if getattr(args, name) is not None}
    if "stop" in given:
        given["stop"] = tuple(given["stop"])
    return Sampling(**given)


def _numbers(text: str | None) -> tuple[int, ...]:
    from lockedroom.errors import BadInput

    if text is None:
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise BadInput(f"--n {text[:80]!r}: give whole numbers separated by commas, e.g. 1,2,4") from None


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
            f"--verifier-errors {text[:80]!r}: give two rates, FPR,FNR, e.g. 0.05,0, or an audit folder"
        ) from None
    return (false_positive, false_negative), None
