"""What `import lockedroom` offers: four functions that take keywords, configurations, paths and one another's results."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import lockedroom
from lockedroom import EvaluateConfig, LearnConfig, Sampling, SelectConfig
from lockedroom.errors import BadInput, NotComparable
from lockedroom.policy.backend import Backend
from lockedroom.policy.tiny import DATA_FOLDER
from lockedroom.results.verify import verify
from lockedroom.testkit.small_run import write_additions, write_samples

DEV, TRAIN = DATA_FOLDER / "dev.jsonl", DATA_FOLDER / "train.jsonl"


def _any(value: object) -> Any:
    """What a person without a type checker may pass."""
    return value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def base(folder: Path) -> Any:
    return lockedroom.evaluate(dataset=DEV, policy="tiny", draws=4, limit=12, max_tokens=24, out=folder / "base")


def test_keywords_and_a_configuration_give_the_same_records(base: Any, folder: Path) -> None:
    config = EvaluateConfig(dataset=str(DEV), policy="tiny", draws=4, limit=12, sampling=Sampling(max_tokens=24))
    same = lockedroom.evaluate(config, str(folder / "configured"))
    assert (same.path / "records.jsonl").read_bytes() == (base.path / "records.jsonl").read_bytes()
    assert same.manifest.room == base.manifest.room


def test_a_nested_configuration_may_be_given_whole(base: Any, folder: Path) -> None:
    same = lockedroom.evaluate(
        dataset=DEV, policy="tiny", draws=4, limit=12, sampling=Sampling(max_tokens=24), backend=Backend(), out=folder / "whole"
    )  # fmt: skip
    assert same.manifest.room == base.manifest.room


def test_a_result_is_a_path_and_stands_where_a_run_may(base: Any, folder: Path) -> None:
    assert os.fspath(base) == str(folder / "base")
    verify(Path(base))
    best = lockedroom.select(base, selector="best-of-n", n=(1, 4), out=folder / "best")
    assert [row.n for row in best.selection.at_n] == [1, 4]
    certificate = lockedroom.compare(base, best, margin=0.5, labels=["one", "best of 4"])
    assert certificate.against[0].turned.word == "selection"
    configured = lockedroom.select(SelectConfig(run=str(base.path), selector="best-of-n", ns=(1, 4)), folder / "again")
    assert configured.selection == best.selection


def test_one_number_of_draws_needs_no_tuple(base: Any, folder: Path) -> None:
    best = lockedroom.select(str(base.path), selector="first", n=2, out=folder / "two")
    assert [row.n for row in best.selection.at_n] == [2]


def test_a_learned_run_is_a_policy(folder: Path) -> None:
    learned = lockedroom.learn(
        dataset=TRAIN, policy="tiny", steps=1, prompts=4, group=2, kl=0.05, baseline="none", draws=1, eval_examples=4,
        exact=False, out=folder / "learned",
    )  # fmt: skip
    assert learned.summary.plan.estimator.baseline == "none"
    assert learned.summary.plan.estimator.beta == 0.05
    after = lockedroom.evaluate(dataset=DEV, policy=learned, draws=1, limit=4, out=folder / "after")
    assert after.summary.attempts == 4


def test_an_interrupted_run_is_continued_with_its_own_settings(base: Any, folder: Path) -> None:
    half = folder / "half"
    half.mkdir()
    for name in ("config.toml", "examples.jsonl", "records.jsonl"):
        (half / name).write_bytes((base.path / name).read_bytes())
    done = lockedroom.evaluate(dataset=DEV, out=half, resume=True)
    assert (done.path / "records.jsonl").read_bytes() == (base.path / "records.jsonl").read_bytes()


def test_without_a_folder_a_new_one_is_named_after_what_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_additions(tmp_path, 3)
    write_samples(tmp_path, 3, 2)
    done = lockedroom.evaluate(dataset="sums.jsonl", completions=tmp_path / "samples.jsonl")
    assert done.path.parent == Path("runs")
    assert done.path.name.startswith("sums-samples-")


def test_runs_of_different_rooms_are_refused(base: Any, folder: Path) -> None:
    kinder = lockedroom.evaluate(
        dataset=DEV, policy="tiny", scorer="permissive", draws=4, limit=12, max_tokens=24, out=folder / "kinder"
    )
    with pytest.raises(NotComparable, match="scorer"):
        lockedroom.compare(base, kinder)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lockedroom.evaluate(dataset=DEV, polcy="tiny"), "no setting is called 'polcy'; did you mean 'policy'"),
        (lambda: lockedroom.evaluate(policy="tiny"), "dataset is missing"),
        (lambda: lockedroom.evaluate(dataset=DEV, policy="tiny", draws="many"), r"configuration: .*draws"),
        (lambda: lockedroom.evaluate(_any({"dataset": "x"})), "expected a EvaluateConfig, or its fields as keywords; found dict"),
        (lambda: lockedroom.evaluate(EvaluateConfig(dataset="x"), draws=3), "draws stands beside a EvaluateConfig"),
        (lambda: lockedroom.evaluate(dataset=DEV, policy="tiny", out=_any(3)), "expected the folder of a run"),
        (lambda: lockedroom.evaluate(dataset=DEV, policy="tiny", sampling=3), "settings as a table, found int"),
        (lambda: lockedroom.select("runs/nowhere"), "name the selector"),
        (lambda: lockedroom.select("runs/nowhere", selector="first"), "runs/nowhere"),
        (lambda: lockedroom.select("runs/nowhere", selector="first", n="four"), "configuration: .*ns"),
        (lambda: lockedroom.select(_any(None), selector="first"), "expected the folder of a run"),
        (lambda: lockedroom.learn(dataset=TRAIN, learning_rat=1.0), "did you mean 'learning_rate'"),
        (lambda: lockedroom.learn(LearnConfig(dataset="x"), steps=1), "steps stands beside a LearnConfig"),
        (lambda: lockedroom.compare("a", "b", marign=0.1), "did you mean 'margin'"),
        (lambda: lockedroom.compare(_any(["a", "b"])), "expected the folder of a run"),
        (lockedroom.compare, "at least two"),
        (lambda: lockedroom.compare("a", "b", labels=["a"]), "1 label for 2 runs"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_message(call: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        call()
