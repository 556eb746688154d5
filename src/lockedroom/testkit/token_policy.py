"""A conformance suite for token policies: plain functions that raise AssertionError with a sentence.

Any backend whose distribution can be read should pass all of them; `check_all(policy)` runs the lot. They ask for what
the lab relies on: completions that belong to (seed, example, draw) alone, token ids and log-probabilities that describe
what was really sampled, and endings that are what they say. Give your own `prompts` if the policy cannot read these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from lockedroom.errors import BadInput
from lockedroom.protocols import Prompt, TokenPolicy
from lockedroom.records import Completion, Failure, FinishReason, Sampling
from lockedroom.wording import counted

# Recomputed log-probabilities come from another kernel in float32; measured differences are below 1e-5.
TOLERANCE_NATS = 5e-5
MAX_TOKENS = 12
DRAWS = 4


class _Prompt(msgspec.Struct, frozen=True):
    id: str
    prompt: str


PROMPTS: tuple[Prompt, ...] = tuple(
    _Prompt(f"check-{a}-{b}", f"Compute {a}{op}{b}. Output exactly one line: Final: <int>")
    for a, op, b in ((1, "+", 2), (12, "+", 7), (45, "-", 44), (99, "+", 99), (80, "-", 3), (5, "-", 5), (31, "+", 64))
)


def check_all(policy: TokenPolicy, prompts: Sequence[Prompt] = PROMPTS) -> None:
    """Run every check of this module."""
    for check in (
        check_order, check_determinism, check_batch_invariance, check_draws_differ, check_endings, check_truncation,
        check_stop, check_logprobs, check_greedy, check_empty_prompt, check_maximum_lengths, check_bad_sampling,
    ):  # fmt: skip
        check(policy, prompts)


def check_order(policy: TokenPolicy, prompts: Sequence[Prompt] = PROMPTS) -> None:
    """Results come prompt by prompt, within a prompt draw by draw."""
    together = _complete(policy, prompts)
    apart = [
        c for prompt in prompts for draw in range(DRAWS) for c in _complete(policy, [prompt], range(draw, draw + 1))
    ]
    _expect(
        len(together) == len(prompts) * DRAWS, f"{counted(len(together), 'result')} for {len(prompts)} x {DRAWS} asked"
    )
    _expect(
        [c.text for c in together] == [c.text for c in apart], "results are not in prompt-by-prompt, draw-by-draw order"
    )


def check_determinism(policy: TokenPolicy, prompts: Sequence[Prompt] = PROMPTS) -> None:
    """The same call gives the same completions, to the last bit of every log-probability."""
    _expect(_complete(policy, prompts) == _complete(policy, prompts), "two equal calls gave different completions")


def check_batch_invariance(policy: TokenPolicy, prompts: Sequence[Prompt] = PROMPTS) -> None:
    """A completion is the same alone, among others, in another order, and as part of another range of draws."""
    whole = dict(_keyed(policy, prompts, range(DRAWS)))
    for number, subset in enumerate(
        (prompts[:1], list(reversed(prompts)), prompts[1::2], [*prompts[3:], *prompts[:3]])
    ):
        for draws in (range(DRAWS), range(1, DRAWS), range(DRAWS - 1, DRAWS)):
            for key, completion in _keyed(policy, subset, draws):
                _expect(
                    completion == whole[key],
                    f"{key} differs in batch {number}, draws {draws}: {completion} {whole[key]}",
                )


def check_draws_differ(policy: TokenPolicy, prompts: Sequence[Prompt] = PROMPTS) -> None:
    """Draws, seeds and example ids have their own randomness: the same prompt under another id gives other completions."""
    many = range(16)
    ids = [c.token_ids for c in _complete(policy, prompts[:1], many)]
    _expect(len(set(ids)) > 1, "16 draws of one prompt at temperature 1 are all equal")
    other_seed = [c.token_ids for c in _complete(policy, prompts[:1], many, seed=1)]
    other_id = [c.token_ids for c in _complete(policy, [_Prompt("another id", prompts[0].prompt)], many)]
    _expect(ids != other_seed, "another seed gave the same 16 completions")
    _expect(ids != other_id, "another example id gave the same 16 completions")


def check_endings(policy: TokenPolicy, prompts: Sequence[Prompt] = PROMPTS) -> None:
    """A stopped completion ends with one end token, a truncated one holds none, and the ids spell the text."""
    for c in _complete(policy, prompts, range(16)):
        ids = _ids(c)
        _expect(
            policy.decode([i for i in ids if i not in policy.end_ids]) == c.text, f"ids {ids} do not spell {c.text!r}"
        )
        _expect(not set(policy.end_ids) & set(ids[:-1]), f"an end token inside {ids}")
        stopped = ids[-1] in policy.end_ids
        _expect(
            c.finish_reason is (FinishReason.STOP if stopped else FinishReason.LENGTH), f"{c.finish_reason} for {ids}"
        )
        _expect(stopped or len(ids) == MAX_TOKENS, f"truncated after {len(ids)} of {MAX_TOKENS} tokens")


def check_truncation(policy: TokenPolicy, prompts: Sequence[Prompt] = PROMPTS) -> None:
    """A lower token limit cuts the same completion short, counts the end token, and says so."""
    whole = _complete(policy, prompts)
    for limit in (1, 2, 3):
        for short, full in zip(_complete(policy, prompts, max_tokens=limit), whole, strict=True):
            _expect(
                _ids(short) == _ids(full)[:limit],
                f"limit {limit}: {short.token_ids} is no beginning of {full.token_ids}",
            )
            ended = bool(set(policy.end_ids) & set(_ids(short)))
            _expect(
                (short.finish_reason is FinishReason.STOP) == ended, f"limit {limit}: {short.finish_reason} for {short}"
            )


def check_stop(policy: TokenPolicy, prompts: Sequence[Prompt] = PROMPTS) -> None:
    """A stop string ends the same completion early; it and what follows are not in the text, its tokens are in the ids."""
    whole = _complete(policy, prompts, range(16))
    characters = sorted({character for c in whole for character in c.text})
    for stop in (*characters[:3], *characters[-3:], next(c.text[1:3] for c in whole if len(c.text) > 2)):
        for short, full in zip(_complete(policy, prompts, range(16), stop=(stop,)), whole, strict=True):
            _expect(short.text == full.text.split(stop)[0], f"stop {stop!r}: {short.text!r} from {full.text!r}")
            _expect(
                _ids(short) == _ids(full)[: len(_ids(short))], f"stop {stop!r} changed the tokens sampled before it"
            )
            if stop in full.text:
                _expect(short.finish_reason is FinishReason.STOP, f"stop {stop!r} was met, but {short.finish_reason}")
                _expect(stop in policy.decode(_ids(short)), f"stop {stop!r}: its tokens are missing from the ids")


def check_logprobs(policy: TokenPolicy, prompts: Sequence[Prompt] = PROMPTS) -> None:
    """Recorded log-probabilities are those of the distribution sampled, as a second reading of the ids finds them."""
    for settings in (
        {},
        {"temperature": 0.7},
        {"top_k": 3},
        {"top_p": 0.8},
        {"temperature": 1.5, "top_k": 9, "top_p": 0.9},
    ):
        sampling = Sampling(max_tokens=MAX_TOKENS, **settings)
        completions = _complete(policy, prompts, range(8), **settings)
        asked = [policy.prompt_ids(prompt.prompt) for prompt in prompts for _ in range(8)]
        read = policy.logprobs(asked, [_ids(c) for c in completions], sampling)
        for c, logprobs in zip(completions, read, strict=True):
            recorded = c.token_logprobs or ()
            _expect(
                len(recorded) == len(_ids(c)) == len(logprobs),
                f"{counted(len(recorded), 'log-probability', 'log-probabilities')} for {c.token_ids}",
            )
            worst = max(abs(a - b) for a, b in zip(recorded, logprobs, strict=True))
            _expect(worst <= TOLERANCE_NATS, f"{settings}: recorded and recomputed differ by {worst} nats in {c}")
            _expect(max(recorded) <= 0, f"a probability above 1 in {c}")
            _expect(
                c.logprob is not None and abs(c.logprob - math.fsum(recorded)) < 1e-9, f"logprob is not the sum in {c}"
            )


def check_greedy(policy: TokenPolicy, prompts: Sequence[Prompt] = PROMPTS) -> None:
    """Temperature 0 is one certain completion: the same for every draw and seed, with log-probability 0."""
    for prompt in prompts:
        found = [c for seed in (0, 1) for c in _complete(policy, [prompt], temperature=0.0, seed=seed)]
        _expect(len({c.token_ids for c in found}) == 1, f"greedy completions of {prompt.prompt!r} differ")
        _expect(all(c.logprob == 0 for c in found), f"a greedy completion of {prompt.prompt!r} has a log-probability")


def check_empty_prompt(policy: TokenPolicy, prompts: Sequence[Prompt] = PROMPTS) -> None:
    """An empty prompt is a prompt: it is completed, alone and among others, the same."""
    empty = _Prompt("empty", "")
    alone = _complete(policy, [empty])
    among = _complete(policy, [*prompts, empty])[-DRAWS:]
    _expect(alone == among, "an empty prompt is completed differently among others")


def check_maximum_lengths(policy: TokenPolicy, prompts: Sequence[Prompt] = PROMPTS) -> None:
    """The longest prompt that leaves room for one token gets one; a longer one, or a limit beyond, is BadInput."""
    for c in _complete(policy, prompts, max_tokens=None):
        _expect(len(_ids(c)) <= policy.context, f"{counted(len(_ids(c)), 'token')} in a context of {policy.context}")
    text, longest = prompts[0].prompt, ""
    while len(policy.prompt_ids(longest)) < policy.context - 1:
        longest += text[len(longest) % len(text)]
    one = _complete(policy, [_Prompt("longest", longest)], max_tokens=None)
    _expect(all(len(_ids(c)) == 1 for c in one), "a prompt that leaves room for one token got more")
    _expect_bad_input(policy, [_Prompt("too long", longest + text)], "a prompt beyond the context")
    _expect_bad_input(policy, prompts, "max_tokens beyond the context", max_tokens=policy.context + 1)


def check_bad_sampling(policy: TokenPolicy, prompts: Sequence[Prompt] = PROMPTS) -> None:
    """Settings that are no distribution are refused before anything is sampled."""
    bad: tuple[dict[str, Any], ...] = (
        {"temperature": -0.1}, {"temperature": math.nan}, {"temperature": math.inf}, {"top_p": 0.0}, {"top_p": 1.1},
        {"top_p": math.nan}, {"top_k": -1}, {"max_tokens": 0}, {"max_tokens": -5}, {"stop": ("",)},
    )  # fmt: skip
    for settings in bad:
        _expect_bad_input(policy, prompts, str(settings), **settings)


def _complete(
    policy: TokenPolicy, prompts: Sequence[Prompt], draws: range = range(DRAWS), **settings: Any
) -> list[Completion]:
    sampling = Sampling(**{"max_tokens": MAX_TOKENS, **settings})
    found: list[Completion] = []
    for result in policy.complete(prompts, draws, sampling):
        if isinstance(result, Failure):
            raise AssertionError(f"the policy failed: {result.message}")
        found.append(result)
    return found


def _keyed(
    policy: TokenPolicy, prompts: Sequence[Prompt], draws: range
) -> Iterator[tuple[tuple[str, int], Completion]]:
    keys = [(prompt.id, draw) for prompt in prompts for draw in draws]
    return zip(keys, _complete(policy, prompts, draws), strict=True)


def _ids(completion: Completion) -> tuple[int, ...]:
    if not completion.token_ids:
        raise AssertionError(f"no token ids on {completion}")
    return completion.token_ids


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


def _expect_bad_input(policy: TokenPolicy, prompts: Sequence[Prompt], what: str, **settings: Any) -> None:
    try:
        _complete(policy, prompts, **settings)
    except BadInput:
        return
    raise AssertionError(f"{what} was accepted; it must be BadInput")
