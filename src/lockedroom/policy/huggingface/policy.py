"""A Hugging Face causal language model as a policy: prompts in, completions out, probabilities readable, weights trainable."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from lockedroom.errors import BadInput, CannotWrite
from lockedroom.policy.huggingface import training
from lockedroom.policy.huggingface.forward import WHOLE_STEP, completion_logits, rows_read_at_once, slots_of
from lockedroom.policy.huggingface.sample import sample
from lockedroom.policy.huggingface.source import ADAPTER_WEIGHTS, SAVED, Saved
from lockedroom.policy.huggingface.steps import HuggingFaceSteps
from lockedroom.policy.huggingface.text import TextCodec
from lockedroom.policy.limits import check_sampling, fitting_prompt, token_limit
from lockedroom.policy.tiny.sample import Ask, sampled_logprobs
from lockedroom.policy.tiny.train import pack
from lockedroom.protocols import Prompt, TrainablePolicy, TrainingPass
from lockedroom.records import Completion, PolicySpec, Sampling, TextProbability, Token
from lockedroom.visible import visible
from lockedroom.wording import counted

FORMAT = 1


class HuggingFacePolicy(TrainablePolicy):
    """A network, its tokenizer and template, and what identifies them. `base`: where the weights come from, and their sha256."""

    def __init__(self, model: Any, codec: TextCodec, spec: PolicySpec, *, batch: int, base: tuple[str, str]) -> None:
        self.model = model
        self.codec = codec
        self.spec = spec
        # Of an odd number of rows the last is multiplied by another kernel: what it gets would depend on its place.
        self.batch = batch + batch % 2 if batch > 1 else batch
        self.base = base
        self._context = _context(model, codec)

    @property
    def vocabulary(self) -> int:
        """How many tokens the network knows."""
        return vocabulary_of(self.model)

    @property
    def context(self) -> int:
        return self._context

    @property
    def end_id(self) -> int:
        return self.codec.end_ids[0]

    @property
    def end_ids(self) -> tuple[int, ...]:
        return self.codec.end_ids

    def tokens(self, text: str) -> list[Token]:
        return self.codec.tokens(text)

    def encode(self, text: str) -> tuple[int, ...]:
        return self.codec.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self.codec.decode(ids)

    def prompt_ids(self, prompt: str, example_id: str | None = None) -> tuple[int, ...]:
        """Return a prompt's ids, template included. Raises BadInput for prompts that cannot be rendered or are too long."""
        return fitting_prompt(
            lambda text: self._known(self.codec.prompt_ids(text)),
            prompt,
            context=self.context,
            included="template",
            example_id=example_id,
        )

    def _known(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """Return the ids, all of which the network knows; a tokenizer may have more tokens than its model."""
        vocabulary = self.vocabulary
        beyond = next((i for i in ids if i >= vocabulary), None)
        if beyond is not None:
            token = visible(str(self.codec.tokenizer.convert_ids_to_tokens(beyond)), 60)
            raise BadInput(
                f"holds the token {token} (id {beyond}), which the tokenizer has and the model, with {vocabulary:,} tokens, does "
                "not; resize the model's vocabulary, or restore its own tokenizer"
            )
        return ids

    def token_limit(self, prompt: Sequence[int], sampling: Sampling) -> int:
        """Return how many tokens a completion may have, end token included: `max_tokens`, or what the context leaves."""
        return token_limit(self.context, prompt, sampling)

    def complete(
        self, prompts: Sequence[Prompt], draws: range, sampling: Sampling, *, step: int = 0
    ) -> Iterator[Completion]:
        """Yield completions, prompt by prompt and draw by draw; every prompt and setting is checked before the first."""
        check_sampling(sampling)
        asks: list[Ask] = []
        for prompt in prompts:
            ids = self.prompt_ids(prompt.prompt, prompt.id)
            limit = self.token_limit(ids, sampling)
            asks += [Ask(prompt.id, draw, ids, limit) for draw in draws]
        return sample(self.model, self.codec, asks, sampling, step=step, batch=self.batch)

    @torch.inference_mode()
    def logprobs(
        self,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        sampling: Sampling | None = None,
    ) -> list[tuple[float, ...]]:
        """Return the log-probability, in nats, of every completion token, by one forward pass over the whole sequence.

        Without `sampling` it is the policy's own (temperature 1, nothing truncated); with it, of the distribution that
        is sampled from. Equal to what sampling recorded up to rounding (tolerance 5e-5 in float32 in the tests).
        """
        settings = sampling or Sampling()
        check_sampling(settings)
        by_shape: dict[tuple[int, int], list[int]] = {}
        for i, (prompt, completion) in enumerate(zip(prompt_ids, completion_ids, strict=True)):
            length = len(prompt) + len(completion)
            if length > self.context:
                raise BadInput(
                    f"sequence {i}: {counted(length, 'token exceeds', 'tokens exceed')} this policy's context of {self.context}"
                )
            self._known((*prompt, *completion))
            if completion:
                keep = 1 << (len(completion) - 1).bit_length()
                by_shape.setdefault((max(slots_of(length, WHOLE_STEP), keep + 1), keep), []).append(i)
        found: list[tuple[float, ...]] = [()] * len(completion_ids)
        for (slots, keep), members in by_shape.items():
            for start in range(0, len(members), rows_read_at_once(keep)):
                rows = members[start : start + rows_read_at_once(keep)]
                whole = [(*prompt_ids[i], *completion_ids[i]) for i in rows]
                logits_RSV = completion_logits(self.model, whole, slots, keep)
                for i, logits_SV in zip(rows, logits_RSV, strict=True):
                    ids = completion_ids[i]
                    logprobs_SV = sampled_logprobs(logits_SV[-len(ids) :], settings)
                    chosen = torch.tensor(ids, device=logits_SV.device)[:, None]
                    found[i] = tuple(logprobs_SV.gather(-1, chosen)[:, 0].tolist())
        return found

    def steps(self) -> HuggingFaceSteps:
        """Return what token-level search asks for. Raises BadInput for a tokenizer that is not byte-level."""
        return HuggingFaceSteps(self.model, self.codec, self.batch)

    def completion_probabilities(
        self, prompts: Sequence[str], texts: Sequence[Sequence[str]], sampling: Sampling
    ) -> list[list[TextProbability]]:
        """Return, for every prompt, the probability of each of its texts as a completion (see `exact`)."""
        from lockedroom.policy.huggingface.exact import completion_probabilities  # which builds on this module

        return completion_probabilities(self, prompts, texts, sampling)

    def parameters(self) -> list[nn.Parameter]:
        """Return what asks for gradients: the adapter's weights where there is one, else all."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def frozen_copy(self) -> HuggingFacePolicy:
        """Return a copy without gradients; beside an adapter, only the adapter is copied and the base is shared."""
        shared = {id(p): p for p in self.model.parameters() if not p.requires_grad}
        shared |= {id(buffer): buffer for buffer in self.model.buffers()}
        model = copy.deepcopy(self.model, shared).requires_grad_(False).eval()
        return HuggingFacePolicy(model, self.codec, self.spec, batch=self.batch, base=self.base)

    def training_pass(
        self,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[Sequence[int]]],
        sampling: Sampling,
    ) -> TrainingPass:
        """Read the completions of each prompt in one packed sequence a prompt (see `training`), with gradients."""
        packed = pack(prompt_ids, completion_ids, self.context)
        return training.read(self.model, packed, sampling)

    def value_features(
        self, prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[Sequence[int]]]
    ) -> Tensor:
        """Return features_NTC: the last hidden state before each token; those outside the completion mean nothing."""
        return training.features(self.model, pack(prompt_ids, completion_ids, self.context))

    def save(self, path: Path, *, origin: dict[str, Any]) -> str:
        """Write weights and tokenizer to a folder that `hf:FOLDER` opens; return the sha256 of the weights.

        Of a policy with an adapter only the adapter is written, and where its base was. Raises CannotWrite for a folder
        that holds something already.
        """
        if path.exists() and any(path.iterdir()):
            raise CannotWrite(f"{path}: is not empty; save the policy to a new folder")
        adapted = hasattr(self.model, "peft_config")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of peft, about what it saves beside an adapter
                self.model.save_pretrained(path)
            self.codec.tokenizer.save_pretrained(path)
            template = "chat" if self.codec.chat else "plain"
            base, base_sha256 = self.base if adapted else (None, None)
            saved = Saved(FORMAT, origin, template, base, base_sha256)
            (path / SAVED).write_bytes(msgspec.json.format(msgspec.json.encode(saved), indent=2) + b"\n")
        except OSError as error:
            raise CannotWrite(f"{path}: cannot be written: {error.strerror or error}") from None
        return files_sha256([path / ADAPTER_WEIGHTS] if adapted else sorted(path.glob("*.safetensors")))


def files_sha256(files: Sequence[Path]) -> str:
    """Return the sha256 of one file, or of the sha256 and names of several, as `sha256sum` lists them."""
    digests = []
    for file in files:
        with file.open("rb") as stream:
            digests.append((file.name, hashlib.file_digest(stream, "sha256").hexdigest()))
    if len(digests) == 1:
        return digests[0][1]
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in digests).encode()).hexdigest()


def vocabulary_of(model: Any) -> int:
    """Return how many tokens a network knows."""
    return int(model.get_input_embeddings().weight.shape[0])


_LENGTHS = ("max_position_embeddings", "max_seq_len", "seq_length")  # the latter two in MPT and Bloom


def _context(model: Any, codec: TextCodec) -> int:
    """Return how long a sequence may be.

    Rotations scaled by `longrope` are others for all tokens of a sequence, and of those beside it, once it exceeds the length that the model was
    first trained with: there a token's probability would depend on what comes later.
    """
    config = model.config.get_text_config()
    named = (getattr(config, name, None) for name in _LENGTHS)
    found = next((length for length in named if length), codec.tokenizer.model_max_length)
    if not 0 < found < 10**9:  # tokenizers without a limit say 10**30
        raise BadInput(f"{codec.where}: neither its config.json nor its tokenizer says how long a context may be; add "
                       "max_position_embeddings")  # fmt: skip
    rotations = getattr(config, "rope_parameters", None) or {}
    if rotations.get("rope_type") == "longrope":
        found = min(found, rotations["original_max_position_embeddings"])
    return int(found)
