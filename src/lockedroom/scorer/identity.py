r"""Who a scorer is: the hash of its source, and the fingerprint of its behaviour.

The source hash tells that the file changed. The fingerprint tells that the verdicts changed, even if nobody bumped the
version and even if the change sits in something the file imports. To recompute it anywhere, with any language:

1. Ask the scorer about every pair of `BATTERY`, in order.
2. Write one line for the battery, then one for every verdict, each a JSON array with no spaces, everything outside
   ASCII escaped as \uXXXX, and "\n" after each:

       ["lockedroom-fingerprint",1,"<BATTERY_SHA256>"]
       ["score",1.0,"ok","correct","42"]            reward, code, outcome, parsed (or null)
       ["failure","scorer_raised"]                  code

   Messages and extra details are wording, not verdicts, and are left out.
3. The fingerprint is the sha256 of that text, in hexadecimal.

`BATTERY_SHA256` is the sha256 of `battery_text()`: one line `[id,prompt,expected_answer,completion]` a pair, in the
same style.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lockedroom.records import Failure, Score
from lockedroom.scorer.battery import BATTERY, BATTERY_SHA256, BATTERY_VERSION


def source_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fingerprint(results: Iterable[Score | Failure]) -> str:
    """Return the sha256 of a scorer's verdicts over `BATTERY`, given in the battery's order."""
    digest = hashlib.sha256(_line("lockedroom-fingerprint", BATTERY_VERSION, BATTERY_SHA256))
    for result in results:
        digest.update(verdict_line(result))
    return digest.hexdigest()


def battery_text() -> bytes:
    """Return the canonical text of the battery, whose sha256 is `BATTERY_SHA256`."""
    return b"".join(
        _line(example.id, example.prompt, example.expected_answer, completion) for example, completion in BATTERY
    )


def verdict_line(result: Score | Failure) -> bytes:
    """Return one verdict as its line of the fingerprint's text."""
    if isinstance(result, Failure):
        return _line("failure", result.code.value)
    details = result.details
    return _line("score", float(result.reward), details.code, details.outcome.value, details.parsed)


def _line(*fields: Any) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n"
