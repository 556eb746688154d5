"""Loop C as runs: what it writes can be verified and used, a kill changes nothing, and what cannot be learned from is refused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from lockedroom.dataset.load import read_examples
from lockedroom.errors import BadInput, Sealed, Tampered
from lockedroom.loops.attempt import attempt
from lockedroom.loops.evaluate import evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.loops.learn import Learned, learn
from lockedroom.loops.learning.configuration import read_learn_config
from lockedroom.loops.learning.measure import control_judge, evaluate_now
from lockedroom.loops.learning.opening import LearnConfig, open_learning
from lockedroom.loops.learning.order import step_examples
from lockedroom.loops.learning.update import LearnerSettings
from lockedroom.policy.tiny import DATA_FOLDER
from lockedroom.records import Completion, Sampling, Score
from lockedroom.results.compare import CompareOptions, compare
from lockedroom.results.learning.check import verify_learning
from lockedroom.results.learning.metrics import STEPS, Evaluation, StepMetrics
from lockedroom.stats.verdict import Verdict
from lockedroom.testkit.small_run import lockedroom, write_rows

SAME = ("records.jsonl", "steps.jsonl", "evaluations.jsonl", "evaluations-records.jsonl", "examples.jsonl", "config.toml",
        "learned.safetensors", "learning.md")  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, count in (("train", 64), ("dev", 24)):
        rows = next(iter(read_examples(DATA_FOLDER / f"{name}.jsonl")))[:count]
        write_rows(folder / f"{name}.jsonl", rows)
    return folder


def config_of(data: Path, **changes: Any) -> LearnConfig:
    small: dict[str, Any] = {
        "dataset": str(data / "train.jsonl"), "prompts": 16, "draws": 2, "eval_every": 2, "eval_examples": 8,
        "checkpoint_every": 2, "learner": LearnerSettings(steps=6, group=4), "sampling": Sampling(max_tokens=12),
    }  # fmt: skip
    return LearnConfig(**{**small, **changes})


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Learned:
    return learn(config_of(data, controls=("random", "frozen", "best-of-n")), tmp_path_factory.mktemp("runs") / "run")


def test_learning_raises_the_exact_pass_rate(done: Learned) -> None:
    exact = done.summary.exact_pass_at_1
    assert exact is not None
    assert exact.difference > 0.05
    assert done.summary.pass_at_1.verdict is Verdict.BETTER


def test_every_step_is_logged_with_finite_numbers(done: Learned) -> None:
    steps = [msgspec.json.decode(line, type=StepMetrics) for line in (done.path / STEPS).read_bytes().splitlines()]
    assert [step.step for step in steps] == list(range(6))
    assert all(step.kl is not None and step.reward is not None and step.gradient_norm > 0 for step in steps)
    assert steps[0].kl == pytest.approx(0, abs=1e-4)
    assert steps[0].mismatch < 5e-5


def test_learning_run_verifies_with_every_run_within_it(done: Learned) -> None:
    checked = verify_learning(done.path)
    assert checked.attempts == checked.rescored == 6 * 64 + 4 * 8
    assert checked.runs == 6 + 2


def test_what_was_learned_is_a_policy(done: Learned, data: Path, tmp_path: Path) -> None:
    asked = EvaluateConfig(dataset=str(data / "dev.jsonl"), policy=str(done.path), draws=2, exact=True,
                           sampling=Sampling(max_tokens=12))  # fmt: skip
    again = evaluate(asked, tmp_path / "again")

    assert (
        again.manifest.policy
        == msgspec.json.decode((done.path / "learned" / "manifest.json").read_bytes(), type=type(again.manifest)).policy
    )
    assert (tmp_path / "again" / "records.jsonl").read_bytes() == (done.path / "learned" / "records.jsonl").read_bytes()
    assert compare([done.path / "base", tmp_path / "again"], CompareOptions()).against[0].turned.word == "policy"


def test_control_arms_end_in_a_verdict(done: Learned) -> None:
    arms = {arm.name: arm for arm in done.summary.controls}
    assert list(arms) == ["random", "frozen", "best-of-n"]
    base, frozen = ((done.path / name / "exact.jsonl").read_bytes() for name in ("base", "control-frozen"))
    assert frozen == base
    drawn = [(done.path / name / "records.jsonl").read_bytes() for name in ("base", "control-frozen")]
    assert drawn[0] != drawn[1]
    assert arms["best-of-n"].gain.after == done.summary.pass_at_1.after


def test_control_rewards_hold_no_more_than_they_say(data: Path) -> None:
    with open_learning(config_of(data)) as (settled, learning):
        row = learning.train[0]
        texts = [f"Final: {row.expected_answer}", f"Final: {row.expected_answer + 1}", "no"]
        drawn = [Completion(text) for text in texts]

        def rewards(control: str) -> list[float]:
            judged = control_judge(settled, learning, control)([row] * 3, drawn)
            return [one.reward for one in judged if isinstance(one, Score)]

        assert rewards("format-only") == [1.0, 1.0, 0.0]
        others = {one.id: control_judge(settled, learning, "shuffled")([one], [Completion(f"Final: {one.expected_answer}")])
                  for one in learning.train}  # fmt: skip
        kept = sum(isinstance(one, Score) and one.reward == 1 for (one,) in others.values())
        assert kept < len(others) / 4


def test_attribution_adds_up(done: Learned) -> None:
    split = done.summary.attribution
    assert split.arithmetic_after is not None
    assert split.format_after * split.arithmetic_after == pytest.approx(done.summary.pass_at_1.after)
    assert (split.format_part or 0) + (split.arithmetic_part or 0) == pytest.approx(1)


def test_changed_metric_or_weights_are_found(done: Learned, data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(done.path, tmp_path / "copy")
    path = copy / "learned.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(Tampered, match=r"learned\.safetensors was changed"):
        verify_learning(copy)
    with pytest.raises(Tampered, match="not the weights"):
        evaluate(EvaluateConfig(dataset=str(data / "dev.jsonl"), policy=str(copy)), tmp_path / "e")


def test_metrics_that_do_not_follow_from_the_records_are_found(done: Learned, tmp_path: Path) -> None:
    from lockedroom.safeguards import manifest as manifests

    copy = shutil.copytree(done.path, tmp_path / "copy")
    lines = (copy / STEPS).read_bytes().splitlines(keepends=True)
    lines[3] = msgspec.json.encode({**msgspec.json.decode(lines[3]), "reward": 1.0}) + b"\n"
    (copy / STEPS).write_bytes(b"".join(lines))
    manifest = manifests.read_manifest(copy)
    forged = msgspec.structs.replace(manifest, files={**manifest.files, STEPS: manifests.measure_file(copy / STEPS)})
    (copy / manifests.NAME).write_bytes(manifests.encode_manifest(forged))
    (copy / manifests.SUMS_NAME).write_bytes(manifests.checksum_lines(forged))

    with pytest.raises(Tampered, match="step 3: the metrics are not those of its records"):
        verify_learning(copy)


def test_two_runs_of_one_seed_are_the_same_bytes_whatever_is_evaluated_in_between(
    done: Learned, data: Path, tmp_path: Path
) -> None:
    again = learn(config_of(data, controls=("random", "frozen", "best-of-n")), tmp_path / "again")
    seldom = learn(config_of(data, eval_every=100, eval_examples=3, checkpoint_every=5), tmp_path / "seldom")

    assert [name for name in SAME if (done.path / name).read_bytes() != (again.path / name).read_bytes()] == []
    for name in ("records.jsonl", "steps.jsonl", "learned.safetensors"):
        assert (done.path / name).read_bytes() == (seldom.path / name).read_bytes()


def test_an_evaluation_puts_the_generator_back(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Policies here draw by hashing; one that draws from torch's own generator must not notice an evaluation either."""

    def drawing(*arguments: Any) -> Any:
        torch.rand(3)
        return attempt(*arguments)

    monkeypatch.setattr("lockedroom.loops.learning.measure.attempt", drawing)
    with open_learning(config_of(data)) as (settled, learning):
        before = torch.random.get_rng_state()
        evaluate_now(settled, learning, 0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_evaluations_of_one_policy_are_the_same_whenever_they_are_made(data: Path) -> None:
    with open_learning(config_of(data)) as (settled, learning):
        first, later = (evaluate_now(settled, learning, step) for step in (0, 4))
    assert later == (msgspec.structs.replace(first[0], step=4), first[1])


def _start(data: Path, out: Path, threads: int, *more: str) -> subprocess.Popen[bytes]:
    flags = {"--dataset": str(data / "train.jsonl"), "--prompts": "8", "--group": "4", "--steps": "14", "--draws": "1",
             "--eval-every": "3", "--eval-examples": "4", "--checkpoint-every": "2", "--max-tokens": "12",
             "--threads": str(threads), "--out": str(out)}  # fmt: skip
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}  # a second thread that spins makes a busy machine crawl
    command = [sys.executable, "-m", "lockedroom", "learn", *(word for pair in flags.items() for word in pair), *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)


@pytest.mark.parametrize(("threads", "kills"), [(1, (3, 9)), (2, (5,))])
def test_killed_run_resumes_to_the_same_bytes(data: Path, tmp_path: Path, threads: int, kills: tuple[int, ...]) -> None:
    whole = _start(data, tmp_path / "whole", threads)
    out = tmp_path / "killed"
    resume: tuple[str, ...] = ()
    for lines in kills:  # kill once so many steps were logged: before, at or after a checkpoint, at any byte
        killed = _start(data, out, threads, *resume)
        steps = out / STEPS
        until = time.monotonic() + 60
        while not (steps.exists() and steps.read_bytes().count(b"\n") >= lines) and time.monotonic() < until:
            time.sleep(0.005)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        resume = ("--resume",)
    last = _start(data, out, threads, *resume)
    for process in (whole, last):
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()

    assert [name for name in SAME if (tmp_path / "whole" / name).read_bytes() != (out / name).read_bytes()] == []


def _abandoned(data: Path, out: Path, **changes: Any) -> None:
    """Leave a run as a kill leaves it after the first steps."""
    seen: list[object] = []

    def stop(what: object) -> None:
        seen.append(what)
        if sum(isinstance(one, StepMetrics) and not isinstance(one, Evaluation) for one in seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(config_of(data, **changes), out, progress=stop)


def test_resume_with_another_configuration_dataset_scorer_or_policy_is_refused(data: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(data, tmp_path / "moved")
    out = tmp_path / "run"
    _abandoned(moved, out)
    with pytest.raises(BadInput, match="learner"):
        learn(config_of(moved, learner=LearnerSettings(steps=7, group=4)), out, resume=True)
    with pytest.raises(BadInput, match=r"policy: was 'tiny'|policy_sha256"):
        learn(config_of(moved, policy="tiny-weak"), out, resume=True)
    with pytest.raises(BadInput, match="scorer_sha256"):
        learn(config_of(moved, scorer="permissive"), out, resume=True)
    rows = next(iter(read_examples(moved / "train.jsonl")))
    write_rows(moved / "train.jsonl", rows[::-1])
    with pytest.raises(BadInput, match="dataset_sha256"):
        learn(config_of(moved), out, resume=True)


def test_checkpoint_or_metrics_cut_short_are_refused(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    _abandoned(data, out)
    kept = (out / "checkpoint.safetensors").read_bytes()
    for damaged in (kept[: len(kept) // 2], kept[:-3] + b"abc", b""):
        (out / "checkpoint.safetensors").write_bytes(damaged)
        with pytest.raises(BadInput, match=r"checkpoint\.safetensors: the checkpoint is"):
            learn(config_of(data), out, resume=True)
    (out / "checkpoint.safetensors").write_bytes(kept)
    steps = (out / STEPS).read_bytes()
    (out / STEPS).write_bytes(b"{}\n")
    with pytest.raises(BadInput, match=r"steps\.jsonl: holds 3 bytes"):
        learn(config_of(data), out, resume=True)
    (out / STEPS).write_bytes(steps.replace(b'"step":1', b'"step":0'))
    with pytest.raises(BadInput, match=r"steps\.jsonl: was changed after it was written"):
        learn(config_of(data), out, resume=True)


def test_checkpoint_of_another_format_is_refused_by_name(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    _abandoned(data, out)
    kept = (out / "checkpoint.safetensors").read_bytes()
    (out / "checkpoint.safetensors").write_bytes(kept.replace(b'\\"format\\":2', b'\\"format\\":1'))
    with pytest.raises(BadInput, match="the checkpoint is of format 1, this lockedroom reads 2"):
        learn(config_of(data), out, resume=True)


def test_what_a_checkpoint_counts_is_on_the_disk_before_the_checkpoint_is(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    synced: dict[int, int] = {}  # inode -> bytes that a power cut leaves
    lost: list[str] = []
    sync, replace = os.fsync, os.replace

    def watched_sync(descriptor: int) -> None:
        sync(descriptor)
        synced[os.fstat(descriptor).st_ino] = os.fstat(descriptor).st_size

    def watched_replace(source: Path, target: Path) -> None:
        if Path(target).name in ("checkpoint.safetensors", "manifest.json") and Path(target).parent == out:
            names = [
                *SAME[:4],
                "timing.jsonl",
                *(["learned.safetensors"] if Path(target).name == "manifest.json" else []),
            ]
            found = [(out / name).stat() for name in names]
            lost.extend(
                name for name, one in zip(names, found, strict=True) if synced.get(one.st_ino, 0) != one.st_size
            )
            seen.append(Path(target).name)
        assert synced.get(os.stat(source).st_ino) == os.stat(source).st_size
        replace(source, target)

    seen: list[str] = []
    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(os, "replace", watched_replace)
    learn(config_of(data, learner=LearnerSettings(steps=4, group=4), draws=1), out)

    assert seen == ["checkpoint.safetensors", "checkpoint.safetensors", "manifest.json"]
    assert lost == []


def test_run_killed_before_its_manifest_keeps_its_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"

    def cut(source: Path, target: Path) -> None:
        if Path(target) == out / "manifest.json":
            raise KeyboardInterrupt
        replace(source, target)

    replace = os.replace
    monkeypatch.setattr(os, "replace", cut)
    small = config_of(data, learner=LearnerSettings(steps=2, group=4), draws=1)
    with pytest.raises(KeyboardInterrupt):
        learn(small, out)
    monkeypatch.setattr(os, "replace", replace)
    assert (out / "checkpoint.safetensors").exists()

    steps: list[object] = []
    learn(small, out, resume=True, progress=steps.append)
    assert [one for one in steps if isinstance(one, StepMetrics)] == []
    assert not (out / "checkpoint.safetensors").exists()


def test_reward_without_signal_is_refused_before_anything_is_spent(data: Path, tmp_path: Path) -> None:
    rows = next(iter(read_examples(data / "train.jsonl")))
    write_rows(tmp_path / "train.jsonl", [msgspec.structs.replace(row, expected_answer=10**9) for row in rows])
    shutil.copy(data / "dev.jsonl", tmp_path / "dev.jsonl")
    with pytest.raises(BadInput, match=r"all 64 scored completions got the same reward, 0 .*larger --group"):
        learn(config_of(tmp_path), tmp_path / "zero")

    scorer = tmp_path / "kind.py"
    scorer.write_text("def score(example, completion):\n    return {'reward': 1.0, 'details': {}}\n")
    with pytest.raises(BadInput, match=r"the same reward, 1 .*use harder ones"):
        learn(config_of(data, scorer=f"{scorer}:score"), tmp_path / "one")
    assert not (tmp_path / "zero").exists()
    assert not (tmp_path / "one").exists()


def test_scorer_that_fails_midway_stops_the_run_and_resumes(data: Path, tmp_path: Path) -> None:
    rows = next(iter(read_examples(data / "train.jsonl")))
    config = config_of(tmp_path, scorer=f"{tmp_path / 'mine.py'}:score", learner=LearnerSettings(steps=4, group=4))
    late = {row.id for row in step_examples(rows, config, 2)}
    train = [msgspec.structs.replace(row, metadata={"late": row.id in late}) for row in rows]
    write_rows(tmp_path / "train.jsonl", train)
    shutil.copy(data / "dev.jsonl", tmp_path / "dev.jsonl")
    (tmp_path / "mine.py").write_text(
        "def score(example, completion):\n"
        "    if (example.metadata or {}).get('late'):\n"
        "        raise RuntimeError('no judge today')\n"
        "    right = completion == f'Final: {example.expected_answer}'\n"
        "    return {'reward': float(right), 'details': {}}\n"
    )
    for resume in (False, True):
        with pytest.raises(
            BadInput,
            match=r"step 2: 100% of 64 completions could not be judged \(scorer_raised 64.*--resume \(a scorer that was changed needs a new run",
        ):
            learn(config, tmp_path / "run", resume=resume)
        assert (tmp_path / "run" / STEPS).read_bytes().count(b"\n") == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling": Sampling(max_tokens=1)}, r"hit the limit of 1 token.*--max-tokens"),
        ({"sampling": Sampling()}, "needs a token limit"),
        ({"preset": "grpo"}, r"grpo is biased: .*own reward.*--allow-biased"),
        ({"estimator": {"normalisation": "per-completion"}}, "biased"),
        ({"estimator": {"nonsense": 1}}, "nonsense"),
        ({"preset": "best"}, "known are"),
        ({"policy": "scripted:hi"}, "cannot be trained"),
        ({"prompts": 65}, "holds only 64"),
        ({"controls": ("luck",)}, "--controls luck"),
        ({"max_kl": 0.0}, "--max-kl"),
        ({"eval_every": 0}, "--eval-every 0"),
        ({"max_failed": 1.5}, "--max-failed"),
        ({"estimator": {"kl": "k4"}}, "kl = 'k4': known are none, k1-in-reward"),
        ({"learner": LearnerSettings(steps=6, group=0)}, "--group 0: must be at least 1"),
        ({"prompts": "4"}, "prompts: expected an integer or null, got a string"),
        ({"learner": {"stepz": 2}}, "learner.stepz: unknown field"),
        (
            {"learner": LearnerSettings(steps=6, group=4, learning_rate=1e3)},
            r"step 1: .* it did not begin so: learning led there, so lower --learning-rate \(now 1000\)",
        ),
        ({"max_kl": 1e-9, "learner": LearnerSettings(steps=6, group=4, learning_rate=0.1)}, "has left its reference"),
    ],
)
def test_what_cannot_be_learned_from_is_one_message(
    data: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        learn(config_of(data, **changes), tmp_path / "run")


def test_biased_estimator_named_on_purpose_is_recorded(data: Path, tmp_path: Path) -> None:
    config = config_of(data, preset="grpo", allow_biased=True, learner=LearnerSettings(steps=1, group=4), draws=1)
    done = learn(config, tmp_path / "run")
    assert len(done.summary.plan.biased) == 5
    assert "Biased, and named on purpose" in (done.path / "learning.md").read_text()
    assert verify_learning(done.path).runs == 4


def test_sealed_holdout_and_overlapping_splits_are_never_learned_from(data: Path, tmp_path: Path) -> None:
    sealed = tmp_path / "exam.sealed.jsonl"
    sealed.write_text('{"sealed":1}\n')
    shutil.copy(data / "dev.jsonl", tmp_path / "holdout.jsonl")
    with pytest.raises(Sealed):
        learn(config_of(data, dev=str(sealed)), tmp_path / "a")
    with pytest.raises(Sealed):
        learn(config_of(data, dataset=str(sealed), dev=str(data / "dev.jsonl")), tmp_path / "a")
    with pytest.raises(BadInput, match="a holdout is neither learned from nor looked at"):
        learn(config_of(data, dev=str(tmp_path / "holdout.jsonl")), tmp_path / "a")
    with pytest.raises(BadInput, match="the same example"):
        learn(config_of(data, dev=str(data / "train.jsonl")), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_dataset_that_is_not_there_is_named_before_the_dev_file_it_should_have(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere\.jsonl: no such file"):
        learn(LearnConfig(dataset=str(tmp_path / "nowhere.jsonl")), tmp_path / "run")


def test_weight_of_kl_alone_says_where_it_goes() -> None:
    def estimator(preset: str, beta: float) -> dict[str, Any]:
        flags = {"dataset": "d", "preset": preset}
        return read_learn_config(flags, learner={}, sampling={}, estimator={"beta": beta}).estimator

    assert estimator("rloo", 0.1) == {"beta": 0.1}
    assert estimator("reinforce", 0.1) == {"beta": 0.1, "kl": "k1-in-reward"}
    assert estimator("rloo", 0.0) == {"beta": 0.0, "kl": "none"}


def test_no_kl_has_no_weight() -> None:
    found = read_learn_config({"dataset": "d"}, learner={}, sampling={}, estimator={"kl": "none"}).estimator
    assert found == {"kl": "none", "beta": 0.0}


def test_answers_that_are_all_alike_cannot_be_shuffled(data: Path, tmp_path: Path) -> None:
    row = next(iter(read_examples(data / "train.jsonl")))[0]
    write_rows(tmp_path / "train.jsonl", [row])
    with pytest.raises(BadInput, match=r"--controls shuffled: every example of .* has the same answer"):
        learn(config_of(data, dataset=str(tmp_path / "train.jsonl"), dev=str(data / "dev.jsonl"), prompts=1,
                        controls=("shuffled",)), tmp_path / "run")  # fmt: skip


def test_rewards_too_large_to_add_up_have_a_mean(data: Path, tmp_path: Path) -> None:
    scorer = tmp_path / "big.py"
    scorer.write_text(
        "def score(example, completion):\n    return {'reward': 1.7e308 * (-1) ** len(completion), 'details': {}}\n"
    )
    with pytest.raises(BadInput, match="learning has diverged"):
        learn(config_of(data, scorer=f"{scorer}:score"), tmp_path / "run")


def test_python_callers_may_give_paths_and_tables(data: Path, tmp_path: Path) -> None:
    given = LearnConfig(
        dataset=data / "train.jsonl", learner={"steps": 1, "group": 4}, prompts=4, draws=1, eval_examples=2  # type: ignore[arg-type]  # what people write
    )  # fmt: skip
    assert learn(given, str(tmp_path / "run")).path == tmp_path / "run"


def test_pass_at_k_is_counted_where_it_cannot_be_exact(data: Path, tmp_path: Path) -> None:
    done = learn(
        config_of(data, scorer="permissive", learner=LearnerSettings(steps=1, group=4), draws=4), tmp_path / "run"
    )
    assert done.summary.exact_pass_at_1 is None
    assert [point.k for point in done.summary.curve] == [1, 2, 4]
    assert done.summary.curve[0].change.before == pytest.approx(done.summary.pass_at_1.before)


def test_command_prints_the_summary_and_says_what_is_wrong(data: Path, tmp_path: Path) -> None:
    small = ("--prompts", "8", "--steps", "2", "--draws", "1", "--eval-examples", "4", "--json")
    done = lockedroom("learn", "--dataset", data / "train.jsonl", *small, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert msgspec.json.decode(done.stdout)["summary"]["format"] == "lockedroom.learning/1"
    again = lockedroom("learn", "--dataset", data / "train.jsonl", "--out", "run", cwd=tmp_path)
    assert again.returncode == 2
    assert b"a finished run is here already" in again.stderr
    other = lockedroom("compare", "run", "run/base", cwd=tmp_path)
    assert (other.returncode, b"run/base and run/learned" in other.stderr) == (2, True)
