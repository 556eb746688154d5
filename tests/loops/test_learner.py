"""One update of Loop C: what it may not depend on, what it leaves alone, and that it can be taken up again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
import torch

from lockedroom.dataset.load import read_examples
from lockedroom.errors import BadInput
from lockedroom.learning.estimator import PRESETS, Estimator
from lockedroom.learning.value_head import ValueHead
from lockedroom.loops.attempt import judge
from lockedroom.loops.learning.update import Learner, LearnerSettings, StepResult, learning_rate
from lockedroom.policy.tiny import DATA_FOLDER, load_tiny
from lockedroom.records import Completion, Details, Example, Failure, FailureCode, Outcome, Sampling, Score
from lockedroom.scorer.builtin import BUILTIN

FINAL_INT = BUILTIN["final-int"]()
FAILED = Failure(FailureCode.SCORER_RAISED, "no")
TRAIN = next(iter(read_examples(DATA_FOLDER / "train.jsonl")))[:16]
Drawn = Sequence[Completion | Failure]


def strictly(examples: Sequence[Example], drawn: Drawn) -> list[Score | Failure]:
    return judge(FINAL_INT, examples, drawn)


def make(estimator: Estimator = PRESETS["rloo"], judged: Any = strictly, **settings: Any) -> Learner:
    policy = load_tiny("tiny")
    chosen = LearnerSettings(**{"steps": 10, "group": 4, **settings})
    sampling = Sampling(max_tokens=10)
    return Learner(policy, policy.frozen_copy(), judged, estimator, settings=chosen, sampling=sampling)


def weights(learner: Learner) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in learner.parameters]


def same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def steps(learner: Learner, which: range) -> list[StepResult]:
    return [learner.step(TRAIN[8 * (i % 2) : 8 * (i % 2) + 8], i) for i in which]


def test_first_update_finds_the_logprobs_that_were_recorded() -> None:
    assert make().step(TRAIN, 0).metrics.mismatch < 5e-5


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_moves_the_policy(name: str) -> None:
    learner = make(PRESETS[name])
    before = weights(learner)

    results = steps(learner, range(2))

    assert not same(before, weights(learner))
    assert all(result.metrics.gradient_norm > 0 for result in results)


@pytest.mark.parametrize("estimator", [PRESETS["rloo"], PRESETS["ppo-clip"], Estimator(baseline="ema")])
def test_restored_learner_goes_on_bit_for_bit(estimator: Estimator) -> None:
    whole = make(estimator)
    steps(whole, range(2))
    state = whole.state()
    after = [msgspec.structs.replace(one, timing=None) for one in steps(whole, range(2, 4))]

    resumed = make(estimator)
    torch.rand(5)
    resumed.restore(state)
    assert torch.equal(torch.random.get_rng_state(), state.tensors["generator"])
    again = [msgspec.structs.replace(one, timing=None) for one in steps(resumed, range(2, 4))]

    assert same(weights(whole), weights(resumed))
    assert again == after
    assert (resumed.ema, resumed.updates) == (whole.ema, whole.updates)


def test_state_of_another_network_is_refused() -> None:
    learner = make()
    state = learner.state()
    state.tensors["policy.0"] = state.tensors["policy.0"][:-1]
    with pytest.raises(BadInput, match="another network"):
        learner.restore(state)


def test_step_in_which_nothing_was_judged_leaves_the_policy_alone() -> None:
    learner = make(judged=lambda examples, drawn: [FAILED for _ in drawn])
    before = weights(learner)

    result = learner.step(TRAIN, 0)

    assert same(before, weights(learner))
    assert (result.metrics.scored, result.metrics.failed, result.metrics.reward) == (0, 64, None)
    assert result.metrics.failures == {"scorer_raised": 64}
    assert set(result.advantages) == {None}


def test_momentum_alone_moves_nothing_when_nothing_was_judged() -> None:
    def at_first(examples: Sequence[Example], drawn: Drawn) -> list[Score | Failure]:
        judged.append(len(drawn))
        return strictly(examples, drawn) if len(judged) == 1 else [FAILED for _ in drawn]

    judged: list[int] = []
    learner = make(judged=at_first)
    learner.step(TRAIN, 0)
    before = weights(learner)

    learner.step(TRAIN, 1)

    assert same(before, weights(learner))
    assert learner.updates == 1


def test_failures_are_left_out_and_counted_and_the_scored_are_learned_from() -> None:
    def partly(examples: Sequence[Example], drawn: Drawn) -> list[Score | Failure]:
        return [FAILED if n % 4 == 1 else one for n, one in enumerate(strictly(examples, drawn))]

    learner = make(judged=partly)
    before = weights(learner)

    result = learner.step(TRAIN, 0)

    assert not same(before, weights(learner))
    assert [result.advantages[n] is None for n in range(4)] == [False, True, False, False]
    assert (result.metrics.scored, result.metrics.failed) == (48, 16)
    assert all(isinstance(record.result, Failure) for record in result.records[1::4])


def test_policy_failures_have_no_tokens_to_learn_from() -> None:
    class Failing(type(load_tiny("tiny"))):  # type: ignore[misc]  # a class made at run time
        def complete(self, *args: Any, **kwargs: Any) -> Any:
            drawn = list(super().complete(*args, **kwargs))
            return iter([Failure(FailureCode.POLICY_ERROR, "down") if n < 5 else one for n, one in enumerate(drawn)])

    sound = load_tiny("tiny")
    policy = Failing(sound.model, sound.tokenizer, sound.spec)
    learner = Learner(policy, sound.frozen_copy(), strictly, PRESETS["rloo"], settings=LearnerSettings(group=4),
                      sampling=Sampling(max_tokens=10))  # fmt: skip

    result = learner.step(TRAIN, 0)

    assert result.metrics.failures == {"policy_error": 5}
    assert (result.metrics.completions, result.metrics.failed) == (59, 5)
    assert result.records[0].completion is None


def test_gradient_does_not_depend_on_the_micro_batch() -> None:
    moved = []
    for micro_batch in (None, 5, 1):
        learner = make(optimizer="sgd", learning_rate=1.0, schedule="constant", micro_batch=micro_batch)
        learner.step(TRAIN, 0)
        moved.append(torch.cat([tensor.flatten() for tensor in weights(learner)]))
    assert torch.allclose(moved[0], moved[1], atol=2e-5)
    assert torch.allclose(moved[0], moved[2], atol=2e-5)


def test_reward_that_explodes_the_gradient_is_one_message() -> None:
    details = Details("x", Outcome.WRONG, None, "")

    def absurd(examples: Sequence[Example], drawn: Drawn) -> list[Score | Failure]:
        return [Score(1e300 * (-1) ** n, details) for n, _ in enumerate(drawn)]

    with pytest.raises(BadInput, match="learning has diverged; lower --learning-rate"):
        make(judged=absurd).step(TRAIN, 0)


def test_equal_rewards_give_no_reward_gradient() -> None:
    def equally(examples: Sequence[Example], drawn: Drawn) -> list[Score | Failure]:
        return [Score(0.1, Details("x", Outcome.WRONG, None, "")) for _ in drawn]

    learner = make(Estimator(baseline="leave-one-out"), judged=equally)
    before = weights(learner)

    result = learner.step(TRAIN, 0)

    assert result.metrics.gradient_norm == 0
    assert result.metrics.groups_without_signal == 1
    assert same(before, weights(learner))


@pytest.mark.parametrize(
    ("settings", "sampling", "message"),
    [
        ({"group": 1}, {}, "one completion a prompt"),
        ({"steps": 0}, {}, "--steps 0"),
        ({"learning_rate": float("nan")}, {}, "--learning-rate nan"),
        ({"max_grad_norm": 0.0}, {}, "--max-grad-norm"),
        ({"micro_batch": 0}, {}, "--micro-batch 0"),
        ({}, {"temperature": 0.0}, "--temperature 0"),
    ],
)
def test_settings_that_cannot_learn_are_refused(
    settings: dict[str, Any], sampling: dict[str, Any], message: str
) -> None:
    policy = load_tiny("tiny")
    with pytest.raises(BadInput, match=message):
        Learner(
            policy,
            policy,
            strictly,
            PRESETS["rloo"],
            settings=LearnerSettings(**settings),
            sampling=Sampling(**sampling),
        )


def test_kl_without_a_reference_is_refused() -> None:
    with pytest.raises(BadInput, match="needs a reference policy"):
        Learner(load_tiny("tiny"), None, strictly, PRESETS["rloo"], settings=LearnerSettings(), sampling=Sampling())


def test_learning_rate_is_a_function_of_the_step() -> None:
    rates = {name: [learning_rate(LearnerSettings(steps=4, learning_rate=1.0, schedule=name), step) for step in range(5)]
             for name in ("constant", "linear", "cosine")}  # fmt: skip
    assert rates["constant"] == [1.0] * 5
    assert rates["linear"] == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert rates["cosine"] == pytest.approx([1.0, 0.853553, 0.5, 0.146447, 0.0], abs=1e-6)


def test_records_keep_the_sampled_ids_and_the_reference_logprob() -> None:
    learner = make()
    steps(learner, range(3))
    result = learner.step(TRAIN, 3)

    drawn = [one for one in result.completions if isinstance(one, Completion)]
    expected = learner.reference.logprobs(  # type: ignore[union-attr]  # rloo has one
        [learner.policy.prompt_ids(example.prompt) for example in TRAIN for _ in range(4)],
        [one.token_ids or () for one in drawn],
    )
    for record, one, logprobs in zip(result.records, drawn, expected, strict=True):
        assert record.completion is not None
        assert record.completion.token_ids == one.token_ids
        assert record.completion.ref_logprob == pytest.approx(sum(logprobs), abs=5e-4)


@pytest.mark.parametrize(("temperature", "top_k", "micro_batch"), [(1.0, 0, None), (0.7, 0, 5), (1.3, 6, None)])
def test_exact_kl_of_every_step_is_that_of_the_distributions_drawn_from(
    temperature: float, top_k: int, micro_batch: int | None
) -> None:
    policy = load_tiny("tiny")
    sampling = Sampling(max_tokens=10, temperature=temperature, top_k=top_k)
    settings = LearnerSettings(steps=10, group=4, micro_batch=micro_batch)
    learner = Learner(policy, policy.frozen_copy(), strictly, PRESETS["rloo"], settings=settings, sampling=sampling)
    first = learner.step(TRAIN, 0)
    assert top_k or first.metrics.kl_exact == pytest.approx(0, abs=1e-9)
    learner.step(TRAIN, 1)
    before = policy.frozen_copy()

    result = learner.step(TRAIN, 2)

    found = []
    for example, group in zip(TRAIN, range(0, 64, 4), strict=True):
        for drawn in result.completions[group : group + 4]:
            assert isinstance(drawn, Completion)
            ids = [[drawn.token_ids or ()]]
            prompt = [policy.prompt_ids(example.prompt)]
            ours = before.training_pass(prompt, ids, sampling)
            theirs = load_tiny("tiny").training_pass(prompt, ids, Sampling(temperature=temperature))
            p, q = ours.vocabulary_RV[ours.state_NT[0]].exp(), theirs.vocabulary_RV[theirs.state_NT[0]].exp()
            found.append(float(torch.where(p > 0, p * (p / q).log(), 0.0).detach().sum()))
    assert result.metrics.kl_exact == pytest.approx(sum(found) / len(found), rel=1e-4)
    assert result.metrics.kl is not None
    assert result.metrics.distance == result.metrics.kl_exact


def test_without_a_reference_there_is_no_kl() -> None:
    policy = load_tiny("tiny")
    learner = Learner(policy, None, strictly, PRESETS["reinforce"], settings=LearnerSettings(group=4),
                      sampling=Sampling(max_tokens=10))  # fmt: skip
    metrics = learner.step(TRAIN, 0).metrics
    assert (metrics.kl, metrics.kl_exact, metrics.distance) == (None, None, None)


def test_large_vocabulary_has_an_exact_kl_only_in_a_loss_that_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lockedroom.loops.learning.update.LARGEST_VOCABULARY", 10)
    assert make().step(TRAIN, 0).metrics.kl_exact is None
    estimator = Estimator(kl="exact-in-loss", beta=0.1)
    again = make(estimator)
    steps(again, range(2))
    monkeypatch.undo()
    kept = make(estimator)
    steps(kept, range(2))
    assert same(weights(again), weights(kept))


def test_running_mean_of_one_step_is_the_baseline_of_the_next() -> None:
    learner = make(Estimator(baseline="ema", ema_decay=0.5))
    first, second = steps(learner, range(2))
    assert first.metrics.baseline == 0.0
    assert first.metrics.reward == pytest.approx(2 * second.metrics.baseline)
    assert learner.ema == pytest.approx(0.5 * second.metrics.baseline + 0.5 * (second.metrics.reward or 0.0))


def test_value_head_does_not_learn_from_failures() -> None:
    """Were failures learned as zeros, the head would be the one that zeros give."""

    def head(instead: Score | Failure) -> ValueHead:
        def judged(examples: Sequence[Example], drawn: Drawn) -> list[Score | Failure]:
            return [instead if n % 4 == 1 else one for n, one in enumerate(strictly(examples, drawn))]

        learner = make(Estimator(baseline="value"), judged=judged)
        learner.step(TRAIN, 0)
        assert learner.value_head is not None
        return learner.value_head

    failed, zeros = head(FAILED), head(Score(0.0, Details("x", Outcome.WRONG, None, "")))
    assert not torch.allclose(failed.gram_DD, zeros.gram_DD)


@pytest.mark.parametrize("per", ["token", "completion"])
def test_value_head_learns_the_reward_with_its_charge_for_kl(per: str) -> None:
    def moments(beta: float) -> torch.Tensor:
        estimator = Estimator(baseline="value", kl="k1-in-reward", kl_per=per, beta=beta)  # type: ignore[arg-type]
        learner = Learner(load_tiny("tiny"), load_tiny("tiny-hedge"), strictly, estimator,
                          settings=LearnerSettings(group=4), sampling=Sampling(max_tokens=10))  # fmt: skip
        learner.step(TRAIN, 0)
        assert learner.value_head is not None
        return learner.value_head.moments_D

    one, two, three = moments(1.0), moments(2.0), moments(3.0)
    assert float((two - one).norm()) > 1e-3 * float(one.norm())
    assert torch.allclose(two - one, three - two)


def test_drift_counts_completions_whose_text_has_other_tokens_than_were_sampled() -> None:
    learner = make()
    result = learner.step(TRAIN, 0)

    drawn = [one for one in result.completions if isinstance(one, Completion)]
    sampled = [[i for i in one.token_ids or () if i not in learner.policy.end_ids] for one in drawn]
    other = sum(list(learner.policy.encode(one.text)) != ids for one, ids in zip(drawn, sampled, strict=True))
    assert result.metrics.drift == other
    assert other < len(drawn)


def test_reuse_moves_the_policy_once_an_epoch_and_measures_against_what_was_sampled() -> None:
    """With a clip of next to nothing, most of what the first update moved is clipped in the two that follow, never in it."""
    estimator = Estimator(baseline="leave-one-out", epochs=3, clip_low=1e-3, clip_high=1e-3)
    learner = make(estimator, learning_rate=0.01)
    once = make(msgspec.structs.replace(estimator, epochs=1), learning_rate=0.01)

    metrics = learner.step(TRAIN, 0).metrics
    assert once.step(TRAIN, 0).metrics.clipped == 0

    assert (learner.updates, once.updates) == (3, 1)
    assert metrics.mismatch < 5e-5
    assert 0.1 < metrics.clipped <= 2 / 3
    assert not same(weights(learner), weights(once))


def test_fine_tuning_on_what_passed_goes_by_the_outcome_and_not_by_a_part_of_the_reward() -> None:
    def partly(examples: Sequence[Example], drawn: Drawn) -> list[Score | Failure]:
        return [Score(0.5, Details("x", Outcome.WRONG, None, "")) for _ in drawn]

    learner = make(PRESETS["rejection-sampling"], judged=partly)
    before = weights(learner)
    assert set(learner.step(TRAIN, 0).advantages) == {None}
    assert same(before, weights(learner))


def test_entropy_and_truncation_of_a_step_are_those_of_its_completions() -> None:
    policy = load_tiny("tiny")
    learner = Learner(policy, policy.frozen_copy(), strictly, PRESETS["rloo"], settings=LearnerSettings(group=4),
                      sampling=Sampling(max_tokens=4))  # fmt: skip
    result = learner.step(TRAIN, 0)

    drawn = [one for one in result.completions if isinstance(one, Completion)]
    tokens = sum(len(one.token_ids or ()) for one in drawn)
    assert result.metrics.entropy == pytest.approx(-sum(one.logprob or 0.0 for one in drawn) / tokens)
    cut = sum((one.token_ids or (0,))[-1] not in policy.end_ids for one in drawn)
    assert 0 < cut < len(drawn)
    assert result.metrics.truncated == cut


def test_long_gradients_are_scaled_to_the_norm_asked_for() -> None:
    def moved(norm: float) -> float:
        learner = make(optimizer="sgd", learning_rate=1.0, schedule="constant", max_grad_norm=norm)
        before = weights(learner)
        assert learner.step(TRAIN, 0).metrics.gradient_norm > 0.01
        return float(sum(((a - b) ** 2).sum() for a, b in zip(before, weights(learner), strict=True)) ** 0.5)

    assert moved(0.01) == pytest.approx(0.01, rel=1e-3)
    assert moved(float("inf")) > 0.011
