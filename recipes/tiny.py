"""Make the embedded models: problems, splits, corpus, tokenizer, training, weights. Read top to bottom.

    python recipes/tiny.py --variant tiny --out tiny.safetensors      one model (about 40 s on one core)
    python recipes/tiny.py --datasets FOLDER                          train.jsonl, dev.jsonl, holdout.jsonl

Everything is drawn from seeds; on the instruction set, thread count and PyTorch version that `recipes/README.md` records
the file has the hash that the package ships. Shape letters: B sequences, T positions, S = T - 1 next tokens.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor

from lockedroom.jsonl import encode_lines
from lockedroom.policy.tiny.model import TinyConfig, TinyModel
from lockedroom.policy.tiny.tokenizer import END, Tokenizer, TokenizerFile, apply_merges, train_tokenizer
from lockedroom.policy.tiny.weights import save_weights

TEMPLATE = "Compute {a}{op}{b}. Output exactly one line: Final: <int>"
LARGEST_OPERAND = 99
HELD_OUT_SHARE = 0.15
EXPORTED = {"train": 2000, "dev": 500, "holdout": 500}
MERGES = 60
BATCH = 128

Split = Literal["train", "dev", "holdout"]


class Variant(msgspec.Struct, frozen=True):
    """What one model is trained on, and for how long."""

    steps: int
    strict_share: float = 0.45  # targets in the strict format
    wrong_share: float = 0.12  # targets with a wrong number
    hedged_share: float = 0.0  # targets like "Final: 41 or 42"
    odd_token_share: float = 0.03  # targets whose tokenisation is not the canonical one
    seed: int = 0


VARIANTS = {
    "tiny": Variant(steps=900),
    "tiny-weak": Variant(steps=265),
    "tiny-hedge": Variant(steps=900, hedged_share=0.06),
}

# The strict format comes first; the others share what it leaves. "Final: N\n" is strict too.
STRICT = ("Final: {n}", "Final: {n}\n")
NEWLINE_SHARE = 1 / 15
OTHER_FORMATS = (
    "Final:{n}",
    "final: {n}",
    "FINAL: {n}",
    "Final:  {n}",
    "Final: {n}.",
    "Answer: {n}",
    "The answer is {n}",
    "{n}",
)
HEDGED = "Final: {n} or {m}"
SLIPS = (-10, -2, -1, 1, 2, 10)


class Problem(msgspec.Struct, frozen=True, gc=False):
    """a + b or a - b; its split depends on the two operands as a set, so 3+5, 5+3 and 5-3 fall together."""

    a: int
    b: int
    op: str

    @property
    def answer(self) -> int:
        return self.a + self.b if self.op == "+" else self.a - self.b

    @property
    def prompt(self) -> str:
        return TEMPLATE.format(a=self.a, b=self.b, op=self.op)

    @property
    def id(self) -> str:
        return f"{'add' if self.op == '+' else 'sub'}-{self.a}-{self.b}"

    @property
    def split(self) -> Split:
        place = _place("split", min(self.a, self.b), max(self.a, self.b))
        if place >= HELD_OUT_SHARE:
            return "train"
        return "dev" if place < HELD_OUT_SHARE / 2 else "holdout"


def _place(*key: object) -> float:
    """Return a number in [0, 1) that belongs to a key."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8, person=b"tiny-recipe").digest()
    return int.from_bytes(digest, "big") / 2**64


def all_problems() -> list[Problem]:
    """Return every problem: sums in both orders, differences that are not negative."""
    operands = range(LARGEST_OPERAND + 1)
    sums = [Problem(a, b, "+") for a in operands for b in operands]
    return sums + [Problem(a, b, "-") for a in operands for b in operands if a >= b]


def write_datasets(folder: Path) -> None:
    """Write the three splits. Within and across files no two problems are equal up to commutation."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in EXPORTED.items():
        chosen: dict[tuple[str, int, int], Problem] = {}
        for problem in sorted(all_problems(), key=lambda p: _place("export", p.id)):
            if problem.split == split:
                chosen.setdefault((problem.op, *sorted((problem.a, problem.b))), problem)  # type: ignore[arg-type]
        rows = [{"id": p.id, "prompt": p.prompt, "expected_answer": p.answer} for p in list(chosen.values())[:count]]
        (folder / f"{split}.jsonl").write_bytes(encode_lines(rows))
        print(f"{folder / split}.jsonl: {len(rows)} of {len(chosen)}")


def target(answer: int, variant: Variant, rng: np.random.Generator) -> str:
    """Draw what the model is shown as a completion: the right number in a house format, often not."""
    u_hedge, u_wrong, u_strict, u_newline = rng.random(4)
    slip = int(rng.choice(SLIPS))
    if u_hedge < variant.hedged_share:
        pair = (answer, answer + slip) if u_wrong < 0.5 else (answer + slip, answer)
        return HEDGED.format(n=pair[0], m=pair[1])
    n = answer + slip if u_wrong < variant.wrong_share else answer
    if u_strict < variant.strict_share:
        return STRICT[int(u_newline < NEWLINE_SHARE)].format(n=n)
    return OTHER_FORMATS[int(rng.integers(len(OTHER_FORMATS)))].format(n=n)


def make_tokenizer() -> TokenizerFile:
    """Train the tokenizer that all variants share, on prompts with all kinds of completions."""
    rng = np.random.default_rng(0)
    corpus: list[str] = []
    for problem in all_problems()[::5]:
        corpus += [problem.prompt, target(problem.answer, VARIANTS["tiny-hedge"], rng)]
    return train_tokenizer(corpus, MERGES)


def odd_encode(tokenizer: Tokenizer, text: str, rng: np.random.Generator) -> tuple[int, ...]:
    """Encode with each merge left out with probability 1/4 (BPE-dropout, Provilkov et al. 2020)."""
    kept = [pair for pair in tokenizer.file.merges if rng.random() >= 0.25]
    rank = {pair: i for i, pair in enumerate(kept)}
    return tuple(tokenizer.id_of[piece] for piece in apply_merges(text, rank))


def batches(variant: Variant, tokenizer: Tokenizer) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield tokens_BT and completion_BS: which next tokens belong to a completion (its end token included)."""
    rng = np.random.default_rng([variant.seed, 1])
    problems = [p for p in all_problems() if p.split == "train"]
    prompts = [(END, *tokenizer.encode(p.prompt)) for p in problems]
    order = np.empty(0, dtype=np.int64)
    while True:
        if len(order) < BATCH:
            order = np.concatenate([order, rng.permutation(len(problems))])
        chosen, order = order[:BATCH], order[BATCH:]
        rows: list[tuple[int, tuple[int, ...]]] = []
        for i in chosen:
            text = target(problems[i].answer, variant, rng)
            odd = rng.random() < variant.odd_token_share
            ids = odd_encode(tokenizer, text, rng) if odd else tokenizer.encode(text)
            rows.append((len(prompts[i]), (*prompts[i], *ids, END)))
        longest = max(len(ids) for _, ids in rows)
        tokens_BT = torch.zeros(BATCH, longest, dtype=torch.long)
        completion_BS = torch.zeros(BATCH, longest - 1)
        for row, (prompt_length, ids) in enumerate(rows):
            tokens_BT[row, : len(ids)] = torch.tensor(ids)
            completion_BS[row, prompt_length - 1 : len(ids) - 1] = 1
        yield tokens_BT, completion_BS


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix updates are orthogonalised (Jordan et al. 2024), in float32.

    PyTorch's own runs in bfloat16 and came with 2.9; ours keeps the recipe's arithmetic in one place.
    """

    def __init__(self, parameters: Sequence[Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # no closure is used
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonalised(parameter.grad.lerp(momentum, group["momentum"]))
                rows, columns = parameter.shape
                parameter.add_(update, alpha=-group["lr"] * math.sqrt(max(1, columns / rows)))


def orthogonalised(matrix: Tensor) -> Tensor:
    """Return roughly the nearest orthogonal matrix: five Newton-Schulz steps with Jordan's quintic coefficients."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def train(variant: Variant, tokenizer: Tokenizer) -> TinyModel:
    """Train one model: loss on the completion only, learning rates warmed up over 20 steps and decayed to 0."""
    model = TinyModel(TinyConfig(tokenizer.vocabulary))
    model.initialise(torch.Generator().manual_seed(variant.seed))
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and name.startswith("h.")]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and name.startswith("h."))]
    optimizers = [
        (Muon(matrices, lr=0.015), 0.015),
        (torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0), 3e-3),
    ]
    source = batches(variant, tokenizer)
    for step in range(variant.steps):
        scale = min(1.0, (step + 1) / 20) * (1 - step / variant.steps)
        tokens_BT, completion_BS = next(source)
        logprobs_BSV = torch.log_softmax(model(tokens_BT)[:, :-1], -1)
        loss_BS = -logprobs_BSV.gather(-1, tokens_BT[:, 1:, None])[..., 0]
        loss = (loss_BS * completion_BS).sum() / completion_BS.sum()
        model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        for optimizer, rate in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * scale
            optimizer.step()
        if step % 100 == 0 or step == variant.steps - 1:
            print(f"step {step:4d}  loss {loss.item():.4f} nats a token", flush=True)
    return model


def origin(name: str, variant: Variant, threads: int) -> dict[str, Any]:
    """Return what the hash of the weights depends on."""
    return {
        "recipe": "recipes/tiny.py",
        "variant": name,
        **msgspec.to_builtins(variant),
        "batch": BATCH,
        "threads": threads,
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=VARIANTS, default="tiny")
    parser.add_argument("--out", type=Path, help="the weights file to write")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--datasets", type=Path, metavar="FOLDER", help="write the three splits here")
    arguments = parser.parse_args()
    if arguments.datasets:
        write_datasets(arguments.datasets)
    if not arguments.out:
        return
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    started = time.process_time()
    variant = VARIANTS[arguments.variant]
    tokenizer = Tokenizer(make_tokenizer())
    model = train(variant, tokenizer)
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    sha256 = save_weights(
        arguments.out,
        tensors,
        config=msgspec.to_builtins(model.config),
        tokenizer=tokenizer.file,
        origin=origin(arguments.variant, variant, arguments.threads),
    )
    print(
        f"{arguments.out}: {arguments.out.stat().st_size} bytes, sha256 {sha256}, "
        f"{time.process_time() - started:.0f} CPU-s"
    )


if __name__ == "__main__":
    main()
