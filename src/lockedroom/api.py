"""The four functions of `import lockedroom`: evaluate, select, learn, compare.

Each takes its settings as keywords, by the names of the command line's flags (`max_tokens=24` is `--max-tokens 24`), or
ready-made as one configuration. A run is named by its folder or by the result that made it. Every result shows itself in
a notebook, and `.path` is its run folder.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lockedroom.errors import BadInput
from lockedroom.loops.evaluating.configuration import EvaluateConfig, read_config
from lockedroom.policy.backend import Backend
from lockedroom.records import Sampling
from lockedroom.results.compare import Certificate, CompareOptions
from lockedroom.results.compare import compare as compare_runs
from lockedroom.results.run_folder import default_folder
from lockedroom.wording import counted

if TYPE_CHECKING:
    from lockedroom.loops.evaluate import Evaluated
    from lockedroom.loops.evaluate import Progress as Counting
    from lockedroom.loops.learn import Learned
    from lockedroom.loops.learn import Progress as Watching
    from lockedroom.loops.learning.opening import LearnConfig
    from lockedroom.loops.opening.engine import Engine
    from lockedroom.loops.select import Selected
    from lockedroom.loops.selecting.opening import SelectConfig

Folder = str | os.PathLike[str]


def evaluate(
    config: EvaluateConfig | None = None,
    out: Folder | None = None,
    *,
    resume: bool = False,
    workers: int = 1,
    engine: Engine | None = None,
    progress: Counting | None = None,
    **settings: Any,
) -> Evaluated:
    """Measure a policy on a dataset, write a run folder, return the run.

    `evaluate(dataset="dev.jsonl", policy="tiny", draws=8)`. Settings are the fields of EvaluateConfig, Sampling and
    Backend. `out` None: a new folder under runs/. `progress` is called with the number of attempts since its last call.
    Raises BadInput, or another error of `lockedroom.errors`, for whatever cannot be used; what was finished stays, and
    `resume` continues it.
    """
    from lockedroom.loops.evaluate import evaluate as measure

    if config is None:
        given = _Settings("evaluate", settings)
        sampling, backend = given.nested("sampling", Sampling), given.nested("backend", Backend)
        plain = given.take(EvaluateConfig) | ({"backend": backend} if backend else {})
        given.refuse_others()
        folder = default_folder(plain.get("dataset", "run"), plain.get("completions") or plain.get("policy", ""))
        out = folder if out is None else out
        config = read_config(plain, sampling, resumed=_folder(out) if resume else None)
    else:
        _refuse_both("evaluate", config, EvaluateConfig, settings)
        out = default_folder(config.dataset, config.completions or config.policy or "") if out is None else out
    return measure(config, _folder(out), resume=resume, workers=workers, engine=engine, progress=progress)


def select(
    run: Folder | SelectConfig,
    out: Folder | None = None,
    *,
    resume: bool = False,
    engine: Engine | None = None,
    progress: Counting | None = None,
    **settings: Any,
) -> Selected:
    """Choose among the draws of a finished run, say what that bought, return the selection: a run of its own.

    `select(base, selector="best-of-n", n=(1, 4, 8))`. Settings are the fields of SelectConfig; `n` is short for `ns`.
    Raises BadInput, Tampered, or NotComparable (fresh draws of another policy).
    """
    from lockedroom.loops.evaluating.configuration import convert_settings
    from lockedroom.loops.select import select as choose
    from lockedroom.loops.selecting.opening import SelectConfig

    if isinstance(run, SelectConfig):
        _refuse_both("select", run, SelectConfig, settings)
        config = run
    else:
        renamed = {"ns" if name == "n" else name: value for name, value in settings.items()}
        given = _Settings("select", renamed)
        plain = given.take(SelectConfig)
        given.refuse_others()
        if "selector" not in plain:
            raise BadInput('select: name the selector, e.g. selector="best-of-n"')
        ns = plain.get("ns", ())
        plain["ns"] = tuple(ns) if isinstance(ns, Iterable) and not isinstance(ns, str) else (ns,)
        config = convert_settings({**plain, "run": str(_folder(run))}, SelectConfig)
    out = default_folder("select", Path(config.run).name) if out is None else out
    return choose(config, _folder(out), resume=resume, engine=engine, progress=progress)


def learn(
    config: LearnConfig | None = None,
    out: Folder | None = None,
    *,
    resume: bool = False,
    progress: Watching = lambda _: None,
    **settings: Any,
) -> Learned:
    """Train a policy on the scorer's rewards, measure it before and after, return the run: a policy itself.

    `learn(dataset="train.jsonl", policy="tiny", steps=60)`, then `evaluate(policy=learned, …)`. Settings are the fields
    of LearnConfig, LearnerSettings, Sampling and Backend, and of the estimator by their flags: baseline, scale, kl (its
    weight), kl_as, normalisation, epochs. `progress` is called with the metrics of each step and evaluation. Raises
    BadInput for whatever cannot be learned from; `resume` continues from the last checkpoint.
    """
    from lockedroom.loops.learn import learn as train
    from lockedroom.loops.learning.configuration import ESTIMATOR_FLAGS, read_learn_config
    from lockedroom.loops.learning.opening import LearnConfig
    from lockedroom.loops.learning.update import LearnerSettings

    if config is None:
        given = _Settings("learn", settings)
        learner, sampling = given.nested("learner", LearnerSettings), given.nested("sampling", Sampling)
        backend = given.nested("backend", Backend)
        estimator = _as_table(given.pop(["estimator"]).get("estimator", {}))
        estimator |= {ESTIMATOR_FLAGS[name]: value for name, value in given.pop(ESTIMATOR_FLAGS).items()}
        plain = given.take(LearnConfig) | ({"backend": backend} if backend else {})
        given.refuse_others()
        out = default_folder("learn", plain.get("dataset", "run"), plain.get("policy", "tiny")) if out is None else out
        resumed = _folder(out) if resume else None
        config = read_learn_config(plain, learner=learner, sampling=sampling, estimator=estimator, resumed=resumed)
    else:
        _refuse_both("learn", config, LearnConfig, settings)
        out = default_folder("learn", config.dataset, config.policy) if out is None else out
    return train(config, _folder(out), resume=resume, progress=progress)


def compare(
    *runs: Folder, options: CompareOptions | None = None, labels: Sequence[str] | None = None, **settings: Any
) -> Certificate:
    """Compare every further run with the first: in one room, or refused.

    `compare(base, after, margin=0.02)`. Settings are the fields of CompareOptions. Raises NotComparable with each field
    that differs and what to do, Tampered for a run that does not verify, and BadInput.
    """
    from lockedroom.loops.evaluating.configuration import convert_settings

    if options is None:
        given = _Settings("compare", settings)
        plain = given.take(CompareOptions)
        given.refuse_others()
        options = convert_settings(plain, CompareOptions)
    else:
        _refuse_both("compare", options, CompareOptions, settings)
    if labels is not None and len(labels) != len(runs):
        raise BadInput(
            f"compare: {counted(len(labels), 'label')} for {counted(len(runs), 'run')}; give one for each run, or none"
        )
    return compare_runs([_folder(run) for run in runs], options, labels=labels)


class _Settings:
    """Keywords, sorted into the configurations whose fields they are."""

    def __init__(self, function: str, given: Mapping[str, Any]) -> None:
        self.function = function
        self.left = {name: _plain(value) for name, value in given.items() if value is not None}
        self.known: set[str] = set()

    def pop(self, names: Iterable[str]) -> dict[str, Any]:
        self.known |= set(names)
        return {name: self.left.pop(name) for name in names if name in self.left}

    def take(self, kind: type[msgspec.Struct]) -> dict[str, Any]:
        return self.pop(kind.__struct_fields__)

    def nested(self, name: str, kind: type[msgspec.Struct]) -> dict[str, Any]:
        """Return a configuration inside another as a table: given whole, or its fields as keywords, or both."""
        return _as_table(self.pop([name]).get(name, {})) | self.take(kind)

    def refuse_others(self) -> None:
        for name in self.left:
            near = difflib.get_close_matches(name, self.known, n=1)
            raise BadInput(
                f"{self.function}: no setting is called {name!r}; "
                + (f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(self.known))}")
            )


def _refuse_both(function: str, config: object, kind: type[msgspec.Struct], settings: Mapping[str, Any]) -> None:
    if not isinstance(config, kind):
        raise BadInput(
            f"{function}: expected a {kind.__name__}, or its fields as keywords; found {type(config).__name__}"
        )
    for name in settings:
        raise BadInput(f"{function}: {name} stands beside a {kind.__name__}; put it in there, or give keywords alone")


def _plain(value: Any) -> Any:
    """A path, or a run, as the text that a configuration keeps."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _as_table(value: Any) -> dict[str, Any]:
    table = msgspec.to_builtins(value)
    if not isinstance(table, dict):
        raise BadInput(f"expected the settings as a table, found {type(value).__name__}")
    return table


def _folder(value: Any) -> Path:
    if not isinstance(value, str | os.PathLike):
        raise BadInput(f"expected the folder of a run, or the result that made it; found {type(value).__name__}")
    return Path(value)
