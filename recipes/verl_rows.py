"""Examples of ours as the Parquet rows that verl reads: python recipes/verl_rows.py EXAMPLES OUT.parquet

Expected answers stay what they are, texts or integers; those that do not fit a column of one kind are refused.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from lockedroom.dataset.load import read_examples
from lockedroom.errors import BadInput


def main(source: Path, out: Path) -> None:
    """Write one row an example: a chat of one user message, and the answer."""
    examples = [example for batch in read_examples(source) for example in batch]
    answers = [example.expected_answer for example in examples]
    texts = all(isinstance(answer, str) for answer in answers)
    if not texts and not all(type(answer) is int and abs(answer) < 2**63 for answer in answers):
        raise BadInput(
            f"{source}: a column holds texts alone, or integers of 64 bits alone; write every expected_answer as text"
        )
    rows = [
        {
            "data_source": "lockedroom",
            "prompt": [{"role": "user", "content": example.prompt}],
            "reward_model": {"style": "rule", "ground_truth": example.expected_answer},
            "extra_info": {"index": index, "id": example.id},
        }
        for index, example in enumerate(examples)
    ]
    pq.write_table(pa.Table.from_pylist(rows), out)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except (BadInput, OSError) as error:
        sys.exit(str(error))
