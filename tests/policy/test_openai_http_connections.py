"""What servers and what stands between do to an answer on its way: framing, packing, proxies, certificates, cut connections."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lockedroom.errors import BadInput
from lockedroom.policy.backend import Backend
from lockedroom.policy.openai_http import open_server
from lockedroom.policy.openai_http.address import Address, Key
from lockedroom.policy.openai_http.asking import Asked, Asker
from lockedroom.policy.openai_http.connections import Connections, Transient
from lockedroom.policy.openai_http.proxies import named_proxy
from lockedroom.policy.openai_http.wire import parse_answer
from lockedroom.records import Completion, Failure, Sampling
from lockedroom.testkit.openai_server import OpenAIServer, Reply, Request, completing
from lockedroom.testkit.small_run import additions

BODY = msgspec.json.encode({"choices": [{"index": 0, "message": {"content": "Final: 4"}, "finish_reason": "stop"}]})
OK = b"HTTP/1.1 200 OK\r\n"
SECRET = "sk-very-secret-0123456789"


def sized(body: bytes, *headers: bytes) -> bytes:
    return OK + b"".join(header + b"\r\n" for header in headers) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    blocks = b"".join(b"%x;why=not\r\n%s\r\n" % (len(part), part) for part in parts)
    return OK + b"Transfer-Encoding: chunked\r\n\r\n" + blocks + b"0\r\nX-Trailer: 1\r\n\r\n"


def second(raw: bytes) -> Completion | Failure:
    """What becomes of an example whose one request is answered with these bytes."""
    writing = completing(lambda prompt, *_: prompt)

    def answer(request: Request) -> Reply:
        good = request.body.get("max_tokens", 1) == 1 or "1 +" not in request.prompt
        return writing(request) if good else Reply(raw=raw)

    with OpenAIServer(answer) as server:
        policy = open_server(server.name, Backend(retries=1, concurrency=1, request_timeout=20), backoff_s=0.01)
        first, found, third = policy.complete(additions(3), range(1), Sampling(max_tokens=20))
    assert isinstance(first, Completion)
    assert isinstance(third, Completion)
    return found


@pytest.mark.parametrize(
    "raw",
    [
        chunked(BODY, 7),
        chunked(BODY, 1),
        OK + b"\r\n" + BODY,
        b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
        sized(BODY, b"Connection: close"),
        sized(gzip.compress(BODY), b"Content-Encoding: gzip"),
        sized(zlib.compress(BODY), b"Content-Encoding: Deflate"),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + sized(BODY),
        sized(BODY) + sized(b'{"choices": [{"index": 0, "message": {"content": "nobody asked"}}]}'),
    ],
    ids=["chunks", "one byte a chunk", "to the end", "1.0", "closing", "gzip", "deflate", "hints first", "two answers"],
)
def test_an_answer_may_be_framed_and_packed_in_any_way(raw: bytes) -> None:
    result = second(raw)
    assert isinstance(result, Completion)
    assert result.text == "Final: 4"


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"\n", "dropped"),
        (b"HTTP/1.1 20", "closed it before an answer came"),
        (OK + b"Content-Length: 9999\r\n\r\n" + BODY, "breaks off"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n40\r\nhalf", "breaks off"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "not HTTP"),
        (OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", "not HTTP"),
        (OK + b"Content-Length: -5\r\n\r\n", "not HTTP"),
        (OK + b"X: " + b"a" * 2_000_000 + b"\r\n\r\n", "not HTTP"),
        (b"\x00\xff junk\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "not HTTP"),
        (sized(gzip.compress(BODY)[:-20], b"Content-Encoding: gzip"), "not an answer"),
        (sized(BODY, b"Content-Encoding: gzip"), "cannot be unpacked"),
        (sized(BODY, b"Content-Encoding: br"), "cannot be unpacked: Can not decode content-encoding: brotli"),
        (sized(gzip.compress(bytes(100_000_000)), b"Content-Encoding: gzip"), "more than 67,108,864 bytes"),
        (sized(b""), "an empty answer"),
        (sized(b"null"), "not an answer: expected an object"),
        (sized(BODY + BODY), "not an answer"),
        (sized(b"[" * 100_000), "not an answer"),
        (
            sized(b'{"error": {"message": "the model is loading", "code": 503}}'),
            "instead of an answer: the model is load",
        ),
        (sized(b'{"error": "boo", "choices": []}'), "an answer without choices: boo"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_answer_that_cannot_be_read_is_a_failure_in_words(raw: bytes, says: str) -> None:
    result = second(raw)
    assert isinstance(result, Failure)
    assert says in result.message
    assert "; " not in result.message  # what to do is said to those who write files


async def stop(server: asyncio.Server) -> None:
    """End a server of this event loop, and its connections."""
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0.01)


def test_a_body_that_drips_runs_out_of_time() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            for i in range(len(sized(BODY))):
                writer.write(sized(BODY)[i : i + 1])
                await asyncio.sleep(0.05)
        finally:
            writer.close()

    async def ask() -> None:
        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        connections = Connections(timeout_s=0.3, secret="")
        port = server.sockets[0].getsockname()[1]
        try:
            await connections.exchange("GET", f"http://127.0.0.1:{port}/v1/models")
        finally:
            await connections.close()
            await stop(server)

    with pytest.raises(Transient, match=r"no answer within 0\.3 s"):
        asyncio.run(ask())


def asked_in_turn(answers: Sequence[bytes], later: bytes = b"") -> tuple[list[bytes], list[list[bytes]]]:
    """Ask one server for one page after the other, with a pause; what came, and the heads sent, by connection.

    Each answer is followed by `later` a moment after it, on the same connection.
    """
    heads: list[list[bytes]] = []
    waiting = iter(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append([])
        try:
            while True:
                heads[-1].append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(next(waiting))
                await writer.drain()
                await asyncio.sleep(0.02)
                writer.write(later)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the other side has closed it
        finally:
            writer.close()

    async def ask() -> list[bytes]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        connections = Connections(timeout_s=5, secret=SECRET)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/models"
        found = []
        for _ in answers:
            found.append((await connections.exchange("GET", url)).content)
            await asyncio.sleep(0.1)
        await connections.close()
        await stop(server)
        return found

    return asyncio.run(ask()), heads


def test_a_connection_is_used_again() -> None:
    found, heads = asked_in_turn([sized(b"1"), chunked(b"22", 1), sized(b"3")])
    assert found == [b"1", b"22", b"3"]
    assert [len(one) for one in heads] == [3]
    assert all(f"Authorization: Bearer {SECRET}".encode() in head for head in heads[0])


def test_a_connection_closed_without_a_word_is_replaced_without_a_wait() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(
            int(head.lower().partition(b"content-length:")[2].split()[0] if b"POST" in head else 0)
        )
        writer.write(sized(BODY))  # HTTP/1.1, which says that the connection stays open
        await writer.drain()
        writer.close()
        received.append(body)

    async def ask() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = Address(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", "", "m")
        asker = Asker(address, Key(""), Backend(retries=1), backoff_s=60.0)
        for _ in range(5):
            await asker.ask("/chat/completions", b"{}", parse_answer, asked)
        await asker.close()
        await stop(server)

    received: list[bytes] = []
    asked = Asked()
    asyncio.run(ask())
    assert received == [b"{}"] * 5
    assert asked.attempts == 5 + asked.faults["dropped"]
    assert asked.faults["dropped"] > 0


def test_what_comes_unasked_is_not_the_answer_to_the_next_request() -> None:
    found, heads = asked_in_turn([sized(b"1"), sized(b"2"), sized(b"3")], later=sized(b"unasked"))
    assert found == [b"1", b"2", b"3"]
    assert [len(one) for one in heads] == [1, 1, 1]


# --- proxies ---


@contextmanager
def proxy(answers: bytes = b"HTTP/1.1 200 Connected\r\n\r\n") -> Iterator[tuple[int, list[bytes]]]:
    """A proxy that passes on what it is sent, in either way; yields its port and the heads that it was sent."""
    heads: list[bytes] = []
    loop = asyncio.new_event_loop()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, less: bytes = b"") -> None:
        while block := await reader.read(65536):
            writer.write(block.replace(less, b"") if less else block)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head)
        method, target, _ = head.split(b" ", 2)
        authority = target if method == b"CONNECT" else target.removeprefix(b"http://").split(b"/")[0]
        host, _, port = authority.decode().rpartition(":")
        if method == b"CONNECT":
            writer.write(answers)
            if b" 200 " not in answers:
                writer.close()
                return
        there, back = await asyncio.open_connection(host.strip("[]"), int(port))
        less = b"" if method == b"CONNECT" else b"http://" + authority
        if less:
            back.write(head.replace(less, b""))
        try:
            await asyncio.gather(pump(reader, back, less), pump(there, writer), return_exceptions=True)
        finally:
            back.close()
            writer.close()

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(serve, "127.0.0.1", 0), loop).result()

    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        asyncio.run_coroutine_threadsafe(stop(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)
    return monkeypatch


def test_the_proxy_of_the_environment_is_used_and_its_password_sent_to_nobody_else(
    no_proxies: pytest.MonkeyPatch,
) -> None:
    with OpenAIServer(completing(lambda prompt, *_: prompt)) as server, proxy() as (port, heads):
        no_proxies.setenv("HTTP_PROXY", f"http://me:p%40ss@127.0.0.1:{port}")
        policy = open_server(server.name, Backend(concurrency=2))
        assert len(list(policy.complete(additions(4), range(1), Sampling(max_tokens=20)))) == 4
    assert heads
    assert all(b"Proxy-Authorization: Basic bWU6cEBzcw==" in head for head in heads)
    assert all(head.split(b" ")[1].startswith(b"http://127.0.0.1") for head in heads)


def test_a_server_that_no_proxy_names_is_asked_directly(no_proxies: pytest.MonkeyPatch) -> None:
    no_proxies.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert named_proxy("http", "127.0.0.1", 8000) is not None
    no_proxies.setenv("NO_PROXY", "localhost,127.0.0.1")
    assert named_proxy("http", "127.0.0.1", 8000) is None
    assert named_proxy("http", "elsewhere.example", None) is not None


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (f"socks5://me:{SECRET}@127.0.0.1:1", "SOCKS proxies are not supported"),
        (f"http://me:{SECRET}@127.0.0.1:port", "not an address"),
        ("ftp://127.0.0.1:1", "not the address of a proxy"),
        ("http://", "not the address of a proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused_without_repeating_its_password(
    value: str, says: str, no_proxies: pytest.MonkeyPatch
) -> None:
    no_proxies.setenv("all_proxy", value)
    with pytest.raises(BadInput, match=says) as error:
        open_server("http://127.0.0.1:9/v1#m", Backend(retries=0))
    assert "all_proxy" in str(error.value)
    assert SECRET not in str(error.value)


def test_a_proxy_that_is_not_there_is_named_as_what_does_not_connect(no_proxies: pytest.MonkeyPatch) -> None:
    no_proxies.setenv("http_proxy", "http://127.0.0.1:1")
    with pytest.raises(BadInput, match="the proxy that the environment names"):
        open_server("http://127.0.0.1:9/v1#m", Backend(retries=0))


# --- encryption ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that signs itself, and its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    made = tmp_path_factory.mktemp("tls") / "both.pem"
    made.write_bytes(secret + signed.public_bytes(pem))
    return made


@contextmanager
def encrypted(certificate: Path) -> Iterator[int]:
    """A server behind TLS, in a process of its own; yields its port."""
    code = (
        "import asyncio, ssl, sys\n"
        "from lockedroom.testkit.openai_server import OpenAIServer, completing\n"
        "context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH); context.load_cert_chain(sys.argv[1])\n"
        "start = asyncio.start_server\n"
        "asyncio.start_server = lambda *given, **more: start(*given, ssl=context, **more)\n"
        "with OpenAIServer(completing(lambda prompt, *_: prompt)) as server:\n"
        "    print(server.port, flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(certificate)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield int(process.stdout.readline())
        process.stdin.close()


def test_an_encrypted_server_is_asked_directly_and_through_a_proxy(
    certificate: Path, no_proxies: pytest.MonkeyPatch
) -> None:
    no_proxies.setenv("SSL_CERT_FILE", str(certificate))
    with encrypted(certificate) as port:
        name = f"https://localhost:{port}/v1#test-model"
        direct = open_server(name, Backend())
        with proxy() as (between, heads):
            no_proxies.setenv("HTTPS_PROXY", f"http://me:pass@127.0.0.1:{between}")
            policy = open_server(name, Backend())
            assert len(list(policy.complete(additions(2), range(1), Sampling(max_tokens=20)))) == 2
        with proxy(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n") as (between, _):
            no_proxies.setenv("HTTPS_PROXY", f"http://127.0.0.1:{between}")
            with pytest.raises(BadInput, match="the proxy that the environment names: it answers 407"):
                open_server(name, Backend(retries=0))
    assert direct.spec.identity["template"] == "chat"
    assert all(head.startswith(b"CONNECT localhost:") for head in heads)
    assert all(b"Proxy-Authorization" in head for head in heads)


def test_a_certificate_that_nobody_signed_is_refused(certificate: Path, no_proxies: pytest.MonkeyPatch) -> None:
    with encrypted(certificate) as port, pytest.raises(BadInput, match="certificate verify failed"):
        open_server(f"https://localhost:{port}/v1#test-model", Backend(retries=0))
