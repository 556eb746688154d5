"""A softmax over tables: the smallest policy that can be trained, with every completion listable.

The vocabulary is the end token (id 0) and a few actions; the state is (prompt, all tokens so far), and each state has its
own row of logits in float64, so a gradient can be checked by hand. Two kinds of ending:

- `free_end=False`: exactly `length` actions, then an end token that is certain (probability 1, no parameters, no gradient);
- `free_end=True`: an end token may be sampled anywhere; after `length` tokens without one a completion is truncated.

A prompt is one token, whose id stands behind the vocabulary; only the prompts the table was made for can be asked.
Sampling is seeded as the embedded model's: a completion depends on (seed, step, example id, draw) alone.
Shape letters: N completions, T tokens of a completion, V vocabulary, S states with parameters, R rows of the table.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
import torch
from torch import Tensor, nn

from lockedroom.errors import BadInput
from lockedroom.policy.limits import check_sampling
from lockedroom.policy.tiny.randomness import TOKENS_PER_HASH, uniforms
from lockedroom.policy.tiny.sample import choose, first_stop, sampled_logprobs
from lockedroom.protocols import Prompt, TrainablePolicy, TrainingPass
from lockedroom.records import Completion, FinishReason, PolicySpec, Sampling, TextProbability, Token
from lockedroom.wording import counted

END = 0
FORMAT = "lockedroom.tabular/1"
MAX_PARAMETERS = 2_000_000
# The logit of what can never happen: exp() of it is exactly 0, and unlike −inf it makes no NaN in a KL over the vocabulary.
NEVER = -1e9


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a table is for: its prompts, its actions, how many tokens a completion may have before it ends."""

    prompts: tuple[str, ...]
    actions: tuple[str, ...]
    length: int
    free_end: bool = False

    @property
    def vocabulary(self) -> int:
        return len(self.actions) + 1

    @property
    def states(self) -> int:
        """Prefixes of one prompt that have logits: Σ_{d < length} actions^d."""
        return sum(len(self.actions) ** depth for depth in range(self.length))


class TabularPolicy(TrainablePolicy):
    """Tables of logits. `logits_SV` starts at 0 (uniform) unless given; set it with `set_logits`."""

    def __init__(self, shape: Shape, *, name: str = "tabular") -> None:
        _check_shape(shape)
        self.shape = shape
        self.pieces = ("", *shape.actions)
        rows = len(shape.prompts) * shape.states
        self.logits_SV = nn.Parameter(torch.zeros(rows, shape.vocabulary, dtype=torch.float64))
        self.spec = PolicySpec(
            name, "tabular", {**msgspec.to_builtins(shape), "dtype": "float64", "torch": str(torch.__version__)}
        )
        self._id_of = {action: i + 1 for i, action in enumerate(shape.actions)}
        self._prompt_of = {prompt: i for i, prompt in enumerate(shape.prompts)}

    @property
    def end_id(self) -> int:
        return END

    @property
    def context(self) -> int:
        """The prompt is one token; a certain end is one more."""
        return 1 + self.shape.length + (not self.shape.free_end)

    @torch.no_grad()
    def set_logits(self, prompt: str, prefix: Sequence[int], logits: Sequence[float]) -> None:
        """Set one state's logits: of the end token (`free_end` only), then of every action."""
        row_V = [*logits] if self.shape.free_end else [0.0, *logits]
        if len(row_V) != self.shape.vocabulary:
            raise BadInput(
                f"prompt {prompt!r}: {counted(len(logits), 'logit')} for {counted(len(self.shape.actions), 'action')}"
            )
        self.logits_SV[self.state(self.prompt_ids(prompt), prefix)] = torch.tensor(row_V, dtype=torch.float64)

    def state(self, prompt_ids: Sequence[int], prefix: Sequence[int]) -> int:
        """Return the row that decides the next token; the last row of `table` is the certain end."""
        (prompt_id,) = prompt_ids
        A, depth = len(self.shape.actions), len(prefix)
        if depth >= self.shape.length or END in prefix:
            return len(self.logits_SV)
        row = 0
        for token in prefix:
            row = row * A + (token - 1)
        before = sum(int(A**d) for d in range(depth))
        return (prompt_id - self.shape.vocabulary) * self.shape.states + before + row

    def table(self) -> Tensor:
        """Return logits_RV with gradients: one row a state, then the row of the certain end."""
        certain_1V = torch.full((1, self.shape.vocabulary), NEVER, dtype=torch.float64)
        certain_1V[0, END] = 0.0
        if self.shape.free_end:
            return torch.cat((self.logits_SV, certain_1V))
        never_S1 = torch.full((len(self.logits_SV), 1), NEVER, dtype=torch.float64)
        return torch.cat((torch.cat((never_S1, self.logits_SV[:, 1:]), 1), certain_1V))

    def prompt_ids(self, prompt: str) -> tuple[int, ...]:
        if prompt not in self._prompt_of:
            known = ", ".join(repr(one) for one in self.shape.prompts[:5])
            raise BadInput(f"prompt {prompt!r}: this table was made for {known}; it knows no others")
        return (self.shape.vocabulary + self._prompt_of[prompt],)

    def tokens(self, text: str) -> list[Token]:
        """Return the canonical tokens of a text: at each place the longest action that fits."""
        tokens: list[Token] = []
        start = 0
        while start < len(text):
            fits = [action for action in self.shape.actions if text.startswith(action, start)]
            if not fits:
                raise BadInput(f"{text!r}: no action of this table begins at position {start}")
            piece = max(fits, key=len)
            tokens.append(Token(self._id_of[piece], piece, start, start + len(piece)))
            start += len(piece)
        return tokens

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(token.id for token in self.tokens(text))

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.pieces[i] for i in ids)

    def complete(
        self, prompts: Sequence[Prompt], draws: range, sampling: Sampling, *, step: int = 0
    ) -> Iterator[Completion]:
        """Yield completions, prompt by prompt and draw by draw; every prompt and setting is checked before the first."""
        check_sampling(sampling)
        asked = [self.prompt_ids(prompt.prompt) for prompt in prompts]
        limit = self._token_limit(sampling)
        keys = [(prompt.id, draw) for prompt in prompts for draw in draws]
        prompt_N = [ids for ids in asked for _ in draws]
        return iter(self._sample(keys, prompt_N, limit, sampling, step))

    def _token_limit(self, sampling: Sampling) -> int:
        room = self.context - 1
        if sampling.max_tokens is not None and sampling.max_tokens > room:
            raise BadInput(f"max_tokens: {sampling.max_tokens} exceeds this table's {room}; give at most that, or none")
        return sampling.max_tokens or room

    @torch.inference_mode()
    def _sample(
        self,
        keys: Sequence[tuple[str, int]],
        prompt_N: Sequence[tuple[int, ...]],
        limit: int,
        sampling: Sampling,
        step: int,
    ) -> list[Completion]:
        table_RV = self.table()
        ids: list[list[int]] = [[] for _ in keys]
        sampled: list[list[float]] = [[] for _ in keys]
        own: list[list[float]] = [[] for _ in keys]
        cuts: dict[int, int] = {}
        live = list(range(len(keys)))
        for t in range(limit):
            if not live:
                break
            if t % TOKENS_PER_HASH == 0:
                uniform_NT = uniforms(sampling.seed, step, keys, t // TOKENS_PER_HASH)
            row_N = torch.tensor([self.state(prompt_N[n], ids[n]) for n in live])
            uniform_N = torch.from_numpy(uniform_NT[live, t % TOKENS_PER_HASH])
            drawn = (column.tolist() for column in choose(table_RV, row_N, uniform_N, sampling))
            for n, token, logprob, policy_logprob in zip(live, *drawn, strict=True):
                ids[n].append(token)
                sampled[n].append(logprob)
                own[n].append(policy_logprob)
                cut = first_stop(self.decode(ids[n]), sampling.stop)
                if cut is not None:
                    cuts[n] = cut
            live = [n for n in live if ids[n][-1] != END and n not in cuts]
        truncated = set(live)
        return [
            Completion(
                self.decode(ids[n])[: cuts.get(n)],
                logprob=math.fsum(sampled[n]),
                finish_reason=FinishReason.LENGTH if n in truncated else FinishReason.STOP,
                token_ids=tuple(ids[n]),
                token_logprobs=tuple(sampled[n]),
                token_policy_logprobs=tuple(own[n]),
            )
            for n in range(len(keys))
        ]

    @torch.inference_mode()
    def logprobs(
        self,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        sampling: Sampling | None = None,
    ) -> list[tuple[float, ...]]:
        settings = sampling or Sampling()
        check_sampling(settings)
        logprobs_RV = sampled_logprobs(self.table(), settings)
        found = []
        for prompt, ids in zip(prompt_ids, completion_ids, strict=True):
            rows = [self.state(prompt, ids[:t]) for t in range(len(ids))]
            found.append(tuple(logprobs_RV[rows, list(ids)].tolist()))
        return found

    def completions(self) -> list[tuple[int, ...]]:
        """List every completion, the same after any prompt, as token ids, end token included; truncated ones have none."""
        actions = range(1, self.shape.vocabulary)
        whole = list(itertools.product(actions, repeat=self.shape.length))
        if not self.shape.free_end:
            return [(*ids, END) for ids in whole]
        shorter = [ids for depth in range(self.shape.length) for ids in itertools.product(actions, repeat=depth)]
        return [(*ids, END) for ids in shorter] + whole

    def completion_probabilities(
        self, prompts: Sequence[str], texts: Sequence[Sequence[str]], sampling: Sampling
    ) -> list[list[TextProbability]]:
        """Return each text's probability as a completion, by summing over the listed token sequences that spell it."""
        check_sampling(sampling)
        limit = self._token_limit(sampling)
        found = []
        for prompt, wanted in zip(prompts, texts, strict=True):
            listed = sorted({self._until_ended(ids[:limit], sampling) for ids in self.completions()})
            read = self.logprobs([self.prompt_ids(prompt)] * len(listed), listed, sampling)
            probabilities = [math.exp(math.fsum(logprobs)) for logprobs in read]
            found.append([self._one_text(text, listed, probabilities, sampling) for text in wanted])
        return found

    def _until_ended(self, ids: Sequence[int], sampling: Sampling) -> tuple[int, ...]:
        """Cut ids after the token that completes a stop string."""
        for t in range(len(ids)):
            if first_stop(self.decode(ids[: t + 1]), sampling.stop) is not None:
                return tuple(ids[: t + 1])
        return tuple(ids)

    def _one_text(
        self, text: str, listed: Sequence[tuple[int, ...]], probabilities: Sequence[float], sampling: Sampling
    ) -> TextProbability:
        total, canonical, truncated = [], [], []
        for ids, probability in zip(listed, probabilities, strict=True):
            spelled = self.decode(ids)
            cut = first_stop(spelled, sampling.stop)
            if spelled[:cut] != text:
                continue
            total.append(probability)
            if self.encode(spelled) == tuple(i for i in ids if i != END):
                canonical.append(probability)
            if cut is None and ids[-1] != END:
                truncated.append(probability)
        return TextProbability(math.fsum(total), math.fsum(canonical), math.fsum(truncated))

    def parameters(self) -> list[nn.Parameter]:
        return [self.logits_SV]

    def training_pass(
        self,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[Sequence[int]]],
        sampling: Sampling,
    ) -> TrainingPass:
        rows_NT, ids_NT, mask_NT = self._rows(prompt_ids, completion_ids)
        table_RV = self.table()
        sampled_RV = sampled_logprobs(table_RV, sampling)
        logprobs_NT = sampled_RV[rows_NT, ids_NT].masked_fill(~mask_NT, 0.0)
        return TrainingPass(logprobs_NT, mask_NT, rows_NT, sampled_RV)

    def _rows(
        self, prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[Sequence[int]]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the table's row, the token and whether there is one, for every token of every completion."""
        flat = [(prompt, ids) for prompt, group in zip(prompt_ids, completion_ids, strict=True) for ids in group]
        T = max((len(ids) for _, ids in flat), default=0)
        rows_NT = torch.full((len(flat), T), len(self.logits_SV))
        ids_NT = torch.full((len(flat), T), END)
        mask_NT = torch.zeros(len(flat), T, dtype=torch.bool)
        for n, (prompt, ids) in enumerate(flat):
            rows_NT[n, : len(ids)] = torch.tensor([self.state(prompt, ids[:t]) for t in range(len(ids))])
            ids_NT[n, : len(ids)] = torch.tensor(list(ids))
            mask_NT[n, : len(ids)] = True
        return rows_NT, ids_NT, mask_NT

    def frozen_copy(self) -> Self:
        copy = type(self).__new__(type(self))
        vars(copy).update(vars(self))
        copy.logits_SV = nn.Parameter(self.logits_SV.detach().clone(), requires_grad=False)
        return copy

    def value_features(
        self, prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[Sequence[int]]]
    ) -> Tensor:
        """One-hot of the state: a linear head on it is a table of values."""
        rows_NT, _, _ = self._rows(prompt_ids, completion_ids)
        return nn.functional.one_hot(rows_NT, len(self.logits_SV) + 1).double()

    def save(self, path: Path, *, origin: dict[str, Any]) -> str:
        """Write a safetensors file and return its sha256. The bytes depend on the table and `origin` only."""
        from safetensors.torch import save

        header = {"format": FORMAT, "name": self.spec.name, "shape": self.shape, "origin": origin}
        text = msgspec.json.encode(header, order="sorted").decode()
        raw = save({"logits_SV": self.logits_SV.detach().contiguous()}, metadata={"lockedroom": text})
        path.write_bytes(raw)
        return hashlib.sha256(raw).hexdigest()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Open what `save` wrote. Raises BadInput for anything else."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                header = msgspec.json.decode((file.metadata() or {}).get("lockedroom", "{}"), type=_Header)
                logits_SV = file.get_tensor("logits_SV")
        except (OSError, SafetensorError, msgspec.DecodeError) as error:
            raise BadInput(
                f"{path}: not a table that lockedroom wrote: {error}; give the policy of a bandit run"
            ) from None
        policy = cls(header.shape, name=header.name)
        if header.format != FORMAT or logits_SV.shape != policy.logits_SV.shape or not logits_SV.isfinite().all():
            raise BadInput(f"{path}: a table of format {header.format!r} that does not fit its own header; restore it")
        with torch.no_grad():
            policy.logits_SV.copy_(logits_SV)
        return policy


class _Header(msgspec.Struct, frozen=True):
    format: str
    name: str
    shape: Shape
    origin: dict[str, Any]


def _check_shape(shape: Shape) -> None:
    if not shape.prompts or len(set(shape.prompts)) != len(shape.prompts):
        raise BadInput(f"tabular policy: prompts {list(shape.prompts)[:5]!r} are not one or more different texts")
    if not shape.actions or "" in shape.actions or len(set(shape.actions)) != len(shape.actions):
        raise BadInput(f"tabular policy: actions {list(shape.actions)[:5]!r} are not one or more different texts")
    if shape.length < 1:
        raise BadInput(f"tabular policy: length {shape.length}; give 1 or more")
    size = 0
    for depth in range(shape.length):  # stops before the numbers become astronomical
        size += len(shape.prompts) * shape.vocabulary * len(shape.actions) ** depth
        if size > MAX_PARAMETERS:
            raise BadInput(
                f"tabular policy: more than {MAX_PARAMETERS:,} logits; give fewer actions or a smaller length"
            )
