"""The two dialects of an OpenAI-compatible server, as data: what is sent for a prompt, and what comes back."""

from __future__ import annotations

import hashlib
import json
import math
from codecs import BOM_UTF8
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
_STOP, _LENGTH = FinishReason.STOP, FinishReason.LENGTH
# What servers call the two ends that a completion may have (in any case of letters); every other is a Failure.
_FINISH = {
    **dict.fromkeys(("stop", "eos", "eos_token", "stop_sequence", "end_turn"), _STOP),
    **dict.fromkeys(("length", "max_tokens"), _LENGTH),
}
# What a server would otherwise decide itself (llama.cpp: top_k 40, min_p .05; vLLM: the penalty that the model's
# generation_config.json names), at the values that change nothing.
NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


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


class _TokenLogprob(msgspec.Struct, frozen=True):
    logprob: float


class _Logprobs(msgspec.Struct, frozen=True):
    """`content` in the chat dialect, `token_logprobs` in the other."""

    content: list[_TokenLogprob] | None = None
    token_logprobs: list[float | None] | None = None


class _Message(msgspec.Struct, frozen=True):
    content: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None


class _Choice(msgspec.Struct, frozen=True):
    """What surrounds the text is read afterwards and may be of any shape: a paid completion is not lost to it."""

    message: _Message | None = None
    text: Any = None
    index: Any = None
    finish_reason: Any = None
    logprobs: msgspec.Raw = msgspec.Raw()
    token_ids: Any = None


class Answer(msgspec.Struct, frozen=True):
    """The body of an answer, as far as it matters here."""

    choices: list[_Choice]
    model: Any = None
    system_fingerprint: Any = None
    usage: Any = None

    def said(self, field: str) -> str | None:
        """Return a field that is a text, or None."""
        found = getattr(self, field)
        return found if isinstance(found, str) else None

    def tokens(self, field: str) -> int | None:
        """Return a count of `usage`, or None where there is no such number."""
        found = self.usage.get(field) if isinstance(self.usage, dict) else None
        return found if type(found) is int and 0 <= found < 2**53 else None


_decoder = msgspec.json.Decoder(Answer)
_logprobs_decoder = msgspec.json.Decoder(_Logprobs | None)
# What OpenAI's servers write for a token that is too unlikely to have a number.
NO_NUMBER = -9999.0
# Kinds of the parts of a message: two that are text, two that are not shown to the reader.
PART_KINDS = ("text", "output_text", "thinking", "reasoning")
LONGEST_INTEGER = 40  # digits; nothing that a server counts needs half of them
# A log-probability is at most 0, but for the rounding of a 32-bit sum.
ROUNDING = 1e-3


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
    raw = raw.removeprefix(BOM_UTF8)
    if raw.lstrip()[:1] == b"<":
        raise Junk("HTML instead of JSON")
    if not raw.strip():
        raise Junk("an empty answer")
    try:
        answer = decode_line(Path("answer"), 1, raw, _decoder, Answer)
    except BadInput as error:
        found = _leniently(raw)
        if found is None:
            raise _no_answer(raw, error) from None
        answer = found
    if not answer.choices:
        said = error_in(raw)
        raise Junk(f"an answer without choices{f': {said}' if said else ''}")
    return answer


def _leniently(raw: bytes) -> Answer | None:
    """Read an answer that holds what JSON has no words for (NaN, 1e999, half a surrogate pair): it stands beside the text
    mostly, and where it does not, the text is none."""
    try:
        value = json.loads(
            raw.decode(), parse_int=lambda digits: int(digits) if len(digits) < LONGEST_INTEGER else None
        )
        for choice in value["choices"]:
            if "logprobs" in choice:
                choice["logprobs"] = msgspec.Raw(json.dumps(choice["logprobs"]).encode())
        return msgspec.convert(value, Answer)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _no_answer(raw: bytes, error: BadInput) -> Junk:
    said = error_in(raw)
    if said:
        return Junk(f"an error instead of an answer: {said}")
    if raw.lstrip().startswith((b"data:", b"event:")):
        return Junk("a stream of events, though none was asked for")
    # What to do about it is said to those who wrote a file; nobody here wrote this one.
    return Junk(f"not an answer: {visible(str(error).removeprefix('answer:1: ').partition(';')[0], 160)}")


def error_in(raw: bytes) -> str | None:
    """Return the server's message in the body of an error: `error.message`, `error`, `message` or `detail`."""
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return _message_in(body)


def _message_in(body: object) -> str | None:
    if not isinstance(body, dict):
        return None
    for name in ("error", "message", "detail"):
        found = body.get(name)
        if isinstance(found, str):
            return found
        if isinstance(found, dict):
            return _message_in(found)
        if found:
            return msgspec.json.encode(found).decode()
    return None


def completions_of(answer: Answer, dialect: Dialect, sampling: Sampling, key: Key) -> list[Completion | Failure]:
    """Return what each choice holds, in the order of their indices."""
    choices = answer.choices
    if all(type(choice.index) is int for choice in choices):
        choices = sorted(choices, key=lambda choice: choice.index)
    return [_completion(choice, dialect, sampling, key) for choice in choices]


def _completion(choice: _Choice, dialect: Dialect, sampling: Sampling, key: Key) -> Completion | Failure:
    end = choice.finish_reason or None  # some servers write ""
    reason = _FINISH.get(end.lower()) if isinstance(end, str) else None
    if end is not None and reason is None:
        return _failure(f"the server ended this completion with finish_reason {visible(key.hidden(str(end)), 60)!r}")
    if dialect.chat and choice.message is not None:
        if choice.message.tool_calls or choice.message.function_call:
            return _failure("the completion calls tools, and none were offered")
        text = _text_of(choice.message.content)
        if text is None:  # the model wrote nothing to show, or declined
            text = choice.message.refusal or ""
    else:
        text = None if dialect.chat else choice.text
    if not isinstance(text, str):
        return _failure("the server answered with a choice without text")
    if key.stands_in(text):
        return _failure("the completion repeats the API key, which is never written down")
    logprobs = token_logprobs(choice.logprobs, text)
    ids = _token_ids(choice.token_ids)
    if ids is not None and logprobs is not None and len(ids) != len(logprobs):
        ids = logprobs = None  # which of them is right, nobody can tell
    # Servers give the policy's own log-probabilities; they are of the distribution sampled from where nothing changes it.
    same = sampling.temperature == 1 and sampling.top_p == 1 and sampling.top_k == 0
    return Completion(
        text=text,
        logprob=math.fsum(logprobs) if logprobs is not None and same else None,
        finish_reason=reason,
        token_ids=ids,
        token_logprobs=logprobs if same else None,
        token_policy_logprobs=logprobs,
    )


def _text_of(content: Any) -> Any:
    """Return a message's content: where it comes in parts, those that are text, without the model's thinking."""
    if not isinstance(content, list):
        return content
    kinds = [part.get("type") if isinstance(part, dict) else None for part in content]
    texts = [part.get("text") for part, kind in zip(content, kinds, strict=True) if kind in ("text", "output_text")]
    known = all(kind in PART_KINDS for kind in kinds) and all(isinstance(text, str) for text in texts)
    return "".join(texts) if known else content


def _token_ids(ids: Any) -> tuple[int, ...] | None:
    given = isinstance(ids, list) and all(type(one) is int and 0 <= one < 2**63 for one in ids)
    return tuple(ids) if given else None


def _failure(message: str) -> Failure:
    return Failure(FailureCode.POLICY_ERROR, message)


def _logprobs_of(raw: msgspec.Raw) -> _Logprobs | None:
    found: _Logprobs | None
    try:
        found = _logprobs_decoder.decode(raw)
    except msgspec.DecodeError:  # some token may be half a surrogate pair; its text is not needed
        found = msgspec.convert(json.loads(bytes(raw)), _Logprobs | None)
    return found


def token_logprobs(raw: msgspec.Raw, text: str) -> tuple[float, ...] | None:
    """Return the log-probability of every token of a completion, or None unless there is one for each."""
    try:
        given = _logprobs_of(raw) if raw else None
    except (ValueError, RecursionError):
        return None
    if given is None:
        return None
    steps = given.token_logprobs if given.content is None else [token.logprob for token in given.content]
    if not steps and (steps is None or text):
        return None
    found = tuple(step for step in steps if step is not None and NO_NUMBER < step <= ROUNDING)
    return found if len(found) == len(steps) else None
