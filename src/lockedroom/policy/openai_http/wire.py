"""The two dialects of an OpenAI-compatible server, as data: what is sent for a prompt, and what comes back."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.errors import BadInput
from lockedroom.jsonl import decode_line, encode_lines
from lockedroom.policy.openai_http.address import Key
from lockedroom.records import Completion, Failure, FailureCode, FinishReason, Sampling
from lockedroom.visible import visible

SEED_SCHEME = "blake2b(seed, example id, first draw of the request); the choices of a request are the server's"
_PERSON = b"lockedroom-http"  # separates these hashes from every other use of BLAKE2b
_FINISH = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "eos_token": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "length": FinishReason.LENGTH,
}
# What a server would otherwise decide itself (llama.cpp: top_k 40, min_p .05), at the values that change nothing.
NEUTRAL = {"top_k": 0, "min_p": 0.0}


class Dialect(msgspec.Struct, frozen=True):
    """How this server is spoken to. `choices`: it gives as many as `n` asks for; `extras`: it takes `NEUTRAL`'s names."""

    chat: bool
    choices: bool = True
    logprobs: bool = True
    extras: bool = True

    @property
    def path(self) -> str:
        return "/chat/completions" if self.chat else "/completions"


class Junk(Exception):
    """The server answered 200 with something that is no answer."""


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _TokenLogprob(msgspec.Struct, frozen=True):
    logprob: float


class _Logprobs(msgspec.Struct, frozen=True):
    """`content` in the chat dialect, `token_logprobs` in the other."""

    content: list[_TokenLogprob] | None = None
    token_logprobs: list[float | None] | None = None


class _Message(msgspec.Struct, frozen=True):
    content: str | None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message | None = None
    text: str | None = None
    index: int | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None
    token_ids: list[int] | None = None


class Answer(msgspec.Struct, frozen=True):
    """The body of an answer, as far as it matters here."""

    choices: list[_Choice]
    model: str | None = None
    system_fingerprint: str | None = None
    usage: Usage | None = None


_decoder = msgspec.json.Decoder(Answer)


def request_seed(seed: int, example_id: str, draw: int) -> int:
    """Return the seed of a request: 31 bits of a hash, since neighbouring seeds share completions on some servers."""
    named = f"{seed}/{draw}/{example_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(named, digest_size=4, person=_PERSON).digest(), "big") >> 1


def request_body(dialect: Dialect, model: str, prompt: str, sampling: Sampling, *, n: int, seed: int) -> bytes:
    """Return the JSON of a request for n completions of a prompt."""
    body: dict[str, Any] = {
        "model": model,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": seed,
        **({"messages": [{"role": "user", "content": prompt}]} if dialect.chat else {"prompt": prompt}),
    }
    if n > 1:
        body["n"] = n
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if dialect.logprobs:
        body |= {"logprobs": True, "top_logprobs": 0} if dialect.chat else {"logprobs": 0}
    if dialect.extras:
        body |= NEUTRAL | {"top_k": sampling.top_k}
    return encode_lines([body])


def parse_answer(raw: bytes) -> Answer:
    """Read the body of an answer. Raises Junk for anything that is not one, or holds no choices."""
    if raw.lstrip()[:1] == b"<":
        raise Junk("HTML instead of JSON")
    try:
        answer = decode_line(Path("answer"), 1, raw, _decoder, Answer)
    except BadInput as error:
        raise Junk(visible(str(error).removeprefix("answer:1: "), 160)) from None
    if not answer.choices:
        raise Junk("an answer without choices")
    return answer


def completions_of(answer: Answer, dialect: Dialect, sampling: Sampling, key: Key) -> list[Completion | Failure]:
    """Return what each choice holds, in the order of their indices. Raises Junk when a choice holds no text at all."""
    choices = answer.choices
    if all(choice.index is not None for choice in choices):
        choices = sorted(choices, key=lambda choice: choice.index or 0)
    return [_completion(choice, dialect, sampling, key) for choice in choices]


def _completion(choice: _Choice, dialect: Dialect, sampling: Sampling, key: Key) -> Completion | Failure:
    reason = choice.finish_reason
    if reason is not None and reason not in _FINISH:
        shown = visible(key.hidden(reason), 60)
        return Failure(FailureCode.POLICY_ERROR, f"the server ended this completion with finish_reason {shown!r}")
    if dialect.chat and choice.message is not None:
        text = choice.message.content or ""  # null: the model wrote nothing to show
    elif not dialect.chat and choice.text is not None:
        text = choice.text
    else:
        raise Junk("a choice without text")
    if key.stands_in(text):
        return Failure(FailureCode.POLICY_ERROR, "the completion repeats the API key, which is never written down")
    logprobs = token_logprobs(choice.logprobs)
    # Servers give the policy's own log-probabilities; they are of the distribution sampled from where nothing changes it.
    same = sampling.temperature == 1 and sampling.top_p == 1 and sampling.top_k == 0
    return Completion(
        text=text,
        logprob=math.fsum(logprobs) if logprobs is not None and same else None,
        finish_reason=None if reason is None else _FINISH[reason],
        token_ids=None if choice.token_ids is None else tuple(choice.token_ids),
        token_logprobs=logprobs if same else None,
        token_policy_logprobs=logprobs,
    )


def token_logprobs(given: _Logprobs | None) -> tuple[float, ...] | None:
    """Return the log-probability of every token of a completion, or None unless there is one for each."""
    if given is None:
        return None
    steps = given.token_logprobs if given.content is None else [token.logprob for token in given.content]
    if steps is None or not all(step is not None and math.isfinite(step) for step in steps):
        return None
    return tuple(step for step in steps if step is not None)
