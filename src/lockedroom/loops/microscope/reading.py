"""Reading a policy's distribution: how a text splits into tokens, how probable it is, and what the format costs.

The *format tax*: of the probability that a policy gives to the right number in any of a dozen spellings, the share that
the scorer does not pay, because the spelling is not the one it accepts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from lockedroom.errors import BadInput
from lockedroom.protocols import Scorer, TokenPolicy
from lockedroom.records import Example, Sampling, Score, Token

SPELLINGS = (
    "Final: {answer}",
    "Final: {answer}\n",
    "Final:{answer}",
    "Final:  {answer}",
    "Final : {answer}",
    "final: {answer}",
    "FINAL: {answer}",
    "Final {answer}",
    "Final: {answer}.",
    " Final: {answer}",
    "Final answer: {answer}",
    "Answer: {answer}",
    "The answer is {answer}",
    "The answer is {answer}.",
    "= {answer}",
    "{answer}",
    "{answer}.",
)


class TextReading(msgspec.Struct, frozen=True):
    """One text: its canonical tokens; after a prompt, their logprobs (nats, end token last) and its probability.

    `problem` says why the policy cannot write it; everything else is then empty. `probability` sums over all
    tokenisations and endings, `canonical` is the part that is tokenised as shown.
    """

    text: str
    tokens: list[Token]
    token_logprobs: list[float]
    probability: float | None
    canonical: float | None
    accepted: bool | None
    problem: str | None


class FormatTax(msgspec.Struct, frozen=True):
    """Probability of the right number in all spellings, the part that the scorer pays, and the share that it does not."""

    any_spelling: float
    accepted: float
    tax: float | None


def read_texts(policy: TokenPolicy, texts: Sequence[str], prompt: str | None, sampling: Sampling) -> list[TextReading]:
    """Return a reading of each text, the most probable first when there is a prompt, else in the order given."""
    readings = [_tokens_of(policy, text) for text in dict.fromkeys(texts)]
    if prompt is None:
        return readings
    written = [reading for reading in readings if reading.problem is None]
    prompt_ids = policy.prompt_ids(prompt)
    ids = [(*(token.id for token in reading.tokens), policy.end_id) for reading in written]
    logprobs = policy.logprobs([prompt_ids] * len(ids), ids, sampling)
    (found,) = policy.completion_probabilities([prompt], [[reading.text for reading in written]], sampling)
    measured = [
        msgspec.structs.replace(reading, token_logprobs=list(steps), probability=text.total, canonical=text.canonical)
        for reading, steps, text in zip(written, logprobs, found, strict=True)
    ]
    measured.sort(key=lambda reading: -(reading.probability or 0.0))
    return measured + [reading for reading in readings if reading.problem is not None]


def read_spellings(
    policy: TokenPolicy, scorer: Scorer, example: Example, texts: Sequence[str], sampling: Sampling
) -> tuple[list[TextReading], FormatTax]:
    """Return readings of the answer in every spelling (and of `texts`), marked by the scorer, and the format tax."""
    if not scorer.accepts(example.expected_answer):
        raise BadInput(f"--answer {example.expected_answer!r}: scorer {scorer.spec.name} cannot judge this answer")
    spelled = [spelling.format(answer=example.expected_answer) for spelling in SPELLINGS]
    readings = [
        msgspec.structs.replace(reading, accepted=_pays(scorer, example, reading.text))
        for reading in read_texts(policy, [*spelled, *texts], example.prompt, sampling)
    ]
    right = [reading for reading in readings if reading.text in spelled]
    total = math.fsum(reading.probability or 0.0 for reading in right)
    accepted = math.fsum(reading.probability or 0.0 for reading in right if reading.accepted)
    return readings, FormatTax(total, accepted, 1 - accepted / total if total else None)


def _tokens_of(policy: TokenPolicy, text: str) -> TextReading:
    try:
        return TextReading(text, policy.tokens(text), [], None, None, None, None)
    except BadInput as error:
        return TextReading(text, [], [], None, None, None, str(error))


def _pays(scorer: Scorer, example: Example, text: str) -> bool:
    result = scorer.score(example, text)
    return isinstance(result, Score) and result.reward > 0
