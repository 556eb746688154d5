"""`lockedroom view`: on this machine only, every page made from a verified run."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from report_runs import write_run

from lockedroom.cli.main import main
from lockedroom.report.serving import HOST, open_server


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    write_run(tmp_path, "run", ["Final: 1", "no"])
    with open_server(tmp_path, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield tmp_path, server.server_address[1]
        server.shutdown()
        thread.join()


def _get(port: int, path: str, host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_the_list_leads_to_a_report(served: tuple[Path, int]) -> None:
    status, index = _get(served[1], "/")
    assert status == 200
    assert '<a href="/run/0">' in index
    status, page = _get(served[1], "/run/0")
    assert status == 200
    assert "Failure modes" in page


def test_a_page_elsewhere_cannot_read_it_by_another_name(served: tuple[Path, int]) -> None:
    assert _get(served[1], "/", host=f"evil.example:{served[1]}")[0] == 403


@pytest.mark.parametrize("path", ["/run/1", "/run/-1", "/run/x", "/run/../../etc/passwd", "/run/%2e%2e", "/x"])
def test_nothing_else_is_served(served: tuple[Path, int], path: str) -> None:
    assert _get(served[1], path)[0] == 404


def test_a_tampered_run_is_refused_with_its_reason(served: tuple[Path, int]) -> None:
    records = served[0] / "run" / "records.jsonl"
    records.write_bytes(records.read_bytes() + b"\n")
    status, text = _get(served[1], "/run/0")
    assert status == 409
    assert "records.jsonl" in text


def test_a_port_in_use_gets_one_message(served: tuple[Path, int], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(served[0]), "--port", str(served[1])]) == 2
    assert "cannot listen" in capsys.readouterr().err


def test_no_folder_gets_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", "nowhere"]) == 2
    assert "no such folder" in capsys.readouterr().err
