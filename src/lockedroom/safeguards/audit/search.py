"""Property search with shrinking: texts that no table holds, made of goldens, the scorer's constants and hostile characters.

Hypothesis looks for a text that breaks one of these properties and makes it small. With a reference (a built-in scorer says
which texts it accepts) or a declared grammar the search is differential; for any other scorer it is metamorphic.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lockedroom.errors import MissingExtra
from lockedroom.records import Example, Failure
from lockedroom.safeguards.audit.asking import is_deadly
from lockedroom.safeguards.audit.cases import Case, answer_key, numbers_in
from lockedroom.safeguards.audit.characters import CONTROLS, INVISIBLE, LINE_BREAKS, SPACES, SURROGATES
from lockedroom.safeguards.audit.families import Seed
from lockedroom.safeguards.audit.report import Hit, What, what_failed
from lockedroom.wording import counted

if TYPE_CHECKING:
    from hypothesis import Phase, settings

    from lockedroom.safeguards.audit.asking import Said
    from lockedroom.safeguards.audit.examination import Examination

TEXTS = 600
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
    """Draw texts and ask about them all at once; for every property that one of them breaks, hunt for a small text."""
    drawn = _drawn(exam)
    asked = [
        Case(family="search", attack="", example=exam.seeds[position].example, completion=text)
        for position, text in drawn
    ]
    told = exam.ask(asked)
    exam.ledger.unasked += told.count(None)
    exam.notes.append(f"property search: {counted(len(drawn), 'text')} asked")
    for prop in (_inserted, _two_answers, _no_answer, _no_verdict, *([] if exam.plan.grammar is None else [_refused])):
        hunt = _Hunt(exam, prop)
        for (position, text), said in zip(drawn, told, strict=True):
            if said is not None and (hit := prop(hunt, exam.seeds[position], text, said)) is not None:
                exam.ledger.hits.append(hit if is_deadly(said) else hunt.run() or hit)  # a hang is not shrunk
                break


def _drawn(exam: Examination) -> list[tuple[int, str]]:
    """Return (position of a seed, text), each once, the same for the same seed."""
    from hypothesis import Phase, find
    from hypothesis.errors import NoSuchExample

    found: dict[tuple[int, str], None] = {}

    def keep(drawn: tuple[int, str]) -> bool:
        found[drawn] = None
        return not exam.has_time()

    with contextlib.suppress(NoSuchExample):
        find(_texts(exam), keep, settings=_quiet(Phase.generate), random=random.Random(exam.seed))
    return list(found)


def _quiet(*phases: Phase) -> settings:
    from hypothesis import HealthCheck, Verbosity, settings

    return settings(
        max_examples=TEXTS, database=None, deadline=None, suppress_health_check=list(HealthCheck), phases=phases, verbosity=Verbosity.quiet
    )  # fmt: skip


class _Hunt:
    """One property, and the search for the smallest text that breaks it."""

    def __init__(self, exam: Examination, prop: Property) -> None:
        self.exam, self._prop = exam, prop
        self.known = {
            (str(hit.case.completion), answer_key(hit.case.example.expected_answer)) for hit in exam.ledger.hits
        }

    def run(self) -> Hit | None:
        """Return the smallest hit that Hypothesis finds, or None."""
        from hypothesis import Phase, find
        from hypothesis.errors import Flaky, NoSuchExample

        try:
            position, text = find(
                _texts(self.exam),
                self._broken,
                settings=_quiet(Phase.generate, Phase.shrink),
                random=random.Random(self.exam.seed),
            )
        except (NoSuchExample, Flaky):
            return None
        return self._hit(position, text)

    def _broken(self, drawn: tuple[int, str]) -> bool:
        return self.exam.has_time() and self._hit(*drawn) is not None

    def _hit(self, position: int, text: str) -> Hit | None:
        seed = self.exam.seeds[position]
        said = self.ask(seed.example, text)
        return None if said is None else self._prop(self, seed, text, said)

    def ask(self, example: Example, text: str) -> Said | None:
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


Property = Callable[[_Hunt, Seed, str, "Said"], Hit | None]


def _paid(hunt: _Hunt, seed: Seed, text: str, said: Said, attack: str) -> Hit | None:
    """A payment that is a mistake."""
    if not hunt.exam.ledger.pays(said) or not hunt.is_new(seed.example, text):
        return None
    return Hit(Case(family="search", attack=attack, example=seed.example, completion=text), said, What.PAYS)


def _inserted(hunt: _Hunt, seed: Seed, text: str, said: Said) -> Hit | None:
    """A golden text with something put in or taken out must not keep its reward."""
    return _paid(hunt, seed, text, said, "a golden text, changed")


def _two_answers(hunt: _Hunt, seed: Seed, text: str, said: Said) -> Hit | None:
    """One text must not be paid for two different answers."""
    first = _paid(hunt, seed, text, said, "paid for two different answers")
    if first is None:
        return None
    for other in hunt.exam.seeds:
        if answer_key(other.golden.expected_answer) != answer_key(seed.golden.expected_answer):
            again = hunt.ask(other.example, text)
            if again is not None and hunt.exam.ledger.pays(again):
                return first
    return None


def _no_answer(hunt: _Hunt, seed: Seed, text: str, said: Said) -> Hit | None:
    """A text without the expected answer must not be paid."""
    answer = answer_key(seed.golden.expected_answer)
    if answer in numbers_in(text) or answer in text:
        return None
    return _paid(hunt, seed, text, said, "the answer is not in it")


def _refused(hunt: _Hunt, seed: Seed, text: str, said: Said) -> Hit | None:
    """A text in the declared grammar must be paid."""
    if said.reward in (None, hunt.exam.ledger.full) or not hunt.exam.ledger.known.in_grammar(seed.example, text):
        return None
    return Hit(
        Case(family="search", attack="in the grammar", example=seed.example, completion=text), said, What.REFUSES
    )


def _no_verdict(_hunt: _Hunt, seed: Seed, text: str, said: Said) -> Hit | None:
    """Every text has a verdict."""
    if not isinstance(said.result, Failure):
        return None
    return Hit(
        Case(family="search", attack="no verdict", example=seed.example, completion=text),
        said,
        what_failed(said.result),
    )
