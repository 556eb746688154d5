"""The flags that say how a live policy is sampled."""

from __future__ import annotations

import argparse

SAMPLING_FLAGS = ("temperature", "top_k", "top_p", "max_tokens", "stop", "seed")


def add_sampling_flags(group: argparse._ArgumentGroup) -> None:
    """Add a flag for each field of `lockedroom.records.Sampling` but the seed, and `--threads`."""
    add = group.add_argument
    add("--temperature", type=float, metavar="T", help="0 is greedy decoding (default 1)")
    add("--top-k", type=int, metavar="K", help="keep the K most probable tokens (default 0: all)")
    add("--top-p", type=float, metavar="P", help="keep the fewest tokens that hold this share (default 1)")
    add("--max-tokens", type=int, metavar="N", help="token limit (default: what the context leaves)")
    add("--stop", action="append", metavar="TEXT", help="end a completion before this text (may be repeated)")
    add("--threads", type=int, metavar="N", help="of PyTorch (default 1; more can be far slower)")
