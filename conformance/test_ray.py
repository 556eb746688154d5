"""Real Ray: clusters of two nodes on this machine, whose workers and nodes are killed while they score."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
from ray.cluster_utils import Cluster

from lockedroom import EvaluateConfig, evaluate, select
from lockedroom.adapters.ray import open_engine
from lockedroom.cli.main import main
from lockedroom.loops.opening.engine import Engine
from lockedroom.loops.selecting.opening import SelectConfig

EXAMPLES = 3000
SLOWLY = 1200  # examples that a slow scorer judges: a few parcels for each of two workers
SAME = ("records.jsonl", "examples.jsonl", "summary.json")
# A person's scorer that is slow enough to be killed in the middle of a run.
SLOW = """
import time

def score(example, completion):
    time.sleep(0.002)
    return {"reward": float(completion == "Final: " + str(example.expected_answer)), "details": {}}
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Examples, completions that miss some of them and stand in another order, and a person's scorer."""
    folder = tmp_path_factory.mktemp("files")
    numbers = range(EXAMPLES)
    rows = [{"id": f"e{i}", "prompt": f"{i}+1?", "expected_answer": i + 1} for i in numbers]
    said = [{"id": f"e{i}", "samples": [f"Final: {i + 1}", f"Final: {i + i % 2}"]} for i in reversed(numbers) if i % 9]
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))
    (folder / "slow.py").write_text(SLOW)
    return folder


class Nodes(NamedTuple):
    engine: Engine
    lose_one: Callable[[], None]


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Nodes]:
    """One cluster for all tests that need one: it takes longer to start than they take to run."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        with open_engine(f"ray:{cluster.address}") as engine:
            assert engine.workers == 2
            yield Nodes(engine, lambda: cluster.remove_node(node, allow_graceful=False))
    finally:
        cluster.shutdown()


def _config(files: Path, **more: Any) -> EvaluateConfig:
    if "policy" not in more:
        more["completions"] = str(files / "c.jsonl")
    return EvaluateConfig(dataset=str(files / "d.jsonl"), **more)


def _same(one: Path, other: Path, names: tuple[str, ...] = SAME) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def _workers() -> list[int]:
    """The processes of benches."""
    found = subprocess.run(["ps", "-ewwo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in found.splitlines()[1:]]
    ours = {os.getpid()}
    while more := {int(pid) for pid, parent, _ in rows if int(parent) in ours} - ours:
        ours |= more
    return [
        int(pid) for pid, _, words in rows if int(pid) in ours and words.startswith("ray::") and "_BenchActor" in words
    ]


# --- before this process has joined a cluster ---


@pytest.fixture
def web_server() -> Iterator[str]:
    """The address of something that is no Ray cluster."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    "name",
    ["spark", "ray:", "ray:nowhere", "ray:127.0.0.1:1", "ray:127.0.0.1:99999", "ray:ray://127.0.0.1:10001", "ray:a:b",
     "ray:WEB"],
)  # fmt: skip
def test_an_engine_that_cannot_be_reached_is_one_message(
    name: str, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], web_server: str
) -> None:
    name = name.replace("WEB", web_server)
    code = main(["evaluate", "--on", name, "--dataset", str(files / "d.jsonl"), "--policy", "scripted:x",
                 "--out", str(tmp_path / "run")])  # fmt: skip

    said = capsys.readouterr().err
    assert (code, said.count("\n")) == (2, 1), said
    assert "write --on ray" in said
    assert not (tmp_path / "run").exists()


# --- in one cluster of two nodes, the last test without one of them ---


@pytest.mark.parametrize(
    "more",
    [{}, {"policy": "scripted:Final: 7", "draws": 2}, {"limit": 300, "scorer": "slow.py"}],
    ids=["recorded", "drawn by the workers", "a person's scorer"],
)
def test_two_nodes_write_the_bytes_that_one_process_writes(
    more: dict[str, Any], files: Path, tmp_path: Path, two_nodes: Nodes
) -> None:
    if "scorer" in more:
        more = {**more, "scorer": f"{files / 'slow.py'}:score"}
    config = _config(files, **more)
    evaluate(config, tmp_path / "one")

    evaluate(config, tmp_path / "two", engine=two_nodes.engine)

    assert _same(tmp_path / "one", tmp_path / "two")
    assert main(["verify", str(tmp_path / "two")]) == 0
    assert main(["compare", str(tmp_path / "one"), str(tmp_path / "two"), "--assume-equal", "sampling,prompts"]) == 0


def test_a_selection_judged_anew_on_two_nodes_is_that_of_one_process(
    files: Path, tmp_path: Path, two_nodes: Nodes
) -> None:
    evaluate(_config(files, limit=SLOWLY), tmp_path / "run")
    config = SelectConfig(
        run=str(tmp_path / "run"), selector="proxy:permissive", measure=f"{files / 'slow.py'}:score", resamples=50
    )
    one = select(config, tmp_path / "one")

    two = select(config, tmp_path / "two", engine=two_nodes.engine)

    assert one.manifest.files.keys() == two.manifest.files.keys()
    assert _same(tmp_path / "one", tmp_path / "two", tuple(one.manifest.files))


def _while_running(run: Path, act: Any) -> threading.Thread:
    """Do something once, when the first records of a run are there."""

    def wait() -> None:
        while not (run / "records.jsonl").is_file() or not (run / "records.jsonl").stat().st_size:
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_worker_killed_in_the_middle_of_a_run_changes_nothing(files: Path, tmp_path: Path, two_nodes: Nodes) -> None:
    config = _config(files, limit=SLOWLY, scorer=f"{files / 'slow.py'}:score")
    evaluate(config, tmp_path / "one")
    killed: list[int] = []

    def kill() -> None:
        killed.extend(_workers()[:1])
        os.kill(killed[0], signal.SIGKILL)

    killing = _while_running(tmp_path / "two", kill)
    evaluate(config, tmp_path / "two", engine=two_nodes.engine)
    killing.join()

    assert len(killed) == 1
    assert _same(tmp_path / "one", tmp_path / "two")


def test_a_node_lost_in_the_middle_of_a_run_changes_nothing(files: Path, tmp_path: Path, two_nodes: Nodes) -> None:
    config = _config(files, limit=SLOWLY, scorer=f"{files / 'slow.py'}:score")
    evaluate(config, tmp_path / "one")

    losing = _while_running(tmp_path / "two", two_nodes.lose_one)
    evaluate(config, tmp_path / "two", engine=two_nodes.engine)
    losing.join()

    assert two_nodes.engine.workers == 1
    assert _same(tmp_path / "one", tmp_path / "two")


# --- in clusters of their own ---


def test_a_killed_run_goes_on_from_what_was_written(files: Path, tmp_path: Path) -> None:
    config = _config(files, limit=SLOWLY, scorer=f"{files / 'slow.py'}:score")
    evaluate(config, tmp_path / "one")
    command = [sys.executable, "-m", "lockedroom", "evaluate", "--on", "ray", "--out", str(tmp_path / "two")]
    command += ["--dataset", config.dataset, "--completions", str(config.completions), "--scorer", config.scorer]
    command += ["--limit", str(SLOWLY)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    _while_running(tmp_path / "two", running.kill).join()
    running.wait()
    written = (tmp_path / "two/records.jsonl").read_bytes()

    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert 0 < len(written) < (tmp_path / "one/records.jsonl").stat().st_size
    assert _same(tmp_path / "one", tmp_path / "two")
    timing = json.loads((tmp_path / "two/manifest.json").read_bytes())["timing"]
    assert timing["attempts"] <= 2 * SLOWLY - written.count(b"\n") + 1


def test_a_cluster_whose_head_dies_is_one_message(files: Path, tmp_path: Path) -> None:
    scorer = tmp_path / "slower.py"  # what is left has to last longer than it takes to see that the head has gone
    scorer.write_text(SLOW.replace("0.002", "0.006"))
    command = [sys.executable, "-m", "lockedroom", "evaluate", "--on", "ray", "--out", str(tmp_path / "run")]
    command += ["--dataset", str(files / "d.jsonl"), "--completions", str(files / "c.jsonl")]
    command += ["--scorer", f"{scorer}:score"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:

        def kill() -> None:
            found = subprocess.run(["ps", "-ewwo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
            rows = [line.split(None, 2) for line in found.splitlines()[1:]]
            heads = [int(pid) for pid, parent, words in rows if int(parent) == running.pid and "gcs_server" in words]
            os.kill(heads[0], signal.SIGKILL)

        _while_running(tmp_path / "run", kill).join()
        said = running.communicate(timeout=100)[1]

    assert (running.returncode, said.count("\n")) == (2, 1), said
    assert "the head of the cluster has died" in said
    assert (tmp_path / "run/records.jsonl").stat().st_size > 0


def test_a_bad_row_that_a_cluster_is_asked_to_score_is_one_message(files: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"id": "e0", "prompt": 5, "expected_answer": 1}\n')
    done = subprocess.run(
        [sys.executable, "-m", "lockedroom", "evaluate", "--on", "ray", "--out", str(tmp_path / "run"),
         "--dataset", str(tmp_path / "bad.jsonl"), "--completions", str(files / "c.jsonl")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


def test_a_scorer_that_the_nodes_cannot_import_is_one_message(files: Path, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("RIGHT = 1.0\n")
    (tmp_path / "mine.py").write_text(
        "import beside\n\ndef score(example, completion):\n    return {'reward': beside.RIGHT, 'details': {}}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "lockedroom", "evaluate", "--on", "ray", "--out", str(tmp_path / "run"), "--limit", "20",
         "--dataset", str(files / "d.jsonl"), "--policy", "scripted:x", "--scorer", str(tmp_path / "mine.py")],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip

    assert done.returncode == 2, done.stderr
    assert "No module named 'beside'" in done.stderr
    assert "Traceback" not in done.stderr
