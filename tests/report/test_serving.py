"""`lockedroom view`: on this machine only, every page made from a verified run."""

from __future__ import annotations

import http.client
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
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


def _first(index: str) -> str:
    found = re.search(r'<a href="(/run/[0-9a-f]{24})">', index)
    assert found is not None
    return found[1]


def test_the_list_leads_to_a_report(served: tuple[Path, int]) -> None:
    status, index = _get(served[1], "/")
    assert status == 200
    status, page = _get(served[1], _first(index))
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
    status, text = _get(served[1], _first(_get(served[1], "/")[1]))
    assert status == 409
    assert "records.jsonl" in text


def test_a_port_in_use_gets_one_message(served: tuple[Path, int], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(served[0]), "--port", str(served[1])]) == 2
    assert "cannot listen" in capsys.readouterr().err


def test_no_folder_gets_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", "nowhere"]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_an_address_means_the_same_run_after_others_were_added(served: tuple[Path, int]) -> None:
    address = _first(_get(served[1], "/")[1])
    write_run(served[0], "later", ["no"])
    assert "<h1>run on" in _get(served[1], address)[1]


@pytest.mark.parametrize("host", ["", "[", "127.0.0.1.evil.example", "localhost:1@evil.example", "0.0.0.0", "[::1"])
def test_a_host_that_is_not_this_machine_is_refused(served: tuple[Path, int], host: str) -> None:
    assert _get(served[1], "/", host=host)[0] == 403


def test_a_browser_that_leaves_early_is_no_news(served: tuple[Path, int], capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        with socket.create_connection((HOST, served[1])) as left:
            left.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert _get(served[1], "/")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_folder_that_went_away_gets_one_message(served: tuple[Path, int]) -> None:
    shutil.rmtree(served[0])
    status, text = _get(served[1], "/")
    assert status == 409
    assert "no such folder" in text


def test_a_folder_of_any_name_is_served(tmp_path: Path) -> None:
    folder = tmp_path / "<b>'\"&%2e%2e#?🦉"
    folder.mkdir()
    write_run(folder, "run <i>", ["Final: 1"])
    with open_server(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        index = _get(server.server_address[1], "/")[1]
        status, page = _get(server.server_address[1], _first(index))
        server.shutdown()
        thread.join()
    assert status == 200
    assert "<b>" not in index + page


def test_ctrl_c_stops_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lockedroom", "view", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as viewing:
        assert viewing.stdout is not None
        assert "Ctrl-C" in viewing.stdout.readline()
        viewing.send_signal(signal.SIGINT)
        out, err = viewing.communicate(timeout=20)
    assert (viewing.returncode, out, err) == (0, "stopped\n", "")
