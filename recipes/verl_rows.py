"""Examples of ours as the Parquet rows that verl reads: python recipes/verl_rows.py EXAMPLES OUT.parquet"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from lockedroom.dataset.load import read_examples


def main(source: Path, out: Path) -> None:
    """Write one row an example: a chat of one user message, and the answer as text."""
    rows = [
        {
            "data_source": "lockedroom",
            "prompt": [{"role": "user", "content": example.prompt}],
            "reward_model": {"style": "rule", "ground_truth": str(example.expected_answer)},
            "extra_info": {"index": index, "id": example.id},
        }
        for index, example in enumerate(example for batch in read_examples(source) for example in batch)
    ]
    pq.write_table(pa.Table.from_pylist(rows), out)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
