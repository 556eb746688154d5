"""A policy behind a real HTTP server on loopback: what it sends, what it makes of the answers, and how it keeps order."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest

from lockedroom.errors import BadInput
from lockedroom.policy.backend import Backend
from lockedroom.policy.openai_http import open_server
from lockedroom.policy.openai_http.asking import retry_after_s
from lockedroom.policy.openai_http.opening import PROBE
from lockedroom.policy.openai_http.wire import parse_answer, request_seed
from lockedroom.records import Completion, Failure, FailureCode, FinishReason, Sampling
from lockedroom.testkit.openai_server import (
    CHAT,
    MODELS,
    PLAIN,
    Answering,
    OpenAIServer,
    Reply,
    Request,
    completing,
    faulty,
)
from lockedroom.testkit.small_run import additions

SAMPLING = Sampling(max_tokens=20)
QUICK = 0.01  # seconds before the first repetition


def echo(prompt: str, seed: int, choice: int) -> str:
    return f"{prompt} {seed} {choice}"


def drawn(
    answer: Answering,
    count: int = 3,
    draws: int = 1,
    *,
    sampling: Sampling = SAMPLING,
    backend: Backend | None = None,
) -> tuple[list[Completion | Failure], OpenAIServer]:
    """The results for so many examples, and the server that was asked."""
    with OpenAIServer(answer) as server:
        policy = open_server(server.name, backend or Backend(retries=2), backoff_s=QUICK)
        return list(policy.complete(additions(count), range(draws), sampling)), server


def texts(results: list[Completion | Failure]) -> list[str]:
    return [result.text if isinstance(result, Completion) else result.message for result in results]


def test_the_module_can_be_named_without_its_libraries() -> None:
    code = (
        "import sys; sys.modules['aiohttp'] = None\n"
        "from lockedroom.policy.openai_http import open_server\n"
        "from lockedroom.policy.backend import Backend\n"
        "try: open_server('http://localhost/v1#m', Backend())\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("MissingExtra")
    assert "lockedroom[server]" in done.stdout


def test_results_come_prompt_by_prompt_and_draw_by_draw() -> None:
    results, _ = drawn(completing(echo), count=40, draws=3, backend=Backend(concurrency=7))
    assert [text.rsplit(" ", 2)[0] for text in texts(results)] == [
        example.prompt for example in additions(40) for _ in range(3)
    ]
    assert [text.rsplit(" ", 1)[1] for text in texts(results)] == ["0", "1", "2"] * 40


def test_order_is_kept_when_the_first_answer_is_the_slowest() -> None:
    writing = completing(echo)

    def answer(request: Request) -> Reply:
        slow = 0.3 if request.body.get("max_tokens") == 20 and request.prompt == "What is 0 + 1?" else 0.0
        return msgspec.structs.replace(writing(request), delay_s=slow)

    results, server = drawn(answer, count=20, backend=Backend(concurrency=4))
    assert [text.split(" ")[2] for text in texts(results)] == [str(i) for i in range(20)]
    assert len(server.completions()) == 20


def test_the_same_prompts_and_seed_ask_for_the_same_completions_at_any_concurrency() -> None:
    one, _ = drawn(completing(echo), count=10, draws=4, backend=Backend(concurrency=1))
    many, _ = drawn(completing(echo), count=10, draws=4, backend=Backend(concurrency=16))
    assert one == many


def test_requests_have_seeds_far_apart() -> None:
    seeds = {request_seed(seed, f"e{i}", draw) for seed in (0, 1) for i in range(50) for draw in range(10)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert min(b - a for a, b in zip(sorted(seeds), sorted(seeds)[1:], strict=False)) > 0
    assert request_seed(0, "e0", 0) != request_seed(0, "e0", 1) - 1


def test_one_request_asks_for_all_draws_of_an_example() -> None:
    _, server = drawn(completing(echo), count=5, draws=4)
    assert [request.body["n"] for request in server.completions()] == [4] * 5


def test_greedy_draws_are_asked_for_one_by_one() -> None:
    _, server = drawn(completing(echo), count=2, draws=3, sampling=Sampling(temperature=0, max_tokens=20))
    assert ["n" in request.body for request in server.completions()] == [False] * 6


@pytest.mark.parametrize("most", [1, 2])
def test_a_server_that_gives_fewer_choices_than_asked_is_asked_again(most: int) -> None:
    results, server = drawn(completing(echo, most_choices=most), count=3, draws=5)
    assert all(isinstance(result, Completion) for result in results)
    assert len(set(texts(results))) == 15
    assert len(server.completions()) == (15 if most == 1 else 3 * (1 + 3))


def test_a_server_that_refuses_several_choices_is_asked_for_one_at_a_time() -> None:
    writing = completing(echo)

    def answer(request: Request) -> Reply:
        if request.body.get("n", 1) > 1 and request.body.get("max_tokens") == 20:
            return Reply({"error": {"message": "n must be 1"}}, status=400)
        return writing(request)

    results, _ = drawn(answer, count=2, draws=3)
    assert len({text for text in texts(results) if text.startswith("What")}) == 6


def test_sampling_is_sent_whole_and_what_servers_would_add_is_switched_off() -> None:
    sampling = Sampling(temperature=0.5, top_k=7, top_p=0.9, max_tokens=11, stop=("\n\n",), seed=3)
    _, server = drawn(completing(echo), count=1, sampling=sampling)
    body = server.completions()[0].body
    assert (
        body
        | {
            "temperature": 0.5,
            "top_k": 7,
            "top_p": 0.9,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "max_tokens": 11,
            "stop": ["\n\n"],
        }
        == body
    )
    assert body["seed"] == request_seed(3, "e0", 0)


def _refusing(*names: str, status: int = 400) -> Answering:
    writing = completing(echo)

    def answer(request: Request) -> Reply:
        found = [name for name in names if request.body.get(name) is not None]
        if found:
            return Reply({"error": {"message": f"unknown parameter {found[0]}"}}, status=status)
        return writing(request)

    return answer


def test_a_server_that_takes_no_extra_names_is_asked_without_them_and_the_identity_says_so() -> None:
    with OpenAIServer(_refusing("top_k", "min_p")) as server:
        policy = open_server(server.name, Backend())
        assert policy.spec.identity["not_taken"] == ["min_p", "repetition_penalty", "top_k"]
        assert policy.spec.identity["logprobs"] == "of the policy, for each token"
        (result,) = policy.complete(additions(1), range(1), SAMPLING)
    assert isinstance(result, Completion)


def test_top_k_is_refused_where_the_server_does_not_take_it() -> None:
    with OpenAIServer(_refusing("top_k")) as server:
        policy = open_server(server.name, Backend())
        with pytest.raises(BadInput, match="top_k"):
            list(policy.complete(additions(1), range(1), Sampling(top_k=5, max_tokens=20)))


@pytest.mark.parametrize("status", [400, 500])
def test_logprobs_that_a_server_refuses_are_missing_and_the_identity_says_so(status: int) -> None:
    with OpenAIServer(_refusing("logprobs", status=status)) as server:
        policy = open_server(server.name, Backend(), backoff_s=QUICK)
        assert policy.spec.identity["logprobs"] == "none"
        (result,) = policy.complete(additions(1), range(1), SAMPLING)
    assert isinstance(result, Completion)
    assert result.token_policy_logprobs is None


@pytest.mark.parametrize("chat", [True, False])
def test_logprobs_are_kept_and_summed_where_they_are_of_what_was_sampled(chat: bool) -> None:
    (plain,), _ = drawn(completing(lambda *_: "two words", chat=chat), count=1)
    assert isinstance(plain, Completion)
    assert (plain.logprob, plain.token_logprobs, plain.token_policy_logprobs) == (-1.0, (-0.5, -0.5), (-0.5, -0.5))
    (sharp,), _ = drawn(completing(lambda *_: "a b", chat=chat), count=1, sampling=Sampling(0.5, max_tokens=20))
    assert isinstance(sharp, Completion)
    assert (sharp.logprob, sharp.token_logprobs, sharp.token_policy_logprobs) == (None, None, (-0.5, -0.5))


@pytest.mark.parametrize(
    ("chat", "template", "path"),
    [(True, "auto", CHAT), (False, "auto", PLAIN), (True, "plain", PLAIN), (True, "chat", CHAT)],
)
def test_auto_is_chat_where_the_server_answers_chat(chat: bool, template: str, path: str) -> None:
    results, server = drawn(completing(echo, chat=chat), count=1, backend=Backend(template=template))
    assert isinstance(results[0], Completion)
    assert server.completions()[0].path == path


def test_the_identity_pins_server_and_model() -> None:
    with OpenAIServer(completing(echo)) as server:
        identity = open_server(server.name, Backend()).spec.identity
        assert identity["url"] == server.url
    assert identity["model_entry"] == {"id": "test-model"}  # not `created`, which changes at every asking
    assert (identity["server"], identity["system_fingerprint"]) == ("lockedroom-testkit", "fp-test")


def _saying(choice: dict[str, Any], after: int = 1) -> Answering:
    """A server that answers its first request (which asks what it can do) well, and then with this choice."""
    writing = completing(echo, plain=False)

    def answer(request: Request) -> Reply:
        if request.body.get("max_tokens", 1) == 1 or request.prompt == "What is 0 + 1?":
            return writing(request)
        return Reply({"choices": [choice]})

    return answer


def _second(choice: dict[str, Any]) -> Completion | Failure:
    return drawn(_saying(choice), count=2, backend=Backend(retries=1))[0][1]


def test_a_completion_cut_at_the_token_limit_says_so() -> None:
    result = _second({"message": {"content": "Fin"}, "finish_reason": "length"})
    assert result == Completion("Fin", finish_reason=FinishReason.LENGTH)


def test_a_completion_of_nothing_is_an_empty_text() -> None:
    assert _second({"message": {"content": None}, "finish_reason": "length"}) == Completion(
        "", finish_reason=FinishReason.LENGTH
    )


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({"message": {"content": "Fin"}, "finish_reason": "content_filter"}, "content_filter"),
        ({"message": None, "finish_reason": "stop"}, "without text"),
        ({"message": {"content": None, "tool_calls": [{"id": "1"}]}, "finish_reason": "stop"}, "calls tools"),
        ({"message": {"content": "Fin"}, "finish_reason": "abort"}, "abort"),
        ({"text": "wrong dialect"}, "without text"),
        ({"message": {"content": 7}}, "without text"),
        ({"message": {"content": [{"type": "image", "text": "4"}]}}, "without text"),
        ({"message": {"content": [{"type": "text", "text": None}]}}, "without text"),
        ({"message": {"content": None, "function_call": {"name": "f"}}, "finish_reason": "stop"}, "calls tools"),
        ("nonsense", "expected"),
    ],
)
def test_what_is_no_completion_is_a_failure_not_an_empty_one(choice: Any, says: str) -> None:
    result = _second(choice)
    assert isinstance(result, Failure)
    assert result.code is FailureCode.POLICY_ERROR
    assert says in result.message


@pytest.mark.parametrize(
    ("end", "means"),
    [
        ("stop", FinishReason.STOP),
        ("STOP", FinishReason.STOP),
        ("eos", FinishReason.STOP),
        ("end_turn", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("max_tokens", FinishReason.LENGTH),
        ("", None),
        (None, None),
    ],
)
def test_the_ends_of_a_completion_have_several_names(end: str | None, means: FinishReason | None) -> None:
    assert _second({"message": {"content": "4"}, "finish_reason": end}) == Completion("4", finish_reason=means)


def test_a_text_in_parts_is_one_text_without_the_thinking() -> None:
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "Final: "}, {"type": "text", "text": "4"}]
    assert _second({"message": {"content": parts}}) == Completion("Final: 4")


def test_a_refusal_is_what_the_model_wrote() -> None:
    assert _second({"message": {"content": None, "refusal": "I cannot"}}) == Completion("I cannot")


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {},
        [-0.5],
        "none",
        {"content": None},
        {"content": []},
        {"content": [{"token": "4", "logprob": None}]},
        {"content": [{"token": "4", "logprob": -9999.0}]},
        {"content": [{"token": "4", "logprob": 0.7}]},
        {"token_logprobs": [None, -0.5]},
    ],
    ids=str,
)
def test_a_paid_completion_is_kept_whatever_its_logprobs_look_like(logprobs: Any) -> None:
    assert _second({"message": {"content": "4"}, "logprobs": logprobs}) == Completion("4")


def _answering(body: bytes) -> list[Completion | Failure]:
    """What becomes of an example that is answered with these bytes."""
    writing = completing(echo)
    return drawn(lambda one: writing(one) if one.body.get("max_tokens", 1) == 1 else Reply(body), count=1)[0]


@pytest.mark.parametrize(
    "usage",
    [
        "null",
        "[]",
        "{}",
        '{"prompt_tokens": "5", "completion_tokens": 1.5}',
        '{"completion_tokens": -1}',
        '{"completion_tokens": NaN, "prompt_tokens": 1e999}',
        '{"completion_tokens": ' + "9" * 5000 + "}",
    ],
    ids=lambda usage: usage[:40],
)
def test_a_paid_completion_is_kept_whatever_is_counted_beside_it(usage: str) -> None:
    body = (
        f'{{"choices": [{{"message": {{"content": "4"}}}}], "usage": {usage}, "model": 1e999, "system_fingerprint": 7}}'
    )
    assert _answering(body.encode()) == [Completion("4")]


@pytest.mark.parametrize(("counted", "is_kept"), [(2**53 - 1, True), (2**53, False), (10**30, False)])
def test_more_tokens_than_there_are_count_as_not_given(counted: int, is_kept: bool) -> None:
    body = b'{"choices": [{}], "usage": {"prompt_tokens": %d}}' % counted
    assert parse_answer(body).tokens("prompt_tokens") == (counted if is_kept else None)


@pytest.mark.parametrize("logprob", ["NaN", "-Infinity", "-1e999", "9" * 5000], ids=lambda value: value[:9])
def test_a_paid_completion_is_kept_where_a_log_probability_is_no_number(logprob: str) -> None:
    steps = f'{{"content": [{{"token": "4", "logprob": {logprob}}}]}}'
    body = f'{{"choices": [{{"message": {{"content": "4"}}, "logprobs": {steps}}}]}}'
    assert _answering(body.encode()) == [Completion("4")]


def test_an_answer_may_begin_with_a_byte_order_mark() -> None:
    assert _answering(b'\xef\xbb\xbf{"choices": [{"message": {"content": "4"}}]}') == [Completion("4")]


def test_a_token_that_is_half_a_character_keeps_its_log_probability() -> None:
    for text in ("4", "\\ud83d"):
        steps = b'{"content": [{"token": "\\ud83d", "logprob": -0.5}]}'
        body = b'{"choices": [{"message": {"content": "%s"}, "logprobs": %s}]}' % (text.encode(), steps)
        (result,) = _answering(body)
        assert isinstance(result, Completion)
        assert result.token_logprobs == (-0.5,)


@pytest.mark.parametrize("ids", [[5, 6, 7], [-1], [2**63], [True], ["5"], 5], ids=str)
def test_token_ids_that_are_none_or_of_another_length_are_not_kept(ids: Any) -> None:
    steps = {"content": [{"token": "4", "logprob": -0.5}]}
    result = _second({"message": {"content": "4"}, "logprobs": steps, "token_ids": ids})
    assert isinstance(result, Completion)
    assert result.token_ids is None
    assert result.token_logprobs in (None, (-0.5,))
    assert (result.token_logprobs is None) == (ids == [5, 6, 7])


def test_a_lone_surrogate_survives_both_ways() -> None:
    writing = completing(echo)

    def answer(request: Request) -> Reply:
        if request.body.get("max_tokens", 1) == 1:
            return writing(request)
        return Reply(b'{"choices": [{"message": {"content": "\\ud800"}, "finish_reason": "stop"}]}')

    (result,), _ = drawn(answer, count=1)
    assert result == Completion("\ud800", finish_reason=FinishReason.STOP)


def _failing_once(reply: Reply) -> tuple[Answering, list[float]]:
    """A server that answers each prompt first with `reply`, and the moments at which it was asked."""
    writing, seen, moments = completing(echo), Counter[str](), list[float]()

    def answer(request: Request) -> Reply:
        if request.body.get("max_tokens", 1) == 1:
            return writing(request)
        seen[request.prompt] += 1
        moments.append(datetime.now(UTC).timestamp())
        return reply if seen[request.prompt] == 1 else writing(request)

    return answer, moments


@pytest.mark.parametrize(
    "reply",
    [
        *(Reply({"error": "later"}, status=status) for status in (408, 409, 425, 429, 500, 502, 503, 504, 529)),
        Reply(drop=True),
        Reply(b"<html><body>Bad Gateway</body></html>"),
        Reply(b'{"choices": ['),
        Reply(b""),
        Reply({"choices": []}),
        Reply({"error": {"message": "overloaded"}}),
        Reply(b"\x1f\x8bnot gzip", headers={"Content-Encoding": "gzip"}),
    ],
    ids=lambda reply: f"{reply.status}-{str(reply.body)[:12]}-{reply.drop}",
)
def test_trouble_that_passes_is_tried_again(reply: Reply) -> None:
    answer, _ = _failing_once(reply)
    results, server = drawn(answer, count=2)
    assert all(isinstance(result, Completion) for result in results)
    assert len(server.completions()) == 4


def test_an_answer_that_takes_too_long_is_given_up_and_asked_again() -> None:
    answer, _ = _failing_once(Reply({}, delay_s=30))
    results, _ = drawn(answer, count=2, backend=Backend(retries=1, request_timeout=0.2))
    assert all(isinstance(result, Completion) for result in results)


def test_nothing_is_asked_again_before_retry_after() -> None:
    answer, moments = _failing_once(Reply({}, status=429, headers={"Retry-After": "0.4"}))
    drawn(answer, count=1)
    assert moments[1] - moments[0] >= 0.4


def test_retry_after_is_seconds_or_a_date() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=90)
    assert _asked("7") == 7
    assert _asked("-7") == 0
    assert 80 < (_asked(format_datetime(soon, usegmt=True)) or 0) <= 90
    assert _asked("Fri, 01 Jan 2010 00:00:00 GMT") == 0
    assert [_asked(value) for value in (None, "soon", "nan", "inf", "", "1_0", "1e3", "Mon, 99 Foo 2010")] == [None] * 8


def test_a_date_to_wait_for_is_counted_on_the_clock_of_the_server() -> None:
    slow = {"date": "Fri, 01 Jan 2010 00:00:00 GMT", "retry-after": "Fri, 01 Jan 2010 00:00:07 GMT"}
    assert retry_after_s(slow) == 7


def _asked(value: str | None) -> float | None:
    return retry_after_s({} if value is None else {"retry-after": value})


def test_what_could_not_be_drawn_is_a_failure_and_the_others_are_drawn() -> None:
    writing = completing(echo)

    def answer(request: Request) -> Reply:
        if request.path == CHAT and request.prompt == "What is 1 + 1?":
            return Reply({"error": {"message": "maximum context length is 8 tokens"}}, status=400)
        if request.path == CHAT and request.prompt == "What is 2 + 1?":
            return Reply(drop=True)
        return writing(request)

    results, server = drawn(answer, count=5)
    assert [type(result) for result in results] == [Completion, Failure, Failure, Completion, Completion]
    assert texts(results)[1] == "status 400: maximum context length is 8 tokens"
    assert "dropped" in texts(results)[2]
    assert Counter(request.prompt for request in server.completions()) == {
        "What is 0 + 1?": 1,
        "What is 1 + 1?": 1,  # refused: asking again would be refused again
        "What is 2 + 1?": 3,
        "What is 3 + 1?": 1,
        "What is 4 + 1?": 1,
    }


def test_a_server_that_dies_ends_the_run_and_leaves_no_failures_behind() -> None:
    writing = completing(echo)

    def answer(request: Request) -> Reply:
        return writing(request) if request.number < 15 else Reply(drop=True)

    results: list[Completion | Failure] = []
    with OpenAIServer(answer) as server:
        policy = open_server(server.name, Backend(concurrency=4, retries=1), backoff_s=QUICK)
        with pytest.raises(BadInput, match="continue with --resume"):
            results += policy.complete(additions(200), range(1), SAMPLING)
        assert len(server.completions()) < 60
    assert results
    assert all(isinstance(result, Completion) for result in results)


@pytest.mark.parametrize(("is_there", "first"), [(True, 0), (False, 0), (True, 5), (False, 5)])
def test_the_last_failures_of_a_run_stand_only_where_the_server_is_still_there(is_there: bool, first: int) -> None:
    writing = completing(echo)
    is_open = [True]

    def answer(request: Request) -> Reply:
        if is_open[0]:
            return writing(request)
        good = is_there if request.prompt == PROBE else request.prompt == "What is 0 + 1?" and not first
        return writing(request) if good else Reply({}, status=503)

    with OpenAIServer(answer) as server:
        policy = open_server(server.name, Backend(concurrency=1, retries=0), backoff_s=QUICK)
        is_open[0] = False
        stream = policy.stream(iter(additions(3)), range(1), SAMPLING, first=first)
        if is_there:
            assert [type(one) for one in stream] == [Failure if first else Completion, Failure, Failure]
        else:
            with pytest.raises(BadInput, match="continue with --resume"):
                list(stream)
    assert [request.prompt for request in server.requests if request.body][-1] == PROBE


def test_no_more_requests_are_in_flight_than_allowed() -> None:
    lock, inside, most = threading.Lock(), [0], [0]
    writing = completing(echo, latency_s=0.02)

    def answer(request: Request) -> Reply:
        with lock:
            inside[0] = len(server.requests) - server.answered
            most[0] = max(most[0], inside[0])
        return writing(request)

    with OpenAIServer(answer) as server:
        policy = open_server(server.name, Backend(concurrency=5))
        list(policy.complete(additions(60), range(1), SAMPLING))
    assert most[0] == 5


def test_every_example_of_a_faulty_server_ends_drawn_or_as_a_failure() -> None:
    answer = faulty(completing(echo), busy=0.1, broken=0.1, dropped=0.1, slow=0.05, slow_s=0.1, seed=1)
    results, _ = drawn(answer, count=400, backend=Backend(concurrency=16, retries=1))
    kinds = Counter(type(result) for result in results)
    assert kinds[Completion] + kinds[Failure] == 400
    assert kinds[Failure] > 0
    found = [
        text.split(" ")[2] for text, result in zip(texts(results), results, strict=True) if type(result) is Completion
    ]
    expected = [str(i) for i, result in enumerate(results) if type(result) is Completion]
    assert found == expected


def test_models_that_are_not_listed_are_not_checked() -> None:
    with OpenAIServer(completing(echo, models=None)) as server:
        assert open_server(server.name, Backend()).spec.identity["model_entry"] == "not offered"
        assert server.requests[0].path == MODELS


@pytest.mark.parametrize(("first", "fails"), [(0, True), (5, False)])
def test_a_refusal_after_a_resume_is_about_its_own_prompt(first: int, fails: bool) -> None:
    writing = completing(echo)
    refusal = Reply({"error": {"message": "prompt too long"}}, status=400)
    with OpenAIServer(lambda one: writing(one) if one.body.get("max_tokens", 1) == 1 else refusal) as server:
        policy = open_server(server.name, Backend(), backoff_s=QUICK)
        stream = policy.stream(iter(additions(2)), range(1), SAMPLING, first=first)
        if fails:
            with pytest.raises(BadInput, match="prompt too long"):
                list(stream)
        else:
            assert texts(list(stream)) == ["status 400: prompt too long"] * 2
