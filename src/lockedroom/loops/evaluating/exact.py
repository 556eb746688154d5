"""The exact part of Loop A: the probability that a policy's completion is accepted, example by example."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lockedroom.errors import BadInput
from lockedroom.protocols import Policy, Scorer, TokenPolicy
from lockedroom.records import Example, Sampling
from lockedroom.results.evaluation.exact import ExactExample
from lockedroom.scorer.builtin import BuiltinScorer

Accepted = Callable[[Example], tuple[str, ...]]


def require_exact(policy: Policy | TokenPolicy, scorer: Scorer) -> tuple[TokenPolicy, Accepted]:
    """Return the two halves that exact measurement needs, or raise BadInput saying which is missing."""
    if not isinstance(policy, TokenPolicy):
        raise BadInput(
            f"--exact: {policy.spec.name} gives no probabilities; use a policy that does, e.g. --policy tiny"
        )
    if not isinstance(scorer, BuiltinScorer) or scorer.accepted is None:
        raise BadInput(
            f"--exact: scorer {scorer.spec.name} cannot list the completions it accepts; use one that can, e.g. final-int"
        )
    return policy, scorer.accepted


def measure_exactly(
    policy: TokenPolicy, accepted: Accepted, examples: Sequence[Example], sampling: Sampling
) -> list[ExactExample]:
    """Return the exact probability that a completion of each example is accepted, summed over its accepted strings."""
    texts = [_writable(policy, accepted(example)) for example in examples]
    found = policy.completion_probabilities([example.prompt for example in examples], texts, sampling)
    return [
        ExactExample(
            example.id,
            sum(text.total for text in row),
            sum(text.canonical for text in row),
            sum(text.truncated for text in row),
        )
        for example, row in zip(examples, found, strict=True)
    ]


def _writable(policy: TokenPolicy, texts: Sequence[str]) -> list[str]:
    """Leave out what the policy has no tokens for: it has probability 0."""
    writable = []
    for text in texts:
        try:
            policy.tokens(text)
        except BadInput:
            continue
        writable.append(text)
    return writable
