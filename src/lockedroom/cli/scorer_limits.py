"""The two flags that bound a person's own scorer, for every command that runs one."""

from __future__ import annotations

import argparse


def add_scorer_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scorer-timeout",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="for one call of your own scorer (default 5)",
    )
    parser.add_argument(
        "--scorer-memory", type=int, default=512, metavar="MB", help="that your own scorer may allocate (default 512)"
    )
