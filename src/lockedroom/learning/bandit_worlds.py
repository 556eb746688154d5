"""The micro-worlds under the microscope, and the scorer that pays in them.

A world is what nature does in one round: it shows a context (the prompt) and, unseen, decides what every completion would
be paid this round. Those payoffs are the round's `expected_answer`, so that a stochastic bandit needs no stochastic
scorer: the chance is in the example, and the scorer stays what every scorer is, a pure function.
Shape letters: C contexts, Y completions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lockedroom.errors import BadInput
from lockedroom.policy.tabular import Shape, TabularPolicy
from lockedroom.policy.tiny.randomness import uniforms
from lockedroom.records import Code, Details, Example, Outcome, Score, ScorerSpec

CODES = (
    Code("best_pay", Outcome.CORRECT, "nothing was paid better this round"),
    Code("less_pay", Outcome.WRONG, "another completion was paid better this round"),
    Code("no_such_choice", Outcome.MALFORMED, "the text is no choice of this world", 0.0),
)


class World(msgspec.Struct, frozen=True):
    """Nature: contexts are equally likely; a completion pays `pays_CY` with probability `chances_CY`, else 0.

    `first_logits` maps prefixes of actions (the empty text: the first step) to the logits that the policy begins with, in
    every context; states that are not named begin uniform.
    """

    name: str
    about: str
    contexts: tuple[str, ...]
    actions: tuple[str, ...]
    length: int
    chances_CY: tuple[tuple[float, ...], ...]
    pays_CY: tuple[tuple[float, ...], ...]
    first_logits: Mapping[str, tuple[float, ...]] = {}

    @property
    def texts(self) -> tuple[str, ...]:
        """The completions, in the order of the columns Y."""
        return tuple("".join(chosen) for chosen in itertools.product(self.actions, repeat=self.length))

    @property
    def mean_pays(self) -> tuple[tuple[float, ...], ...]:
        return tuple(
            tuple(chance * pay for chance, pay in zip(chances, pays, strict=True))
            for chances, pays in zip(self.chances_CY, self.pays_CY, strict=True)
        )

    def ceiling(self) -> float:
        """The greatest E[R] of any policy that sees the context."""
        return math.fsum(max(means) for means in self.mean_pays) / len(self.contexts)

    def blind_ceiling(self) -> float:
        """The greatest E[R] of any policy that does not see the context."""
        return max(math.fsum(column) for column in zip(*self.mean_pays, strict=True)) / len(self.contexts)


class Round(msgspec.Struct, frozen=True):
    """One thing that nature may do: its probability, the context shown, and what each completion would be paid."""

    probability: float
    context: int
    payoffs_Y: tuple[float, ...]


def list_rounds(world: World) -> list[Round]:
    """Return everything nature may do in one round, with probabilities that sum to 1."""
    rounds = []
    for context, (chances, pays) in enumerate(zip(world.chances_CY, world.pays_CY, strict=True)):
        options = [
            [(1.0, pay if chance == 1 else 0.0)] if chance in (0.0, 1.0) else [(chance, pay), (1 - chance, 0.0)]
            for chance, pay in zip(chances, pays, strict=True)
        ]
        for outcome in itertools.product(*options):
            probability = math.prod(p for p, _ in outcome) / len(world.contexts)
            rounds.append(Round(probability, context, tuple(pay for _, pay in outcome)))
    return rounds


def draw_rounds(world: World, seed: int, step: int, count: int) -> list[Example]:
    """Return what nature does in `count` rounds of one step, as examples; a function of its arguments alone."""
    Y = len(world.texts)
    blocks = -(-(Y + 1) // 8)
    keys = [("nature", i) for i in range(count)]
    columns = [uniforms(seed, step, keys, block) for block in range(blocks)]
    examples = []
    for i in range(count):
        u = [float(value) for block in columns for value in block[i]]
        context = int(u[0] * len(world.contexts))
        chances, pays = world.chances_CY[context], world.pays_CY[context]
        paid = {text: pays[y] if u[1 + y] < chances[y] else 0.0 for y, text in enumerate(world.texts)}
        examples.append(Example(id=f"{step}.{i}", prompt=world.contexts[context], expected_answer=paid))
    return examples


def first_policy(world: World) -> TabularPolicy:
    """Return the policy that learning starts from."""
    policy = TabularPolicy(Shape(world.contexts, world.actions, world.length), name=world.name)
    for context in world.contexts:
        for prefix, logits in world.first_logits.items():
            policy.set_logits(context, policy.encode(prefix), logits)
    return policy


class PayoffScorer:
    """Pays a completion what the round's card says. `expected_answer` maps every completion to its payoff."""

    spec = ScorerSpec("payoff", 1, CODES, (0.0, 1.0))

    def accepts(self, expected_answer: Any) -> bool:
        return isinstance(expected_answer, dict) and bool(expected_answer)

    def score(self, example: Example, completion: str) -> Score:
        payoffs: dict[str, float] = example.expected_answer
        if completion not in payoffs:
            return Score(0.0, Details("no_such_choice", Outcome.MALFORMED, None, CODES[2].meaning))
        paid = payoffs[completion]
        code = CODES[0] if paid == max(payoffs.values()) and paid > 0 else CODES[1]
        return Score(paid, Details(code.name, code.outcome, completion, code.meaning))


def _bandit(name: str, about: str, contexts: Mapping[str, Sequence[float]], arms: str, **more: Any) -> World:
    chances = tuple(tuple(row) for row in contexts.values())
    return World(
        name, about, tuple(contexts), tuple(arms), 1, chances, tuple((1.0,) * len(arms) for _ in contexts), **more
    )


WORLDS = {
    world.name: world
    for world in (
        _bandit(
            "stochastic",
            "three arms that pay 1 with probability .2, .5 and .8; the policy begins uniform",
            {"pull": (0.2, 0.5, 0.8)},
            "ABC",
        ),
        _bandit(
            "contextual",
            "two contexts with opposite best arms: only a policy that reads its prompt gets beyond a coin",
            {"sun": (0.9, 0.1), "rain": (0.1, 0.9)},
            "AB",
        ),
        _bandit(
            "confident",
            "the policy begins with .9 on the one arm that pays: here the mean reward is a bad baseline",
            {"pull": (1.0, 0.0, 0.0)},
            "ABC",
            first_logits={"": (math.log(18.0), 0.0, 0.0)},
        ),
        World(
            "two-step",
            "two steps, L or R each, one reward at the end: RR pays 1, LL pays .4, LR and RL pay nothing",
            ("go",),
            ("L", "R"),
            2,
            ((1.0, 1.0, 1.0, 1.0),),
            ((0.4, 0.0, 0.0, 1.0),),
        ),
        World(
            "graded",
            "two prompts, nine completions each of graded pay; the policy begins with most of its weight on the badly paid",
            ("p", "q"),
            ("A", "B", "C"),
            2,
            ((1.0,) * 9,) * 2,
            ((0.0, 0.1, 0.3, 0.2, 0.5, 0.6, 0.4, 0.8, 1.0), (0.1, 0.0, 0.6, 0.0, 0.3, 0.3, 0.9, 0.5, 0.7)),
            {"": (1.5, 0.5, -0.5), "A": (0.8, 0.3, 0.0), "B": (0.0, 0.6, -0.4), "C": (0.7, 0.0, -0.9)},
        ),
    )
}


def find_world(name: str) -> World:
    """Raises BadInput for a name that is none."""
    if name not in WORLDS:
        raise BadInput(f"--world {name!r}: there is no such world; choose {', '.join(WORLDS)}")
    return WORLDS[name]
