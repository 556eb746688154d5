"""Servers and addresses that cannot be used: one message, exit 2, what is finished is kept, and the key stays a secret."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lockedroom.cli.main import main
from lockedroom.errors import BadInput
from lockedroom.policy.backend import Backend
from lockedroom.policy.openai_http import open_server
from lockedroom.records import Sampling
from lockedroom.testkit.openai_server import CHAT, MODELS, Answering, OpenAIServer, Reply, Request, completing
from lockedroom.testkit.small_run import additions, lockedroom, write_additions

KEY = "sk-very-secret-0123456789"
RUN = ("evaluate", "--dataset", "sums.jsonl", "--max-tokens", "20", "--out", "run")


def echo(prompt: str, seed: int, choice: int) -> str:
    return prompt


def opening(answer: Answering, **backend: Any) -> str:
    """What is said when a policy behind this server is opened."""
    with OpenAIServer(answer) as server, pytest.raises(BadInput) as error:
        open_server(server.name, Backend(retries=1, **backend), backoff_s=0.01)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("http://localhost:8000/v1", "which model?"),
        ("http://localhost:8000/v1#", "which model?"),
        ("http://#m", "no host"),
        ("http://localhost:99999/v1#m", "not an address"),
        ("http://localhost:port/v1#m", "not an address"),
        ("http://[::1/v1#m", "not an address"),
        ("http://a..b/v1#m", "not an address"),
        (f"http://{'a' * 64}/v1#m", "not an address"),
        ("http://localhost:0/v1#m", "no port"),
        ("http://local host/v1#m", "no host"),
        (f"http://me:{KEY}@localhost/v1#m", "would be written down"),
        (f"http://localhost/v1?api-key={KEY}#m", "would be written down"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_repeating_a_secret(name: str, says: str) -> None:
    with pytest.raises(BadInput, match="--policy") as error:
        open_server(name, Backend())
    assert says in str(error.value)
    assert KEY not in str(error.value)


@pytest.mark.parametrize(
    ("backend", "says"),
    [
        (Backend(template="jinja"), "template"),
        (Backend(concurrency=0), "concurrency"),
        (Backend(request_timeout=0), "--request-timeout"),
        (Backend(request_timeout=float("nan")), "--request-timeout"),
        (Backend(retries=-1), "retries"),
        (Backend(api_key_env=KEY), "not the name of an environment variable"),
        (Backend(api_key_env="LOCKEDROOM_NO_SUCH_KEY"), "not set"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(backend: Backend, says: str) -> None:
    with pytest.raises(BadInput, match=says) as error:
        open_server("http://127.0.0.1:9/v1#m", backend)
    assert KEY not in str(error.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("evaluate", "--max-tokens", "0"), "max_tokens: 0; give 1 or more"),
        (("evaluate", "--temperature", "-1"), "temperature: -1.0; give a finite number"),
        (("evaluate", "--top-p", "0"), "top_p: 0.0; give a share"),
        (("evaluate", "--top-k", "-3"), "top_k: -3; give 0"),
        (("learn",), "#m: cannot be trained"),
        (("warmup",), "#m: cannot be trained"),
    ],
)
def test_what_no_server_can_do_is_refused_before_it_is_asked(
    given: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing listens there, and there is no dev file either."""
    dataset = tmp_path / "train.jsonl"
    dataset.write_text('{"id":"a","prompt":"1+1","expected_answer":2}\n')
    common = ["--policy", "http://127.0.0.1:9/v1#m", "--dataset", str(dataset), "--out", str(tmp_path / "out")]
    assert main([*given, *common]) == 2
    found = capsys.readouterr().err
    assert says in found
    assert found.count("\n") == 1


def test_a_server_that_is_not_there_is_named() -> None:
    with OpenAIServer(completing(echo)) as server:
        name = server.name
    with pytest.raises(BadInput, match="is the server running"):
        open_server(name, Backend())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_says_nothing_is_given_up_at_once(scheme: str) -> None:
    with OpenAIServer(lambda _: Reply({}, delay_s=30)) as server, pytest.raises(BadInput) as error:
        open_server(server.name.replace("http", scheme, 1), Backend(request_timeout=0.3))
    assert "within 0.3 s" in str(error.value)


def test_several_addresses_may_be_written_in_any_letters_and_with_spaces() -> None:
    with OpenAIServer(completing(echo)) as one, OpenAIServer(completing(echo)) as other:
        policy = open_server(f"HTTP://127.0.0.1:{one.port}/v1/#test-model, {other.name}", Backend())
        urls = [one.url, other.url]
    assert policy.spec.identity["url"] == urls


def _always(reply: Reply, *paths: str) -> Answering:
    """A good server but for these paths (all, if none is named)."""
    writing = completing(echo)
    return lambda request: reply if not paths or request.path in paths else writing(request)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (_always(Reply({"error": {"message": "bad key"}}, status=401)), "the key was refused (status 401: bad key)"),
        (_always(Reply({"detail": "not yours"}, status=403)), "access was refused (status 403: not yours)"),
        (_always(Reply({"error": "no"}, status=403), CHAT), "access was refused"),
        (_always(Reply(b"<html><h1>Welcome</h1></html>")), "a page of HTML: Welcome"),
        (_always(Reply(b"junk")), "/models is not a list of models (junk)"),
        (_always(Reply({"data": "none"})), "/models is not a list of models"),
        (_always(Reply(status=302, headers={"Location": "https://elsewhere.example/"})), "moved to https://elsewhere"),
        (_always(Reply({"detail": "Not Found"}, status=404)), "does the address end in /v1?"),
        (_always(Reply({"error": "down"}, status=503)), "status 503: down"),
        (_always(Reply(drop=True)), "dropped"),
        (_always(Reply(b"<html>"), CHAT), "HTML instead of JSON"),
        (_always(Reply({"choices": []}), CHAT), "an answer without choices"),
        (_always(Reply({"error": {"message": "no credit"}}, status=402)), "no credit"),
        (_always(Reply({}, status=429, headers={"Retry-After": "86400"}), CHAT), "86,400"),
        (completing(echo, models=("alpha", "beta")), "no model 'test-model' here; it serves: alpha, beta"),
        (completing(echo, models=()), "it serves: none"),
    ],
)
def test_a_server_that_cannot_be_used_is_refused_in_one_message(answer: Answering, says: str) -> None:
    said = opening(answer)
    assert says in said
    assert said.count("\n") == 0


def test_what_a_server_says_moves_no_cursor() -> None:
    assert "\x1b" not in opening(_always(Reply({"error": {"message": "\x1b[2J\x1b]0;owned"}}, status=401)))


def test_a_long_list_of_models_is_cut() -> None:
    assert "and 92 more" in opening(completing(echo, models=tuple(f"m{i}" for i in range(100))))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_additions(tmp_path, 20)
    (tmp_path / "quick.toml").write_text("[backend]\nretries = 0\nconcurrency = 4\n")
    return tmp_path


def _run(folder: Path, server: OpenAIServer, *more: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    done = lockedroom(*RUN, "--policy", server.name, *more, cwd=folder, env=env)
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stderr.decode() + done.stdout.decode()


def test_a_missing_token_limit_is_refused_before_anything_is_paid_for() -> None:
    with OpenAIServer(completing(echo)) as server:
        policy = open_server(server.name, Backend())
        with pytest.raises(BadInput, match="--max-tokens is missing"):
            list(policy.complete(additions(1), range(1), Sampling()))
        assert server.completions() == []


def test_a_server_that_refuses_everything_ends_the_run_and_leaves_no_folder(folder: Path) -> None:
    refusal = Reply({"error": {"message": "max_tokens is too large"}}, status=400)
    writing = completing(echo)
    with OpenAIServer(lambda one: writing(one) if one.body.get("max_tokens", 1) == 1 else refusal) as server:
        code, said = _run(folder, server, "--limit", "3")
    assert code == 2
    assert "max_tokens is too large" in said
    assert not (folder / "run").exists()


def test_a_key_refused_in_the_middle_keeps_what_is_finished_and_can_be_resumed(folder: Path) -> None:
    writing = completing(lambda prompt, *_: f"Final: {int(prompt.split()[2]) + 1}")
    state = {"open": True}

    def answer(request: Request) -> Reply:
        if state["open"] and request.number >= 13:
            return Reply({"error": {"message": "key expired"}}, status=401)
        return writing(request)

    with OpenAIServer(answer) as server:
        code, said = _run(folder, server, "--config", "quick.toml")
        assert code == 2
        assert "key expired" in said
        before = [request.prompt for request in server.completions()]
        state["open"] = False
        code, said = _run(folder, server, "--resume")
        assert code == 0, said
        asked = [request.prompt for request in server.completions()[len(before) :]]
    assert len(asked) + 13 - 4 == 20  # of the 13 good answers 4 said what the server is
    assert not set(asked) & set(before[:9])


def test_a_run_that_has_run_out_of_credit_ends_instead_of_failing_every_example(folder: Path) -> None:
    writing = completing(echo)
    broke = Reply({"error": {"message": "insufficient credit"}}, status=402)
    with OpenAIServer(lambda request: broke if request.number >= 13 else writing(request)) as server:
        code, said = _run(folder, server, "--config", "quick.toml")
    assert code == 2
    assert "insufficient credit" in said
    records = (folder / "run" / "records.jsonl").read_bytes()
    assert b"policy_error" not in records


def test_a_run_may_be_continued_more_patiently_than_it_was_begun(folder: Path) -> None:
    writing = completing(echo)
    state = {"slow": True}

    def answer(request: Request) -> Reply:
        slow = state["slow"] and request.number >= 13
        return Reply({}, delay_s=5) if slow else writing(request)

    more = ("--api-key-env", "ANOTHER_KEY")
    with OpenAIServer(answer) as server:
        code, said = _run(folder, server, "--concurrency", "4", "--retries", "0", "--request-timeout", "0.5")
        assert code == 2, said
        assert "no answer within 0.5 s" in said
        state["slow"] = False
        code, said = _run(folder, server, "--request-timeout", "30", *more, "--resume", env={"ANOTHER_KEY": KEY})
        assert code == 0, said


def test_access_that_is_refused_for_good_ends_a_run_in_its_middle(folder: Path) -> None:
    writing = completing(echo)
    refused = Reply({"error": {"message": "not from here"}}, status=403)
    with OpenAIServer(lambda request: refused if request.number >= 13 else writing(request)) as server:
        code, said = _run(folder, server, "--config", "quick.toml")
    assert code == 2
    assert "not from here" in said


def test_the_key_is_sent_and_never_written(folder: Path) -> None:
    writing = completing(
        lambda prompt, *_: f"Final: {prompt} {KEY}" if "3 +" in prompt else prompt, models=("test-model", KEY)
    )

    def answer(request: Request) -> Reply:
        if request.path == MODELS:
            return Reply({"data": [{"id": "test-model", "owned_by": KEY}]}, headers={"Server": KEY})
        if request.path == CHAT and request.prompt == "What is 1 + 1?":
            return Reply({"error": {"message": f"rejected: {request.headers['authorization']}"}}, status=400)
        return writing(request)

    with OpenAIServer(answer) as server:
        code, said = _run(folder, server, env={"OPENAI_API_KEY": KEY})
        assert code == 0, said
        assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {KEY}"}
    assert KEY not in said
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "usage.json" for path in files)
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    assert b"rejected: Bearer [key]" in (folder / "run" / "records.jsonl").read_bytes()


def test_the_key_stays_out_of_the_message_of_a_server_that_repeats_it(folder: Path) -> None:
    def answer(request: Request) -> Reply:
        return Reply({"error": {"message": f"Incorrect API key: {request.headers['authorization']}"}}, status=401)

    with OpenAIServer(answer) as server:
        code, said = _run(folder, server, env={"OPENAI_API_KEY": KEY})
    assert code == 2
    assert "Incorrect API key: Bearer [key]" in said


@pytest.mark.parametrize("key", ["1", "{", '"', ":", "m", 'sk-"quoted\\"-0123'])
def test_a_key_that_looks_like_what_stands_around_it_breaks_nothing(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    listed = {"id": "test-model", "meta": {"n": 1, f"of {key}": [key, 1.5, None]}, "max_model_len": 1111}
    writing = completing(echo)
    with OpenAIServer(lambda one: Reply({"data": [listed]}) if one.path == MODELS else writing(one)) as server:
        entry = open_server(server.name, Backend()).spec.identity["model_entry"]
    assert entry["max_model_len"] == 1111
    assert entry["meta"] == {"n": 1, "of [key]": ["[key]", 1.5, None]}


def test_several_workers_are_refused_since_one_keeps_a_server_busy(folder: Path) -> None:
    with OpenAIServer(completing(echo)) as server:
        code, said = _run(folder, server, "--workers", "2")
    assert code == 2
    assert "--concurrency" in said


def test_what_needs_probabilities_names_the_policies_that_give_them(folder: Path) -> None:
    done = lockedroom("tokens", "--policy", "http://127.0.0.1:9/v1#m", "--prompt", "2+2?", "--answer", "4", cwd=folder)
    assert done.returncode == 2
    assert b"gives no probabilities" in done.stderr
    assert b"http://HOST" not in done.stderr
