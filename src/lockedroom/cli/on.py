"""The flag that names an engine past this machine."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lockedroom.loops.opening.engine import Engine


def add_on_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on", metavar="ENGINE", help="score on a Ray cluster: ray, or ray:HOST:PORT; the results do not depend on it"
    )


@contextlib.contextmanager
def opened_engine(name: str | None) -> Iterator[Engine | None]:
    """Yield the engine of this name; None stands for this process. Raises BadInput."""
    if name is None:
        yield None
        return
    from lockedroom.adapters.ray import open_engine

    with open_engine(name) as engine:
        yield engine
