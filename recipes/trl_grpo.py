"""Learning at scale with TRL: our exported reward function, and a run folder of everything it judged.

    lockedroom export scorer --to trl --out reward.py
    python recipes/trl_grpo.py --model MODEL --dataset train.jsonl --reward reward.py --out runs/grpo

On several devices: `accelerate launch recipes/trl_grpo.py ...`. Every process writes what it judged to a file of its own on
a disk that all of them share, beside `--out`; when training ends, the first process makes the run. Then, as for any run:

    lockedroom verify runs/grpo
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder or a hub name")
    parser.add_argument("--dataset", required=True, type=Path, help="examples: anything that lockedroom reads")
    parser.add_argument("--reward", required=True, type=Path, help="what `lockedroom export scorer --to trl` wrote")
    parser.add_argument("--out", required=True, type=Path, help="the run folder to write")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--generations", type=int, default=8, help="completions a prompt")
    parser.add_argument("--batch", type=int, default=8, help="completions a device and step")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    parser.add_argument("--beta", type=float, default=0.02, help="weight of the KL to the reference policy")
    parser.add_argument("--cpu", action="store_true", help="train on the CPU, in float32")
    train(parser.parse_args())


def train(args: argparse.Namespace) -> None:
    """Train; the weights go to `<out>.trl`, the evidence to `out`."""
    from datasets import Dataset  # type: ignore[import-not-found,unused-ignore]
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[import-not-found,unused-ignore]

    from lockedroom.dataset.load import read_examples

    examples = [example for batch in read_examples(args.dataset) for example in batch]
    answers = [example.expected_answer for example in examples]
    texts = all(isinstance(answer, str) for answer in answers)
    if not texts and not all(type(answer) is int and abs(answer) < 2**63 for answer in answers):
        raise SystemExit(
            f"{args.dataset}: a column holds texts alone, or integers of 64 bits alone; write every expected_answer as text"
        )
    rows = [
        {"id": example.id, "prompt": example.prompt, "expected_answer": example.expected_answer} for example in examples
    ]
    reward = load(args.reward)
    trainer = GRPOTrainer(
        model=args.model,
        reward_funcs=reward.reward_func,
        args=GRPOConfig(
            output_dir=f"{args.out}.trl",
            max_steps=args.steps,
            num_generations=args.generations,
            per_device_train_batch_size=args.batch,
            max_completion_length=args.max_tokens,
            learning_rate=args.learning_rate,
            beta=args.beta,
            log_completions=True,
            report_to=[],
            use_cpu=args.cpu,
            bf16=not args.cpu,
        ),
        train_dataset=Dataset.from_list(rows),
        callbacks=[reward.run_folder_callback(args.out)],
    )
    trainer.train()
    trainer.save_model()


def load(path: Path) -> Any:
    """Import the exported file; it refuses when the scorer is not the one that was exported."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
