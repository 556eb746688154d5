"""Reports over HTTP, on this machine only: a list of the runs of a folder, and the page of each, made when asked for.

The server listens on a loopback address and answers only requests that name one as their host, so no page elsewhere can
read it through a name that points here. A run is named by its number in the list, never by a path.
"""

from __future__ import annotations

import html
import http.server
from pathlib import Path
from urllib.parse import urlsplit

from lockedroom.errors import BadInput, LockedroomError
from lockedroom.report.blocks import Link, Page, Rows, Section, Table
from lockedroom.report.document import make_page
from lockedroom.report.page import render_page
from lockedroom.results.compare import CompareOptions
from lockedroom.results.listing import Listed, list_runs
from lockedroom.visible import visible

HOST = "127.0.0.1"
HOSTS = ("127.0.0.1", "localhost")


def open_server(folder: Path, port: int) -> http.server.ThreadingHTTPServer:
    """Return a server that is bound and not yet serving; port 0 takes a free one. Raises BadInput for a port in use."""
    list_runs(folder)

    class Handler(_Handler):
        root = folder

    try:
        return http.server.ThreadingHTTPServer((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        raise BadInput(f"--port {port}: cannot listen there: {error}; give another port, or 0 for a free one") from None


class _Handler(http.server.BaseHTTPRequestHandler):
    root: Path

    def do_GET(self) -> None:  # the name that http.server calls
        if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in HOSTS:
            self._answer(403, b"only for this machine")
            return
        path = urlsplit(self.path).path
        runs = list_runs(self.root)
        if path == "/":
            self._answer(200, _index(self.root, runs))
            return
        number = path.removeprefix("/run/")
        if not (path.startswith("/run/") and number.isascii() and number.isdigit() and int(number) < len(runs)):
            self._answer(404, b"no such page; the list of runs is at /")
            return
        try:
            page = render_page(make_page([Path(runs[int(number)].path)], CompareOptions()))
        except LockedroomError as error:
            self._answer(409, _message(str(error)))
            return
        self._answer(200, page)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the signature of http.server)
        """Say nothing: what was asked for is of no interest to the terminal."""


def _message(text: str) -> bytes:
    shown = "<br>".join(html.escape(visible(line, 2000)) for line in text.split("\n"))
    return f'<!doctype html><title>lockedroom</title><p>{shown}</p><p><a href="/">the runs</a></p>'.encode()


def _index(folder: Path, runs: list[Listed]) -> bytes:
    """The list, made of the same blocks as a report."""
    rows: Rows = [
        [Link(visible(one.path, 200) or ".", f"/run/{number}"), visible(one.kind or one.state, 20), visible(one.policy, 60),
         visible(one.dataset, 60), "" if one.rate is None else f"{one.rate:.4f}", visible(one.started[:19], 20)]
        for number, one in enumerate(runs)
    ]  # fmt: skip
    header = ["run", "kind", "policy", "dataset", "pass rate", "started"]
    page = Page(
        title=f"Runs in {visible(str(folder), 200)}",
        verdict=f"{len(runs):,} runs; a report is verified and made at the moment it is opened.",
        facts=[],
        sections=[Section(title="Runs", tables=[Table(header=header, rows=rows, numbers=[4], filterable=True)])],
        command=f"lockedroom view {visible(str(folder), 200)}",
    )
    return render_page(page)
