"""The nouns of the lab, as frozen structs. Read this file first.

An *example* is a dataset item. A *completion* is what a policy wrote for it. A *score* is what the scorer says of one
completion; a *failure* says that the instrument could not judge, and has no reward. A *record* is one attempt: one line
of `records.jsonl`. These types hold no behaviour beyond refusing to be misread.

`gc=False` keeps millions of records cheap: such structs are never part of a reference cycle, because they hold only
scalars, strings and decoded JSON.
"""

from __future__ import annotations

import enum
from typing import Any, NoReturn

import msgspec


class _NoTruth(enum.Enum):
    """An enum whose members refuse `bool()`: `if outcome:` would be true even for `wrong`."""

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self!r} has no truth value; compare it, e.g. outcome is Outcome.CORRECT")


class Outcome(_NoTruth):
    """The closed set of verdicts; every code of a scorer maps to exactly one."""

    CORRECT = "correct"
    WRONG = "wrong"
    MALFORMED = "malformed"


class FailureCode(_NoTruth):
    """Why an attempt could not be judged."""

    MISSING_COMPLETION = "missing_completion"
    POLICY_ERROR = "policy_error"
    SCORER_RAISED = "scorer_raised"
    SCORER_TIMEOUT = "scorer_timeout"
    SCORER_DIED = "scorer_died"
    SCORER_MEMORY = "scorer_memory"
    SCORER_INVALID_RESULT = "scorer_invalid_result"


class FinishReason(_NoTruth):
    """Why a completion ended: an end or stop token, or the token limit (a *truncated* completion)."""

    STOP = "stop"
    LENGTH = "length"


class Example(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One dataset item. `expected_answer` is any JSON value; an integer may have any number of digits."""

    id: str
    prompt: str
    expected_answer: Any
    metadata: dict[str, Any] | None = None


class Completion(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a policy wrote.

    `logprob` and `ref_logprob` are sums over the completion's tokens, in nats, under the sampling policy and under a
    reference policy. The token fields have one entry per token, end token included, as they were sampled; they are
    never re-tokenised from `text`. `token_logprobs` are of the distribution that was sampled (after temperature, top-k
    and top-p), `token_policy_logprobs` of the policy itself (temperature 1, nothing truncated).
    """

    text: str
    logprob: float | None = None
    ref_logprob: float | None = None
    finish_reason: FinishReason | None = None
    token_ids: tuple[int, ...] | None = None
    token_logprobs: tuple[float, ...] | None = None
    token_policy_logprobs: tuple[float, ...] | None = None


class Token(msgspec.Struct, frozen=True, gc=False):
    """One token of a text: its id, its piece, and the span `text[start:end]` that it covers."""

    id: int
    piece: str
    start: int
    end: int


class TextProbability(msgspec.Struct, frozen=True, gc=False):
    """How probable one text is as a completion.

    `total` sums over every tokenisation and every ending. `canonical` is the part whose sampled tokens are what the
    tokenizer makes of the text they spell; `truncated` is the part that ends at the token limit.
    """

    total: float
    canonical: float
    truncated: float


class Details(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Why a reward is what it is: the scorer's code, its outcome, what was parsed (or None), and a sentence.

    `extra` keeps whatever else a person's own scorer returned in its details.
    """

    code: str
    outcome: Outcome
    parsed: str | None
    message: str
    extra: dict[str, Any] | None = None


class Score(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="score"):
    """What the scorer says of one completion."""

    reward: float
    details: Details


class Failure(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="failure"):
    """The instrument could not judge this attempt. There is no reward here, so it cannot be averaged in."""

    code: FailureCode
    message: str


class Record(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One attempt. `completion` is None only when none was drawn (`result` then says why)."""

    id: str
    draw: int
    completion: Completion | None
    result: Score | Failure


class Code(msgspec.Struct, frozen=True):
    """One word of a scorer's closed vocabulary, the outcome it means, and that meaning as a sentence.

    `reward` is the reward that always goes with this code, or None where it varies.
    """

    name: str
    outcome: Outcome
    meaning: str
    reward: float | None = None


class ScorerSpec(msgspec.Struct, frozen=True):
    """What a scorer is: its name, its version, and the codes it may return.

    `codes` empty means that a person's own scorer declared none; the outcome is then read from its details or, failing
    that, from the reward (1 is correct, anything else is wrong), and the summary says so.
    """

    name: str
    version: int
    codes: tuple[Code, ...] = ()
    reward_range: tuple[float, float] = (0.0, 1.0)


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """How completions are drawn. Temperature 0 is greedy decoding; `top_k` 0 and `top_p` 1 truncate nothing."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int = 0


class PolicySpec(msgspec.Struct, frozen=True):
    """Who wrote the completions, as far as is known.

    `identity` holds whatever pins the policy down: weights or file sha256, tokenizer, engine and version.
    """

    name: str
    kind: str
    identity: dict[str, Any]
