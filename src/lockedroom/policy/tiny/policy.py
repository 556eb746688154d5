"""The embedded model as a policy: prompts in, completions out, and every probability readable."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from lockedroom.errors import BadInput
from lockedroom.policy.limits import check_sampling, fitting_prompt, token_limit
from lockedroom.policy.tiny.model import TinyConfig, TinyModel
from lockedroom.policy.tiny.randomness import SEED_SCHEME
from lockedroom.policy.tiny.sample import Ask, sample, sampled_logprobs
from lockedroom.policy.tiny.steps import TinySteps
from lockedroom.policy.tiny.tokenizer import END, Tokenizer
from lockedroom.policy.tiny.train import hidden_states, pack, read
from lockedroom.policy.tiny.weights import Weights, load_shipped, load_weights, save_weights
from lockedroom.protocols import Prompt, TrainablePolicy, TrainingPass
from lockedroom.records import Completion, PolicySpec, Sampling, TextProbability, Token
from lockedroom.wording import counted

LOGPROB_ROWS = 64  # sequences scored at a time; the shape is fixed, so a score does not depend on its neighbours
LOGPROB_SLOTS = 8  # and padded to a multiple of this length


class TinyPolicy(TrainablePolicy):
    """A transformer, its tokenizer, and what identifies them."""

    def __init__(self, model: TinyModel, tokenizer: Tokenizer, spec: PolicySpec) -> None:
        if model.config.vocabulary != tokenizer.vocabulary:
            raise BadInput(
                f"the network has {counted(model.config.vocabulary, 'token')} and the tokenizer {tokenizer.vocabulary}; "
                "they do not belong together"
            )
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.spec = spec

    @classmethod
    def load(cls, variant: str | Path, *, threads: int = 1) -> TinyPolicy:
        """Load a shipped variant by name or a weights file by path; sets PyTorch's thread count for the process."""
        if threads < 1:
            raise BadInput(f"threads: {threads}; give 1 or more")
        torch.set_num_threads(threads)
        _keep_freed_memory()
        weights = load_shipped(variant) if isinstance(variant, str) else load_weights(variant)
        model = _build(weights, str(variant))
        identity = {
            "weights_sha256": weights.sha256,
            "format": weights.header.format,
            "engine": "lockedroom.policy.tiny",
            "seeds": SEED_SCHEME,
            "torch": str(torch.__version__),
            "threads": threads,
            "instruction_set": torch.backends.cpu.get_cpu_capability(),
            "dtype": "float32",
            "device": "cpu",
        }
        name = variant if isinstance(variant, str) else variant.stem
        return cls(model, Tokenizer(weights.header.tokenizer), PolicySpec(name, "tiny", identity))

    def save(self, path: Path, *, origin: dict[str, Any]) -> str:
        """Write the model in the shipped format and return the file's sha256; `origin` says how it was made."""
        tensors = {name: tensor.detach().cpu().numpy() for name, tensor in self.model.state_dict().items()}
        return save_weights(
            path, tensors, config=msgspec.to_builtins(self.model.config), tokenizer=self.tokenizer.file, origin=origin
        )

    def parameters(self) -> list[nn.Parameter]:
        """Return every weight; the order is that of the file."""
        return list(self.model.parameters())

    def frozen_copy(self) -> TinyPolicy:
        """Return a copy with weights of its own, which ask for no gradients."""
        model = copy.deepcopy(self.model).requires_grad_(False)
        return TinyPolicy(model, self.tokenizer, self.spec)

    def training_pass(
        self,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[Sequence[int]]],
        sampling: Sampling,
    ) -> TrainingPass:
        """Read the completions of each prompt in one packed sequence a prompt (see `train`), with gradients."""
        packed = pack(prompt_ids, completion_ids, self.context)
        return read(self.model, packed, sampling)

    @torch.no_grad()
    def value_features(
        self, prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[Sequence[int]]]
    ) -> Tensor:
        """Return features_NTC: the last hidden state before each token; those outside the completion mean nothing."""
        packed = pack(prompt_ids, completion_ids, self.context)
        return hidden_states(self.model, packed)[packed.state_NT]

    @property
    def context(self) -> int:
        return self.model.config.context

    @property
    def end_id(self) -> int:
        return END

    def tokens(self, text: str) -> list[Token]:
        return self.tokenizer.tokens(text)

    def steps(self) -> TinySteps:
        """Return what token-level search asks for."""
        return TinySteps(self.model, self.tokenizer)

    def completion_probabilities(
        self, prompts: Sequence[str], texts: Sequence[Sequence[str]], sampling: Sampling
    ) -> list[list[TextProbability]]:
        """Return, for every prompt, the probability of each of its texts as a completion (see `exact`)."""
        from lockedroom.policy.tiny.exact import completion_probabilities  # which builds on this module

        return completion_probabilities(self, prompts, texts, sampling)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the canonical ids of a text, without start or end token."""
        return self.tokenizer.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)

    def prompt_ids(self, prompt: str, example_id: str | None = None) -> tuple[int, ...]:
        """Return a prompt's ids, start token included. Raises BadInput for unknown characters and prompts that are too long."""
        return fitting_prompt(
            lambda text: (END, *self.tokenizer.encode(text)),
            prompt,
            context=self.context,
            included="start token",
            example_id=example_id,
        )

    def token_limit(self, prompt: Sequence[int], sampling: Sampling) -> int:
        """Return how many tokens a completion may have, end token included: `max_tokens`, or what the context leaves."""
        return token_limit(self.context, prompt, sampling)

    def complete(
        self, prompts: Sequence[Prompt], draws: range, sampling: Sampling, *, step: int = 0
    ) -> Iterator[Completion]:
        """Yield completions, prompt by prompt and draw by draw; every prompt and setting is checked before the first.

        `step` is that of a learning run: other random numbers for the same seed, example and draw.
        """
        check_sampling(sampling)
        asks: list[Ask] = []
        for prompt in prompts:
            ids = self.prompt_ids(prompt.prompt, prompt.id)
            limit = self.token_limit(ids, sampling)
            asks += [Ask(prompt.id, draw, ids, limit) for draw in draws]
        return sample(self.model, self.tokenizer, asks, sampling, step=step)

    @torch.inference_mode()
    def logprobs(
        self,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        sampling: Sampling | None = None,
    ) -> list[tuple[float, ...]]:
        """Return the log-probability, in nats, of every completion token, by one full forward pass a sequence.

        Without `sampling` it is the policy's own (temperature 1, nothing truncated); with it, of the distribution that
        is sampled from. Equal to what sampling recorded up to float32 rounding (tolerance 2e-5 in the tests).
        """
        settings = sampling or Sampling()
        check_sampling(settings)
        sequences = [(*prompt, *completion) for prompt, completion in zip(prompt_ids, completion_ids, strict=True)]
        by_length: dict[int, list[int]] = {}
        for i, ids in enumerate(sequences):
            if len(ids) > self.context:
                raise BadInput(
                    f"sequence {i}: {counted(len(ids), 'token exceeds', 'tokens exceed')} this policy's context of {self.context}"
                )
            padded = min(-(-len(ids) // LOGPROB_SLOTS) * LOGPROB_SLOTS, self.context)
            by_length.setdefault(padded, []).append(i)
        found: dict[int, tuple[float, ...]] = {}
        for length, members in by_length.items():
            for start in range(0, len(members), LOGPROB_ROWS):
                rows = members[start : start + LOGPROB_ROWS]
                logprobs = self._full_logprobs([sequences[i] for i in rows], length, settings)
                for i, logprobs_S in zip(rows, logprobs, strict=False):
                    found[i] = tuple(logprobs_S[len(prompt_ids[i]) - 1 : len(sequences[i]) - 1])
        return [found[i] for i in range(len(sequences))]

    def _full_logprobs(self, rows: list[tuple[int, ...]], length: int, sampling: Sampling) -> list[list[float]]:
        tokens_BT = torch.zeros(LOGPROB_ROWS, length, dtype=torch.long)
        for row, ids in enumerate(rows):
            tokens_BT[row, : len(ids)] = torch.tensor(ids)
        tokens_BT = tokens_BT.to(self.model.wte.device)
        logits_NV = self.model(tokens_BT)[:, :-1].flatten(0, 1)
        logprobs_NV = sampled_logprobs(logits_NV, sampling)
        logprobs_BS = logprobs_NV.gather(-1, tokens_BT[:, 1:].reshape(-1, 1)).view(LOGPROB_ROWS, length - 1)
        values: list[list[float]] = logprobs_BS.tolist()
        return values


def _keep_freed_memory() -> None:
    """Make glibc reuse freed blocks: freeing one large block raises its mmap and trim thresholds (see mallopt(3)).

    Otherwise a sixth of the sampling time goes into page faults. The block is never touched, so it costs no memory.
    """
    block = torch.empty(31 * 2**20, dtype=torch.uint8)
    del block


def _build(weights: Weights, name: str) -> TinyModel:
    try:
        model = TinyModel(TinyConfig(**weights.header.config))
        model.load_state_dict({key: torch.from_numpy(tensor.copy()) for key, tensor in weights.tensors.items()})
    except (TypeError, RuntimeError) as error:
        raise BadInput(
            f"{name}: the tensors do not fit the shape in the header: {str(error).splitlines()[0]}"
        ) from None
    return model
