"""The fake that ships."""

from __future__ import annotations

from lockedroom.policy.scripted import ScriptedPolicy
from lockedroom.records import Completion, Failure, FailureCode, Sampling
from lockedroom.testkit.small_run import additions

BROKEN = Failure(FailureCode.POLICY_ERROR, "the server is down")


def test_a_mapping_answers_prompt_by_prompt_and_draw_by_draw() -> None:
    policy = ScriptedPolicy({"e0": ["a", Completion("b")], "e1": [BROKEN, "d"]})
    drawn = list(policy.complete(additions(2), range(2), Sampling()))
    assert drawn == [Completion("a"), Completion("b"), BROKEN, Completion("d")]


def test_what_the_script_does_not_hold_is_a_failure_and_not_an_empty_completion() -> None:
    drawn = list(ScriptedPolicy({"e0": ["a"]}).complete(additions(2), range(2), Sampling()))
    codes = [one.code for one in drawn if isinstance(one, Failure)]
    assert codes == [FailureCode.MISSING_COMPLETION] * 3


def test_a_function_sees_the_prompt_and_the_draw() -> None:
    policy = ScriptedPolicy(lambda prompt, draw: f"{prompt.prompt}/{draw}", name="echo")
    assert list(policy.complete(additions(1), range(1, 3), Sampling())) == [
        Completion("What is 0 + 1?/1"),
        Completion("What is 0 + 1?/2"),
    ]
    assert (policy.spec.name, policy.spec.kind) == ("echo", "scripted")


def test_a_scripts_identity_follows_its_content_and_not_its_order() -> None:
    one, same, other = (
        ScriptedPolicy(script).spec.identity
        for script in ({"a": ["1"], "b": ["2"]}, {"b": ["2"], "a": ["1"]}, {"a": ["1"], "b": ["3"]})
    )
    assert one == same
    assert one != other
