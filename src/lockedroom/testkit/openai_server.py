"""A real HTTP server that speaks the OpenAI dialects on loopback, and misbehaves as told: the fake of server policies.

    with OpenAIServer(completing(lambda prompt, seed, choice: "Final: 4")) as server:
        policy = open_server(f"{server.url}#{MODEL}", Backend())

It runs in a thread of this process, on asyncio alone. `server.requests` holds every request that came in.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import msgspec

MODEL = "test-model"
CHAT, PLAIN, MODELS = "/v1/chat/completions", "/v1/completions", "/v1/models"


class Request(msgspec.Struct, frozen=True):
    """One request as it came in; `body` is the decoded JSON, or {}. `number` counts from 0."""

    number: int
    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        """The prompt, in either dialect."""
        return str(self.body["messages"][0]["content"] if "messages" in self.body else self.body["prompt"])


class Reply(msgspec.Struct, frozen=True):
    """What is sent back after `delay_s`: bytes as they are, anything else as JSON. `drop` cuts the connection instead.

    `raw` is sent in place of a whole reply, head and all, and then the connection is closed.
    """

    body: Any = None
    raw: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = {}
    delay_s: float = 0.0
    drop: bool = False


Answering = Callable[[Request], Reply]


def completing(
    write: Callable[[str, int, int], str],
    *,
    most_choices: int = 128,
    logprobs: bool = True,
    latency_s: float = 0.0,
    chat: bool = True,
    plain: bool = True,
    models: tuple[str, ...] | None = (MODEL,),
) -> Answering:
    """Return a server's behaviour: completions by `write(prompt, seed, choice)`, one token a word.

    `most_choices` is how many it gives whatever `n` asks for; `models` None: it offers no list.
    """

    def answer(request: Request) -> Reply:
        if request.path == MODELS and models is not None:
            return Reply({"object": "list", "data": [{"id": name, "created": request.number} for name in models]})
        if not (request.path == CHAT and chat) and not (request.path == PLAIN and plain):
            return Reply({"detail": "Not Found"}, status=404)
        body = request.body
        texts = [write(request.prompt, body["seed"], choice) for choice in range(min(body.get("n", 1), most_choices))]
        given = logprobs and body.get("logprobs") is not None
        make = _chat_choice if request.path == CHAT else _plain_choice
        return Reply(
            {
                "model": MODEL,
                "system_fingerprint": "fp-test",
                "choices": [make(i, text, given) for i, text in enumerate(texts)],
                "usage": {
                    "prompt_tokens": len(request.prompt.split()),
                    "completion_tokens": sum(len(text.split()) for text in texts),
                },
            },
            delay_s=latency_s,
        )

    return answer


def _chat_choice(index: int, text: str, given: bool) -> dict[str, Any]:
    steps = {"content": [{"token": word, "logprob": -0.5} for word in text.split()]} if given else None
    message = {"role": "assistant", "content": text}
    return {"index": index, "message": message, "finish_reason": "stop", "logprobs": steps}


def _plain_choice(index: int, text: str, given: bool) -> dict[str, Any]:
    steps = {"tokens": text.split(), "token_logprobs": [-0.5] * len(text.split())} if given else None
    return {"index": index, "text": text, "finish_reason": "stop", "logprobs": steps}


def faulty(
    answer: Answering,
    *,
    busy: float = 0.05,
    broken: float = 0.03,
    dropped: float = 0.02,
    slow: float = 0.0,
    slow_s: float = 1.0,
    retry_after: str | None = "0",
    seed: int = 0,
) -> Answering:
    """Return the behaviour of a server that fails in these shares of its requests: 429, 500, no answer, a slow answer."""
    chance = random.Random(seed)

    def answer_or_fail(request: Request) -> Reply:
        drawn = chance.random()
        if drawn < busy:
            headers = {} if retry_after is None else {"Retry-After": retry_after}
            return Reply({"error": {"message": "too many requests"}}, status=429, headers=headers)
        if drawn < busy + broken:
            return Reply({"error": {"message": "something broke"}}, status=500)
        if drawn < busy + broken + dropped:
            return Reply(drop=True)
        reply = answer(request)
        if drawn < busy + broken + dropped + slow:
            return msgspec.structs.replace(reply, delay_s=reply.delay_s + slow_s)
        return reply

    return answer_or_fail


class OpenAIServer:
    """The server, while it is used as a context manager. `answered` counts the answers that were sent whole."""

    def __init__(self, answer: Answering) -> None:
        self._answer = answer
        self.requests: list[Request] = []
        self.answered = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai-server", daemon=True)
        self._connections: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024), self._loop
        ).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def name(self) -> str:
        """What `--policy` takes."""
        return f"{self.url}#{MODEL}"

    def completions(self) -> list[Request]:
        """The requests for completions, without those that ask what the server is."""
        return [request for request in self.requests if request.body.get("max_tokens", 1) != 1]

    async def _stop(self) -> None:
        self._server.close()
        # A connection that was accepted a moment ago has a task that has not begun: it is let in, and then ended.
        while waiting := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in self._connections:
                task.cancel()
            await asyncio.wait(waiting, timeout=0.01)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the other side has gone, or the server is stopping
        finally:
            self._connections.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        request = Request(len(self.requests), method, path, headers, msgspec.json.decode(raw) if raw else {})
        self.requests.append(request)
        reply = self._answer(request)
        if reply.delay_s:
            await asyncio.sleep(reply.delay_s)
        if reply.drop:
            writer.transport.abort()
            return False
        if reply.raw:
            writer.write(reply.raw)
            await writer.drain()
            return False
        content = reply.body if isinstance(reply.body, bytes) else msgspec.json.encode(reply.body)
        lines = [f"HTTP/1.1 {reply.status} Status", f"Content-Length: {len(content)}", "Server: lockedroom-testkit"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        await writer.drain()
        self.answered += 1
        return True
