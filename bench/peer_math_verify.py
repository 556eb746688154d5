"""math-verify over recorded completions, the way its README shows: parse the gold, parse the answer, verify.

Run by the environment of the bench: `bench/.venv-peers/bin/python bench/peer_math_verify.py DATASET COMPLETIONS`.
"""

from __future__ import annotations

import json
import logging
import sys

from math_verify import parse, verify  # type: ignore[import-not-found]  # lives in the bench's own environment


def main(dataset: str, completions: str) -> None:
    logging.disable()  # it warns of every completion that it cannot parse
    passed = count = 0
    with open(dataset, encoding="utf-8") as examples, open(completions, encoding="utf-8") as drawn:
        for example, row in zip(examples, drawn, strict=True):
            gold = parse(str(json.loads(example)["expected_answer"]))
            answer = parse(json.loads(row)["completion"])
            passed += verify(gold, answer)
            count += 1
    print(passed / count)


if __name__ == "__main__":
    main(*sys.argv[1:])
