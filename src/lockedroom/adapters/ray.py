"""Scoring on Ray: an engine whose benches are the actors of a Ray Data pipeline, on any number of machines.

The data set that Ray Data maps over holds nothing but the numbers of parcels. Their bytes come from a feed on the machine
that asks, when a bench asks for them, and the answers come back in order through Ray's object store, so that no folder is
shared and no machine holds more than what is in flight. A worker or a machine that dies is replaced and its parcels are
worked on again; they are the same bytes every time.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import logging
import os
import pickle
import platform
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from lockedroom._version import __version__
from lockedroom.errors import BadInput, CannotWrite, LockedroomError, MissingExtra
from lockedroom.loops.opening.engine import Bench, Engine, Feed

RAY = "ray"
HOW = "write --on ray (a cluster of this machine alone) or --on ray:HOST:PORT (the address that `ray start --head` prints)"
CONNECT_SECONDS = 5.0
WATCH_SECONDS, REFUSALS = 1.0, 2  # so many in a row mean that a process has gone
JOIN_SECONDS = 30.0  # most that the thread of a pipeline is waited for
LEAVE_SECONDS = 5.0  # in which Ray has to let go of a cluster that has gone
HEALTH_SECONDS = 30.0  # most of which is the import of ray on a busy machine
VERSIONS = {"lockedroom": __version__, "msgspec": msgspec.__version__, "python": platform.python_version()}


@contextlib.contextmanager
def open_engine(name: str) -> Iterator[Engine]:
    """Yield the engine that `--on ray[:ADDRESS]` names; a cluster that was started for it is stopped on the way out.

    Raises MissingExtra without ray, and BadInput for a name or an address that cannot be used.
    """
    kind, _, address = name.partition(":")
    if kind != RAY or (":" in name and not address):
        raise BadInput(f"--on {name!r}: no such engine; {HOW}")
    if importlib.util.find_spec("ray") is None:
        raise MissingExtra("--on ray", "ray")
    _quiet()
    import ray  # type: ignore[import-not-found,unused-ignore]  # not in the main environment

    engine = RayEngine()
    ours = not ray.is_initialized()  # else somebody's program has connected already, and stays so
    if ours:
        _connect(address)
    try:
        yield engine
    finally:
        if ours:
            ray.shutdown()
        engine.leave()


def _quiet() -> None:
    """Ray reports usage over the network and prints progress of its own unless it is told not to before it is imported."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # warns of its own pipeline's actors at every run


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Keep off stderr what Ray's C++ part writes there while it connects: that it has been told to write nothing."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _connect(address: str) -> None:
    import ray  # type: ignore[import-not-found,unused-ignore]  # not in the main environment

    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not address:
        with _unheard():
            ray.init(address="local", include_dashboard=False, **settings)
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise BadInput(f"--on ray:{address}: not an address; {HOW}")
    _probe(address, host, int(port))
    try:
        with _unheard():
            ray.init(address=address, **settings)
    except (ConnectionError, RuntimeError, ValueError, AssertionError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(
            f"--on ray:{address}: cannot join a Ray cluster there ({first}); run this on a machine of the cluster "
            "(`ray start --address=HOST:PORT` makes it one), with the same versions of Python and ray"
        ) from None


def _probe(address: str, host: str, port: int) -> None:
    """Find out whether a cluster answers there; `ray.init` itself asks for minutes, and ends the process in some cases."""
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise BadInput(f"--on ray:{address}: nothing answers there ({error}); {HOW}") from None
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        healthy = subprocess.run(command, capture_output=True, timeout=HEALTH_SECONDS, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        healthy = False
    if not healthy:
        raise BadInput(f"--on ray:{address}: what answers there is no Ray cluster of this version of ray; {HOW}")


class RayEngine:
    """The cluster that this process is connected to."""

    def __init__(self) -> None:
        self._watch: _Watch | None = None

    def leave(self) -> None:
        """Say that Ray has let go of a cluster, which it may fail to do where that has died."""
        if self._watch is not None:
            self._watch.end()

    @property
    def workers(self) -> int:
        import ray  # type: ignore[import-not-found,unused-ignore]  # not in the main environment

        return max(1, int(ray.cluster_resources().get("CPU", 1)))

    def map(self, feed: Feed, bench: Bench, parcels: int) -> Iterator[bytes]:
        """See `Engine.map`."""
        if parcels == 0:
            return
        import ray  # type: ignore[import-not-found,unused-ignore]  # not in the main environment
        import ray.data  # type: ignore[import-not-found,unused-ignore]  # not in the main environment
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # type: ignore[import-not-found,unused-ignore]

        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(_FeedActor)
        handle = actor.remote(pickle.dumps(feed))
        benches = min(self.workers, parcels)
        answers = ray.data.from_items(list(range(parcels)), override_num_blocks=parcels).map(
            _BenchActor,
            fn_constructor_args=(pickle.dumps(bench), VERSIONS, handle),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=benches, initial_size=benches),
            num_cpus=1,
        )
        self._watch = watch = _Watch()
        rows = iter(answers.iter_rows())
        try:
            for row in rows:
                if row["trouble"]:
                    raise BadInput(row["trouble"])
                yield row["answer"]
        except KeyboardInterrupt:
            if not watch.gone:
                raise
            raise watch.lost() from None
        except ray.exceptions.RayError as error:
            last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise CannotWrite(
                f"--on ray: the cluster could not go on ({last}); what is finished is kept: see that lockedroom is "
                "installed on every machine of it, and continue with --resume"
            ) from None
        finally:
            if not watch.gone:
                watch.end()
                del rows
                _clear()
                ray.kill(handle)


def _clear() -> None:
    """Let what is left of a pipeline go, its thread and what refers to itself.

    Ray ends the process, without a word and with exit code 1, when a reference to one of its objects goes after `ray.shutdown`.
    """
    for thread in threading.enumerate():
        if thread.name.startswith("StreamingExecutor"):
            thread.join(JOIN_SECONDS)
    gc.collect()


class _Watch:
    """Asks every second whether the two processes answer without which nothing goes on: the cluster's head, this node.

    Ray itself ends this process 10 to 60 s after it has lost one of them, without a word and with exit code 1. The main
    thread is interrupted before that, as Ctrl-C would. Where Ray keeps it waiting for the dead all the same, the process is
    ended here, with its message.
    """

    def __init__(self) -> None:
        import ray  # type: ignore[import-not-found,unused-ignore]  # not in the main environment

        self.gone = ""
        self._ended = threading.Event()
        context = ray.get_runtime_context()
        host, _, port = context.gcs_address.rpartition(":")
        here = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
        self._asked = {
            "the head": (host, int(port)),
            "this machine's node": (here["NodeManagerAddress"], here["NodeManagerPort"]),
        }
        if threading.current_thread() is threading.main_thread():
            threading.Thread(target=self._look, name="watch", daemon=True).start()

    def _look(self) -> None:
        refusals: Counter[str] = Counter()
        while not self._ended.wait(WATCH_SECONDS):
            for name, address in self._asked.items():
                try:
                    socket.create_connection(address, CONNECT_SECONDS).close()
                    refusals[name] = 0
                except ConnectionRefusedError:
                    refusals[name] += 1
                except OSError:  # a network that drops packets is Ray's to judge
                    pass
                if refusals[name] == REFUSALS:
                    self.gone = name
                    os.kill(os.getpid(), signal.SIGINT)
                    if not self._ended.wait(LEAVE_SECONDS):
                        error = self.lost()
                        os.write(sys.stderr.fileno(), f"lockedroom: {error}\n".encode())
                        os._exit(error.exit_code)
                    return

    def lost(self) -> CannotWrite:
        """Return what to say of a cluster that has gone."""
        return CannotWrite(
            f"--on ray: {self.gone} of the cluster has died; what is finished is kept: start the cluster again and "
            "continue with --resume, or without --on"
        )

    def end(self) -> None:
        self._ended.set()


class _FeedActor:
    """The feed, on the machine that holds the run's files."""

    def __init__(self, feed: bytes) -> None:
        self._read = pickle.loads(feed).open()

    def read(self, parcel: int) -> tuple[bytes, str]:
        """Return a parcel, or why it cannot be had."""
        try:
            return self._read(parcel), ""
        except LockedroomError as error:
            return b"", str(error)


class _BenchActor:
    """One bench. Trouble that a person should read is an answer too: it must not look like a worker that died."""

    def __init__(self, bench: bytes, versions: dict[str, str], feed: Any) -> None:
        self._feed, self._trouble = feed, ""
        self._stack = contextlib.ExitStack()
        differing = [
            f"{name} {VERSIONS[name]} instead of {wanted}"
            for name, wanted in versions.items()
            if VERSIONS[name] != wanted
        ]
        if differing:
            self._trouble = f"{socket.gethostname()} has {', '.join(differing)}; install the same on every machine"
            return
        try:
            self._work = self._stack.enter_context(pickle.loads(bench).open())
        except LockedroomError as error:
            self._trouble = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        import ray  # type: ignore[import-not-found,unused-ignore]  # not in the main environment

        answer, trouble = b"", self._trouble
        if not trouble:
            parcel, trouble = ray.get(self._feed.read.remote(row["item"]))
        if not trouble:
            try:
                answer = self._work(parcel)
            except LockedroomError as error:
                trouble = str(error)
        return {"answer": answer, "trouble": trouble}
