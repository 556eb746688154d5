"""From what a person names to what Loop C needs: policy, reference, scorer, examples, and the estimator of ∇J."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.dataset.load import canonical_line, read_examples
from lockedroom.dataset.splits import check_disjoint
from lockedroom.errors import BadInput
from lockedroom.learning.estimator import Estimator, biased, make_estimator
from lockedroom.loops.evaluating.configuration import as_config
from lockedroom.loops.learning.update import LearnerSettings
from lockedroom.loops.opening.named import Opened, identify, open_named
from lockedroom.loops.opening.policy import refuse_untrainable
from lockedroom.policy.backend import Backend
from lockedroom.protocols import TrainablePolicy
from lockedroom.records import Example, Sampling
from lockedroom.safeguards.room import ScorerIdentity
from lockedroom.scorer.builtin import BuiltinScorer
from lockedroom.wording import counted

CONTROLS = ("random", "format-only", "shuffled", "frozen", "best-of-n")
MAX_TOKENS, PRESET = 24, "rloo"


class LearnConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What decides a learning run; saved as `config.toml`.

    `dev` None: the file dev.jsonl beside the dataset. `estimator` replaces fields of the preset (see
    `lockedroom.learning.Estimator`). `eval_examples`: dev examples of the evaluations in between. `draws`: completions
    an example, of the two runs that are compared (None: 8 where pass@k is exact, else 64). `max_failed`,
    `max_truncated`: shares of a step's completions above which learning stops; `max_kl`: nats a completion.
    The fields that end in sha256 or fingerprint pin what was found when the run began.
    """

    dataset: str
    dev: str | None = None
    policy: str = "tiny"
    completions: None = None
    declare: tuple[str, ...] = ()
    scorer: str = "final-int"
    scorer_timeout: float = 5.0
    scorer_memory: int = 512
    preset: str = PRESET
    estimator: dict[str, Any] = {}
    allow_biased: bool = False
    learner: LearnerSettings = LearnerSettings()
    prompts: int | None = None
    sampling: Sampling = Sampling(max_tokens=MAX_TOKENS)
    eval_every: int = 20
    eval_examples: int = 200
    checkpoint_every: int = 10
    max_failed: float = 0.2
    max_truncated: float = 0.5
    max_kl: float = 50.0
    draws: int | None = None
    exact: bool | None = None
    controls: tuple[str, ...] = ()
    confidence: float = 0.95
    threads: int = 1
    backend: Backend = Backend()
    dataset_sha256: str | None = None
    dev_sha256: str | None = None
    policy_sha256: str | None = None
    scorer_sha256: str | None = None
    scorer_fingerprint: str | None = None


class Learning(msgspec.Struct, frozen=True):
    """What the names meant. `exact`: whether dev pass rates can be, and are, computed from probabilities."""

    opened: Opened
    policy: TrainablePolicy
    reference: TrainablePolicy
    scorer: ScorerIdentity
    train: list[Example]
    dev: list[Example]
    estimator: Estimator
    biased: tuple[str, ...]
    exact: bool


@contextlib.contextmanager
def open_learning(config: LearnConfig) -> Iterator[tuple[LearnConfig, Learning]]:
    """Open what a configuration names and yield it with the configuration settled: defaults filled in, inputs pinned.

    Raises BadInput for whatever cannot be learned from, and Sealed for a sealed split, before anything is spent.
    """
    config = as_config(msgspec.to_builtins(config, enc_hook=str), LearnConfig)  # Python does not check types
    refuse_untrainable(config.policy)
    check_learn_config(config)
    estimator = make_estimator(config.estimator, config.preset)
    reasons = biased(estimator)
    if reasons and not config.allow_biased:
        raise BadInput(
            f"the estimator {config.preset} is biased: {'; '.join(reasons)}; name it on purpose with --allow-biased "
            "(the run records it), or use --preset rloo"
        )
    train_path, dev_path = Path(config.dataset), dev_of(config)
    with open_named(_evaluable(config)) as opened:
        train, dev = _read(train_path, opened), _read(dev_path, opened)
        check_disjoint([train_path, dev_path])
        if "shuffled" in config.controls and len({_answer(one) for one in train}) < 2:
            raise BadInput(
                f"--controls shuffled: every example of {train_path} has the same answer, so there is nothing to shuffle; "
                "leave this arm out"
            )
        assert isinstance(opened.policy, TrainablePolicy)
        scorer = identify(opened.scorer)
        listable = isinstance(opened.scorer, BuiltinScorer) and opened.scorer.accepted is not None
        exact = listable and opened.policy.spec.kind == "tiny" if config.exact is None else config.exact
        if exact and not listable:
            raise BadInput(
                f"--exact: scorer {opened.scorer.spec.name} cannot list the completions it accepts; leave it out"
            )
        learning = Learning(
            opened, opened.policy, opened.policy.frozen_copy(), scorer, train, dev, estimator, reasons, exact
        )
        yield _settle(config, learning, dev_path), learning


def dev_of(config: LearnConfig) -> Path:
    """Return the dev file: the one named, or dev.jsonl beside the dataset."""
    if config.dev is not None:
        return Path(config.dev)
    if not Path(config.dataset).exists():
        raise BadInput(f"{config.dataset}: no such file; check the path")
    beside = Path(config.dataset).with_name("dev.jsonl")
    if not beside.is_file() or beside == Path(config.dataset):
        raise BadInput(f"--dev is missing and there is no {beside}: name a file of examples to measure on")
    return beside


def check_learn_config(config: LearnConfig) -> None:
    """Raise BadInput for values that no learning run can have."""
    counts = {"--eval-every": config.eval_every, "--eval-examples": config.eval_examples, "--threads": config.threads,
              "--checkpoint-every": config.checkpoint_every, "--prompts": config.prompts, "--draws": config.draws}  # fmt: skip
    for name, value in counts.items():
        if value is not None and value < 1:
            raise BadInput(f"{name} {value}: must be at least 1")
    for name, share in (("--max-failed", config.max_failed), ("--max-truncated", config.max_truncated)):
        if not 0 <= share <= 1:
            raise BadInput(f"{name} {share}: a share between 0 and 1")
    if not config.max_kl > 0:
        raise BadInput(f"--max-kl {config.max_kl}: nats a completion, above 0")
    if not 0.5 < config.confidence < 1:
        raise BadInput(f"--confidence {config.confidence}: must lie between 0.5 and 1, e.g. 0.95")
    if config.sampling.max_tokens is None:
        raise BadInput(f"max_tokens: learning needs a token limit; give --max-tokens, e.g. {MAX_TOKENS}")
    unknown = [name for name in config.controls if name not in CONTROLS]
    if unknown or len(set(config.controls)) < len(config.controls):
        raise BadInput(f"--controls {','.join(config.controls)}: name each once, of {', '.join(CONTROLS)}")
    for path in (config.dataset, config.dev or ""):
        if Path(path).stem.lower() == "holdout":
            raise BadInput(
                f"{path}: a holdout is neither learned from nor looked at while learning; use train and dev, and measure "
                "the holdout once, at the end (lockedroom evaluate --policy RUN, or lockedroom holdout)"
            )


def _evaluable(config: LearnConfig) -> LearnConfig:
    return msgspec.structs.replace(config, draws=config.draws or 1)


def _read(path: Path, opened: Opened) -> list[Example]:
    batches = read_examples(path, opened.first_refused, scorer_name=opened.scorer.spec.name)
    return [example for batch in batches for example in batch]


def _settle(config: LearnConfig, learning: Learning, dev: Path) -> LearnConfig:
    """Fill in what was left out, and pin what was found; a resumed run is refused where either differs."""
    prompts = min(64, len(learning.train)) if config.prompts is None else config.prompts
    if prompts > len(learning.train):
        raise BadInput(
            f"--prompts {prompts}: {config.dataset} holds only {counted(len(learning.train), 'example')}; lower it"
        )
    return msgspec.structs.replace(
        config,
        dev=str(dev),
        prompts=prompts,
        draws=config.draws or (8 if learning.exact else 64),
        eval_examples=min(config.eval_examples, len(learning.dev)),
        dataset_sha256=_sha256(learning.train),
        dev_sha256=_sha256(learning.dev),
        policy_sha256=hashlib.sha256(msgspec.json.encode(learning.policy.spec, order="sorted")).hexdigest(),
        scorer_sha256=learning.scorer.source_sha256,
        scorer_fingerprint=learning.scorer.fingerprint,
    )


def _answer(example: Example) -> bytes:
    return canonical_line([Example(id="", prompt="", expected_answer=example.expected_answer)])


def _sha256(examples: Sequence[Example]) -> str:
    return hashlib.sha256(canonical_line(examples)).hexdigest()
