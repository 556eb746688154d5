"""The attack families: every golden completion, changed in the ways that scorers are known to miss.

An attack is a template over a golden text: {g} the golden completion, {b} what stands before its answer, {n} the answer,
{a} what stands after, {u} the answer without a minus, {w} a wrong answer, {x} the golden text with that wrong answer,
{p} the prompt, {d1} and {dr} the answer's first character and the rest. What is literal in a template is the attack, and
stays when a finding is shrunk. `attack_name|template`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence

import msgspec

from lockedroom.records import Example
from lockedroom.safeguards.audit import tables
from lockedroom.safeguards.audit.cases import Case, Golden, Slot, slot_of
from lockedroom.safeguards.audit.characters import (
    CONTROLS,
    DIGIT_FORMS,
    INVISIBLE,
    LINE_BREAKS,
    LOOK_ALIKES,
    MINUS_LOOK_ALIKES,
    SPACES,
    SURROGATES,
    decimal_scripts,
    name_of,
)
from lockedroom.safeguards.audit.decimals import decimal_of, near_decimals
from lockedroom.safeguards.audit.encodings import encoded
from lockedroom.safeguards.audit.structured import other_structures
from lockedroom.wording import counted

_FIELD = re.compile(r"\{(g|b|n|a|u|w|x|p|d1|dr)\}")
MOST_CUTS = 100
LONGEST_ENCODED = 2000
# Where a character can be put into a golden text.
_END, _START, _BEFORE, _AFTER, _INSIDE = "{g}{c}", "{c}{g}", "{b}{c}{n}{a}", "{b}{n}{c}{a}", "{b}{d1}{c}{dr}{a}"
_EVERYWHERE = (_END, _START, _BEFORE, _AFTER, _INSIDE)


class Seed(msgspec.Struct, frozen=True):
    """A golden completion as an attack sees it, with its fields. Without a slot only the whole text can be changed."""

    golden: Golden
    slot: Slot | None
    wrong: str
    fields: dict[str, str]

    @property
    def example(self) -> Example:
        golden = self.golden
        return Example(id=golden.id, prompt=golden.prompt, expected_answer=golden.expected_answer)

    def fill(self, template: str) -> str | None:
        """Return the template filled in, or None when it asks for what this golden text does not have."""
        parts = _FIELD.split(template)
        try:
            parts[1::2] = [self.fields[name] for name in parts[1::2]]
        except KeyError:
            return None
        return "".join(parts)


Variant = tuple[str, str, tuple[str, ...]]  # attack, text, marks
Family = Callable[[Seed], Iterator[Variant]]


def seed_of(golden: Golden, wrong: str) -> Seed:
    """Return the seed of a golden completion, given an answer that is wrong for it."""
    slot = slot_of(golden)
    fields = {"g": golden.completion, "w": wrong, "p": golden.prompt}
    if slot is not None:
        fields |= {"b": slot.before, "n": slot.answer, "a": slot.after, "x": slot.before + wrong + slot.after}
        if slot.integer:
            fields["u"] = slot.answer.removeprefix("-")
        if len(slot.answer) > 1 and slot.answer[0] != "-":
            fields |= {"d1": slot.answer[0], "dr": slot.answer[1:]}
    return Seed(golden, slot, wrong, fields)


def templated(seed: Seed, lines: Sequence[str]) -> Iterator[Variant]:
    """Yield `attack|template` lines, filled in."""
    for line in lines:
        attack, _, template = line.partition("|")
        text = seed.fill(template)
        if text is not None:
            yield attack, text, tuple(part for part in _FIELD.split(template)[::2] if part)


def sprinkled(seed: Seed, characters: str, where: Sequence[str] = _EVERYWHERE) -> Iterator[Variant]:
    """Yield every character at every place."""
    for character in characters:
        for place in where:
            text = seed.fill(place.replace("{c}", character))
            if text is not None:
                yield name_of(character), text, (character,)


def spaces_replaced(seed: Seed, characters: str) -> Iterator[Variant]:
    """Yield the golden text with one character in the place of its first, and of its last, space."""
    text = seed.golden.completion
    for place in sorted({text.find(" "), text.rfind(" ")} - {-1}):
        for character in characters:
            yield name_of(character), text[:place] + character + text[place + 1 :], (character,)


def unicode_digits(seed: Seed) -> Iterator[Variant]:
    if seed.slot is None or not seed.slot.integer:
        return
    before, answer, after = seed.slot.before, seed.slot.answer, seed.slot.after
    for name, digits in {**decimal_scripts(), **DIGIT_FORMS}.items():
        attack = name if name in DIGIT_FORMS else "digits of another script"
        for position in range(len(answer)):
            if answer[position].isdecimal():
                changed = digits[int(answer[position])]
                yield attack, before + answer[:position] + changed + answer[position + 1 :] + after, (changed,)
                break
        whole = "".join(digits[int(c)] if c.isdecimal() else c for c in answer)
        yield attack, before + whole + after, (whole,)
        yield attack, f"{before}{answer}{digits[2]}{after}", (digits[2],)
        yield f"{attack}, then text", f"{before}{answer}{digits[2]} x{after}", (digits[2],)


def minus_look_alikes(seed: Seed) -> Iterator[Variant]:
    for minus in MINUS_LOOK_ALIKES:
        text = seed.fill(f"{{b}}{minus}{{u}}{{a}}")
        if text is not None:
            yield name_of(minus), text, (minus,)
    yield from templated(seed, tables.MINUS)


def prefix_look_alikes(seed: Seed) -> Iterator[Variant]:
    before = seed.slot.before if seed.slot is not None else seed.golden.completion
    rest = seed.golden.completion[len(before) :]
    for position, character in enumerate(before):
        for other in LOOK_ALIKES.get(character, ""):
            yield name_of(other), before[:position] + other + before[position + 1 :] + rest, (other,)


def literal_format(seed: Seed) -> Iterator[Variant]:
    yield from templated(seed, tables.LITERAL_FORMAT)
    if seed.slot is None:
        return
    before, tail = seed.slot.before, seed.slot.answer + seed.slot.after
    for attack, changed in (
        ("lower case", before.lower()),
        ("upper case", before.upper()),
        ("swapped case", before.swapcase()),
        ("white space removed", "".join(before.split())),
        ("frame removed", ""),
    ):
        if changed != before:
            yield attack, changed + tail, (changed.strip(),)
    if not seed.slot.integer:
        yield from _answer_respelled(seed.slot)
    for position in range(max(len(before) - MOST_CUTS, 0), len(before)):
        yield "a character of the frame removed", before[:position] + before[position + 1 :] + tail, ()
        for other in "xX.":
            yield (
                "a character of the frame replaced",
                before[:position] + other + before[position + 1 :] + tail,
                (other,),
            )
    if seed.slot.after:
        yield "what follows removed", before + seed.slot.answer, ()


def _answer_respelled(slot: Slot) -> Iterator[Variant]:
    """Yield an answer that is a word, or a list, in another spelling."""
    answer = slot.answer
    folded = unicodedata.normalize("NFKD", answer)
    for attack, changed in (
        ("answer in lower case", answer.lower()), ("answer in upper case", answer.upper()), ("answer with swapped case", answer.swapcase()),
        ("answer without accents", "".join(c for c in folded if not unicodedata.combining(c))), ("answer decomposed", folded),
        ("answer without white space", "".join(answer.split())), ("answer backwards", answer[::-1]), ("answer doubled", answer + answer),
        ("answer without punctuation", "".join(c for c in answer if c.isalnum() or c == " ")),
    ):  # fmt: skip
        if changed != answer:
            yield attack, slot.before + changed + slot.after, (changed,)
    for position, character in enumerate(answer[:MOST_CUTS]):
        for other in LOOK_ALIKES.get(character, ""):
            yield (
                name_of(other),
                slot.before + answer[:position] + other + answer[position + 1 :] + slot.after,
                (other,),
            )


def truncation_windows(seed: Seed) -> Iterator[Variant]:
    if seed.slot is None:
        return
    before, answer, after = seed.slot.before, seed.slot.answer, seed.slot.after
    for cut in range(min(len(answer), MOST_CUTS)):
        yield "answer cut off", before + answer[:cut] + after, ()
        yield "answer cut off", before + answer[cut + 1 :] + after, ()
    for size in (1, 8, 56, 64, 249, 256, 1016, 4096, 65_536):
        yield f"after {counted(size, 'digit')}", before + answer + "1" * size + after, ("1" * size,)
        yield "far behind text", f"{'x' * size}{before}{seed.wrong}{after}", ("x" * size,)
        yield "far before text", before + seed.wrong + after + "x" * size, ("x" * size,)


def numeric_comparison(seed: Seed) -> Iterator[Variant]:
    if seed.slot is None:
        return
    decimal = decimal_of(seed.golden.expected_answer)
    if decimal is not None:
        for attack, text in near_decimals(decimal):
            yield attack, seed.slot.before + text + seed.slot.after, (text,)
    if not seed.slot.integer or len(seed.slot.answer) > 400:
        return
    value = int(seed.slot.answer)
    near = {
        "one off": (value + 1, value - 1),
        "negated": (-value,),
        "wrapped at 64 bits": (value + 2**64, value - 2**64, value + 2**32, value + 2**63, value + 2**53),
        "same last digits": (value + 10**6, value + 1000, value + 10**18),
        "within a tolerance": (value + max(1, abs(value) // 10**6), value + max(1, abs(value) // 100)),
        "same as a float": (value + max(1, abs(value) // 2**54),),
    }
    for attack, values in near.items():
        for other in values:
            if other != value:
                yield attack, f"{seed.slot.before}{other}{seed.slot.after}", (str(other),)


def number_words(seed: Seed) -> Iterator[Variant]:
    if seed.slot is None or not seed.slot.integer:
        return
    words = tables.WORDS.get(seed.slot.answer)
    if words is not None:
        for text in (words, words.capitalize()):
            yield "in words", seed.slot.before + text + seed.slot.after, (text,)
    if len(seed.slot.answer) < 18:
        value = int(seed.slot.answer)
        for attack, text in (
            ("hexadecimal", hex(value)), ("binary", bin(value)), ("octal", oct(value)), ("as a fraction", f"{2 * value}/2"),
            ("as a sum", f"{value - 1}+1"), ("scientific", f"{value}e0"), ("scientific", f"{value * 10}e-1"),
            ("thousands separators", f"{value:,}"), ("underscores", f"{value:_}"), ("as a power", f"{value}**1"),
            ("as a decimal", f"{value}.0"), ("nearly", f"{value}.0000000001"), ("nearly", f"{value - 1}.9999999999"),
        ):  # fmt: skip
            if text != seed.slot.answer:
                yield attack, seed.slot.before + text + seed.slot.after, (text,)


def encodings(seed: Seed) -> Iterator[Variant]:
    golden, slot = seed.golden.completion, seed.slot
    if len(golden) <= LONGEST_ENCODED:
        parts = ("", "", "") if slot is None else (slot.before, slot.answer, slot.after)
        for attack, text, mark in encoded(golden, *parts):
            if mark and text.strip():
                yield attack, text, (mark,)


def structured_answers(seed: Seed) -> Iterator[Variant]:
    if seed.slot is not None:
        for attack, text in other_structures(seed.golden.expected_answer, seed.slot.answer):
            yield attack, seed.slot.before + text + seed.slot.after, (text,)


def _table(lines: Sequence[str]) -> Family:
    return lambda seed: templated(seed, lines)


def _both(first: Family, second: Family) -> Family:
    def family(seed: Seed) -> Iterator[Variant]:
        yield from first(seed)
        yield from second(seed)

    return family


FAMILIES: dict[str, Family] = {
    "padding": _table(tables.PADDING),
    "unicode_digits": unicode_digits,
    "minus_look_alikes": minus_look_alikes,
    "int_laxness": _table(tables.INT_LAXNESS),
    "whitespace": _both(
        lambda seed: sprinkled(seed, SPACES), lambda seed: spaces_replaced(seed, SPACES + INVISIBLE + "_-\t")
    ),
    "line_breaks": _both(
        _both(lambda seed: sprinkled(seed, LINE_BREAKS), lambda seed: spaces_replaced(seed, LINE_BREAKS + "\n")),
        _table(tables.LINE_BREAKS),
    ),
    "invisible_characters": lambda seed: sprinkled(seed, INVISIBLE),
    "prefix_look_alikes": prefix_look_alikes,
    "literal_format": literal_format,
    "anchoring": _table(tables.ANCHORING),
    "hedging": _table(tables.HEDGING),
    "number_syntax": _both(_table(tables.NUMBER_SYNTAX), number_words),
    "numeric_comparison": numeric_comparison,
    "structured_answers": structured_answers,
    "truncation_windows": truncation_windows,
    "nul": _both(lambda seed: sprinkled(seed, CONTROLS), _table(tables.NUL)),
    "lone_surrogates": lambda seed: sprinkled(seed, SURROGATES),
    "prompt_echo": _table(tables.PROMPT_ECHO),
    "template_layers": _both(_table(tables.TEMPLATE_LAYERS), encodings),
    "judge_bait": _table(tables.JUDGE_BAIT),
    "injection": _table(tables.INJECTION),
    "special_tokens": _table(tables.SPECIAL_TOKENS),
    "empty": _table(tables.EMPTY),
}
# Families that are asked in a way of their own, beside the sweep.
OTHER_FAMILIES = ("non_strings", "denial_of_service", "mined_constants", "cross_answer", "search")


def sweep(seeds: Sequence[Seed], family: str) -> Iterator[Case]:
    """Yield every different case of one family over the seeds."""
    seen: set[tuple[str, str]] = set()
    for seed in seeds:
        for attack, text, marks in FAMILIES[family](seed):
            key = (seed.golden.id, text)
            if text != seed.golden.completion and key not in seen:
                seen.add(key)
                yield Case(family=family, attack=attack, example=seed.example, completion=text, marks=marks)


def non_strings(seed: Seed) -> Iterator[Case]:
    """Yield what a caller may pass by mistake in place of text; each is a JSON value."""
    text, answer = seed.golden.completion, seed.golden.expected_answer
    for attack, value in (
        ("the expected answer itself", answer), ("None", None), ("a list of text", [text]), ("an empty list", []),
        ("a dict", {"content": text}), ("a chat message", [{"role": "assistant", "content": text}]), ("True", True),
        ("a float", 42.5), ("zero", 0),
    ):  # fmt: skip
        if not isinstance(value, str):
            yield Case(family="non_strings", attack=attack, example=seed.example, completion=value)
