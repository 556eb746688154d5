"""What a server was paid for, written down at once: `receipts.jsonl`, beside the records while a run is being written.

Records stand in order, so a record may have to wait for a slower one before it; a receipt never waits. After a kill,
`--resume` takes from the receipts whatever has not become a record yet, so only requests that were in flight are asked
again. When the run is finished its accounts (`usage.json`) are drawn up from the receipts, which are then removed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import msgspec

from lockedroom.errors import BadInput
from lockedroom.jsonl import encode_lines, read_batches
from lockedroom.policy.streaming import Receipt
from lockedroom.records import Completion, Failure, PolicySpec
from lockedroom.results.run_folder import RECEIPTS, whole_bytes, writing

USAGE_JSON = "usage.json"
# Of a policy's identity, what some servers change from one answer to the next.
_FLEETING = ("system_fingerprint", "answered_as")
# Latencies are counted in steps of 2 %, so that percentiles of any number of requests fit in a few hundred counts.
_STEP = 1.02
_LEAST_S = 1e-4


class Latency(msgspec.Struct, frozen=True):
    """Seconds from sending the last attempt of a request to its whole answer; percentiles to within 2 %."""

    mean: float
    p50: float
    p90: float
    p99: float
    max: float


class Usage(msgspec.Struct, frozen=True):
    """The accounts of a run. Tokens are as the server counted them; `without_token_counts` says how often it did not.

    `faults` counts attempts that failed, by status or kind. What was in flight when a run was killed is not in here.
    """

    requests: int
    failed_requests: int
    attempts: int
    faults: dict[str, int]
    completions: int
    without_logprobs: int
    prompt_tokens: int
    completion_tokens: int
    without_token_counts: int
    latency_s: Latency | None
    system_fingerprints: dict[str, int]


class _Written(msgspec.Struct, frozen=True):
    """A line of the file: the policy (first line), or a receipt."""

    policy: PolicySpec | None = None
    receipt: Receipt | None = None


class ReceiptFile:
    """The receipts of a run being written, in a file that is made when the first completion is paid for."""

    def __init__(self, run: Path, policy: PolicySpec, *, finished: int) -> None:
        self.path = run / RECEIPTS
        self._accounts = _Accounts()
        self._waiting = [_Written(policy=policy)]
        self._paid: dict[int, tuple[str, dict[int, Completion | Failure]]] = {}
        self._file: BinaryIO | None = None
        if self.path.exists():
            self._read(policy, finished)

    def paid(self, example: int, example_id: str) -> Mapping[int, Completion | Failure]:
        """Return the draws of an example that are paid for, once; raise BadInput if it is another example's place."""
        name, draws = self._paid.pop(example, (example_id, {}))
        if name != example_id:
            raise BadInput(
                f"{self.path}: example {example + 1} was {name!r} when this run began and is {example_id!r} now; "
                "restore the dataset, or start a new run in another folder"
            )
        return draws

    def keep(self, receipt: Receipt) -> None:
        self._accounts.add(receipt)
        self._waiting.append(_Written(receipt=receipt))
        if self._file is None and not receipt.answered:
            return
        with writing(self.path):
            if self._file is None:
                self._file = open(self.path, "ab")  # noqa: SIM115  (closed by close or remove)
            self._file.write(encode_lines(self._waiting))
            self._file.flush()
        self._waiting.clear()

    def usage(self) -> Usage:
        return self._accounts.summed()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        """Remove the file: every receipt has become a record."""
        self.close()
        with writing(self.path):
            self.path.unlink(missing_ok=True)

    def _read(self, policy: PolicySpec, finished: int) -> None:
        end = whole_bytes(self.path)
        for batch in read_batches(self.path, _Written, stop=end):
            for row in batch.rows:
                if row.policy is not None:
                    self._refuse_other(row.policy, policy)
                    self._waiting.clear()
                if row.receipt is not None:
                    self._accounts.add(row.receipt)
                    if row.receipt.example >= finished:
                        _, draws = self._paid.setdefault(row.receipt.example, (row.receipt.id, {}))
                        draws.update(row.receipt.found())
        with writing(self.path):
            self._file = open(self.path, "r+b")  # noqa: SIM115  (closed by close or remove)
            self._file.truncate(end)
            self._file.seek(end)

    def _refuse_other(self, then: PolicySpec, now: PolicySpec) -> None:
        fields = [name for name in {**then.identity, **now.identity} if name not in _FLEETING]
        differing = [name for name in fields if then.identity.get(name) != now.identity.get(name)]
        if differing:
            listed = "; ".join(
                f"{name}: was {then.identity.get(name)!r}, now {now.identity.get(name)!r}" for name in differing
            )
            raise BadInput(
                f"{self.path.parent}: the server is another than when this run began ({listed}); bring the old one back, "
                "or start a new run in another folder"
            )


class _Accounts:
    def __init__(self) -> None:
        self._count: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._fingerprints: Counter[str] = Counter()
        self._steps: Counter[int] = Counter()
        self._seconds, self._longest = 0.0, 0.0

    def add(self, receipt: Receipt) -> None:
        count = self._count
        count["requests"] += 1
        count["attempts"] += receipt.attempts
        self._faults.update(receipt.faults)
        if not receipt.answered:
            count["failed_requests"] += 1
            return
        count["completions"] += len(receipt.draws)
        count["without_logprobs"] += sum(one.token_policy_logprobs is None for one in receipt.completions)
        count["prompt_tokens"] += receipt.prompt_tokens or 0
        count["completion_tokens"] += receipt.completion_tokens or 0
        count["without_token_counts"] += receipt.completion_tokens is None
        if receipt.fingerprint is not None:
            self._fingerprints[receipt.fingerprint] += 1
        self._seconds += receipt.seconds
        self._longest = max(self._longest, receipt.seconds)
        self._steps[round(math.log(max(receipt.seconds, _LEAST_S) / _LEAST_S, _STEP))] += 1

    def summed(self) -> Usage:
        count = self._count
        return Usage(
            requests=count["requests"],
            failed_requests=count["failed_requests"],
            attempts=count["attempts"],
            faults=dict(sorted(self._faults.items())),
            completions=count["completions"],
            without_logprobs=count["without_logprobs"],
            prompt_tokens=count["prompt_tokens"],
            completion_tokens=count["completion_tokens"],
            without_token_counts=count["without_token_counts"],
            latency_s=self._latency(),
            system_fingerprints=dict(sorted(self._fingerprints.items())),
        )

    def _latency(self) -> Latency | None:
        answered = self._steps.total()
        if not answered:
            return None
        p50, p90, p99 = (self._percentile(share * answered) for share in (0.5, 0.9, 0.99))
        return Latency(round(self._seconds / answered, 4), p50, p90, p99, round(self._longest, 4))

    def _percentile(self, rank: float) -> float:
        below = 0
        for step, count in sorted(self._steps.items()):
            below += count
            if below >= rank:
                return round(_LEAST_S * _STEP**step, 4)
        raise AssertionError("the last step holds every rank")
