"""Reports over HTTP, on this machine only: a list of the runs of a folder, and the page of each, made when asked for.

The server listens on a loopback address and answers only requests that name one as their host, so no page elsewhere can
read it through a name that points here. A run is named by a hash of its path, never by the path: the list may have changed
since it was shown, and nothing outside it can be asked for.
"""

from __future__ import annotations

import hashlib
import html
import http.server
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from lockedroom.errors import BadInput, LockedroomError
from lockedroom.report.blocks import Link, Page, Rows, Section, Table
from lockedroom.report.document import make_page
from lockedroom.report.page import render_page, require_jinja
from lockedroom.results.compare import CompareOptions
from lockedroom.results.listing import Listed, list_runs
from lockedroom.visible import visible
from lockedroom.wording import counted

HOST = "127.0.0.1"
HOSTS = ("127.0.0.1", "localhost")


def open_server(folder: Path, port: int) -> http.server.ThreadingHTTPServer:
    """Return a server that is bound and not yet serving; port 0 takes a free one. Raises BadInput for a port in use."""
    require_jinja()
    list_runs(folder)

    class Handler(_Handler):
        root = folder

    try:
        return _Server((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        raise BadInput(f"--port {port}: cannot listen there: {error}; give another port, or 0 for a free one") from None


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a browser that left before its answer was written."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # what the server was given itself


class _Handler(http.server.BaseHTTPRequestHandler):
    root: Path

    def do_GET(self) -> None:  # the name that http.server calls
        try:
            host, path = urlsplit(f"//{self.headers.get('Host', '')}").hostname, urlsplit(self.path).path
        except ValueError:  # brackets that are no address
            host = path = ""
        if host not in HOSTS:
            self._answer(403, _message("only for this machine"))
            return
        try:
            runs = list_runs(self.root, reverse=True)
            if path == "/":
                self._answer(200, _index(self.root, runs))
                return
            run = next((one for one in runs if path == _address(one)), None)
            if run is None:
                self._answer(404, _message("no such page"))
                return
            self._answer(200, render_page(make_page([Path(run.path)], CompareOptions())))
        except LockedroomError as error:
            self._answer(409, _message(str(error)))

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


def _address(run: Listed) -> str:
    return f"/run/{hashlib.sha256(os.fsencode(run.path)).hexdigest()[:24]}"


def _message(text: str) -> bytes:
    shown = "<br>".join(html.escape(visible(line, 2000)) for line in text.split("\n"))
    return f'<!doctype html><title>lockedroom</title><p>{shown}</p><p><a href="/">the runs</a></p>'.encode()


def _rate(run: Listed) -> str:
    if run.rate is None or run.low is None or run.high is None:
        return "" if run.rate is None else f"{run.rate:.4f}"
    return f"{run.rate:.4f} ({run.low:.4f} to {run.high:.4f})"


def _index(folder: Path, runs: list[Listed]) -> bytes:
    """The list, made of the same blocks as a report."""
    rows: Rows = [
        [Link(visible(one.path, 200) or ".", _address(one)), visible(one.kind or one.state, 20), visible(one.policy, 60),
         visible(one.dataset, 60), _rate(one), visible(one.started[:16].replace("T", " "), 20)]
        for one in runs
    ]  # fmt: skip
    header = ["run", "kind", "policy", "dataset", "pass rate", "started"]
    page = Page(
        title=f"Runs in {visible(folder.resolve().name or str(folder), 200)}",
        verdict=f"{counted(len(runs), 'run')}, the newest first; a report is verified and made at the moment it is opened.",
        facts=[],
        sections=[Section(title="Runs", tables=[Table(header=header, rows=rows, numbers=[4, 5], filterable=True)])],
        command=f"lockedroom view {visible(str(folder), 200)}",
    )
    return render_page(page)
