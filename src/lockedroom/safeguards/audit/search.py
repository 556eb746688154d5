"""Property search with shrinking: texts that no table holds, made of goldens, the scorer's constants and hostile characters.

Hypothesis looks for a text that breaks one of four properties and makes it small. With a reference (a built-in scorer says
which texts it accepts) the search is differential; for any other scorer it is metamorphic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lockedroom.errors import MissingExtra
from lockedroom.records import Example, Failure
from lockedroom.safeguards.audit.cases import Case, answer_key, numbers_in
from lockedroom.safeguards.audit.characters import CONTROLS, INVISIBLE, LINE_BREAKS, SPACES, SURROGATES
from lockedroom.safeguards.audit.families import Seed
from lockedroom.safeguards.audit.report import Hit, What, what_failed

if TYPE_CHECKING:
    from lockedroom.safeguards.audit.asking import Said
    from lockedroom.safeguards.audit.examination import Examination

TEXTS = 300  # a property
_PIECES = (
    "0", "1", "7", "42", "-", "+", ".", ",", "_", " ", "\n", "\t", "Final: ", "####", "\\boxed{", "}", "<answer>", "</answer>", "or", "\u0664", "²", "\uff14", "x",
    "answer", "**", "$", "=", "%", "\r", "(", ")", "{", "/", "*",
)  # fmt: skip


def require_hypothesis() -> None:
    """Raise MissingExtra when Hypothesis is not installed; asked before anything else is done."""
    try:
        import hypothesis  # noqa: F401
    except ImportError:
        raise MissingExtra("lockedroom audit", "audit") from None


def search(exam: Examination) -> None:
    """Look for a small text that breaks each property, and enter what is found."""
    asked = 0
    for prop in (_inserted, _two_answers, _no_answer, _no_verdict):
        hunt = _Hunt(exam, prop)
        hunt.run()
        asked += hunt.asked
    exam.notes.append(f"property search: {asked:,} texts asked")


class _Hunt:
    """One property: `broken` is asked of texts, and remembers the last hit, which is the smallest once shrinking ends."""

    def __init__(self, exam: Examination, prop: Callable[[_Hunt, Seed, str], Hit | None]) -> None:
        self.exam, self._prop = exam, prop
        self.asked = 0
        self.known = {
            (str(hit.case.completion), answer_key(hit.case.example.expected_answer)) for hit in exam.ledger.hits
        }

    def run(self) -> None:
        import random

        from hypothesis import HealthCheck, Phase, Verbosity, find, settings
        from hypothesis.errors import Flaky, NoSuchExample

        quiet = settings(
            max_examples=TEXTS, database=None, deadline=None, suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink], verbosity=Verbosity.quiet,
        )  # fmt: skip
        try:
            position, text = find(_texts(self.exam), self._broken, settings=quiet, random=random.Random(self.exam.seed))
        except (NoSuchExample, Flaky):
            return
        hit = self._prop(self, self.exam.seeds[position], text)
        if hit is not None:
            self.exam.ledger.hits.append(hit)

    def _broken(self, drawn: tuple[int, str]) -> bool:
        return self.exam.has_time() and self._prop(self, self.exam.seeds[drawn[0]], drawn[1]) is not None

    def ask(self, example: Example, text: str) -> Said | None:
        self.asked += 1
        case = Case(family="search", attack="", example=example, completion=text)
        return self.exam.ask([case], patience=1)[0]

    def is_new(self, example: Example, text: str) -> bool:
        known = self.exam.ledger.known
        return (
            (text, answer_key(example.expected_answer)) not in self.known
            and not known.is_right(example, text)
            and known.contested_as(example, text) is None
            and not (self.exam.reference is not None and text in self.exam.reference(example))
        )


def _texts(exam: Examination) -> Any:
    """Draw (position of a seed, a text): a golden with pieces put in, or pieces alone."""
    from hypothesis import strategies as st

    # Lone surrogates are among the hostile characters on purpose.
    hostile = st.sampled_from(sorted(set(CONTROLS + INVISIBLE + LINE_BREAKS + SPACES + SURROGATES)))
    piece = st.one_of(
        st.sampled_from(_PIECES), hostile, st.integers(-1000, 1000).map(str), st.text(max_size=3),
        *([st.sampled_from(exam.dictionary)] if exam.dictionary else []),
    )  # fmt: skip
    pieces = st.lists(piece, max_size=5).map("".join)
    places = st.integers(0, max(len(seed.golden.completion) for seed in exam.seeds))

    def put(drawn: tuple[int, int, int, str, bool]) -> tuple[int, str]:
        position, place, removed, text, alone = drawn
        golden = exam.seeds[position].golden.completion
        return position, text if alone else golden[:place] + text + golden[place + removed :]

    return st.tuples(st.integers(0, len(exam.seeds) - 1), places, st.integers(0, 2), pieces, st.booleans()).map(put)


def _hit(hunt: _Hunt, seed: Seed, text: str, attack: str, example: Example | None = None) -> Hit | None:
    """A payment that is a mistake."""
    example = seed.example if example is None else example
    if not hunt.is_new(example, text):
        return None
    said = hunt.ask(example, text)
    if said is None or not hunt.exam.ledger.pays(said):
        return None
    return Hit(Case(family="search", attack=attack, example=example, completion=text), said, What.PAYS)


def _inserted(hunt: _Hunt, seed: Seed, text: str) -> Hit | None:
    """A golden text with something put in or taken out must not keep its reward."""
    return _hit(hunt, seed, text, "a golden text, changed")


def _two_answers(hunt: _Hunt, seed: Seed, text: str) -> Hit | None:
    """One text must not be paid for two different answers."""
    first = _hit(hunt, seed, text, "paid for two different answers")
    if first is None:
        return None
    for other in hunt.exam.seeds:
        if answer_key(other.golden.expected_answer) != answer_key(seed.golden.expected_answer):
            said = hunt.ask(other.example, text)
            if said is not None and hunt.exam.ledger.pays(said):
                return first
    return None


def _no_answer(hunt: _Hunt, seed: Seed, text: str) -> Hit | None:
    """A text without the expected answer must not be paid."""
    answer = answer_key(seed.golden.expected_answer)
    if answer in numbers_in(text) or answer in text:
        return None
    return _hit(hunt, seed, text, "the answer is not in it")


def _no_verdict(hunt: _Hunt, seed: Seed, text: str) -> Hit | None:
    """Every text has a verdict. A hang is not shrunk: the other stages look for hangs."""
    said = hunt.ask(seed.example, text)
    if said is None or not isinstance(said.result, Failure):
        return None
    what = what_failed(said.result)
    if what in (What.HANGS, What.DIES):
        return None
    return Hit(Case(family="search", attack="no verdict", example=seed.example, completion=text), said, what)
