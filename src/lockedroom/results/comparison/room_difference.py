"""Where two rooms differ, what a person may state to be equal, and the refusal that names the rest.

Fails closed: `undeclared`, `unavailable` and a field that is absent equal nothing, not even one another.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from lockedroom.errors import BadInput, NotComparable
from lockedroom.policy.declared import PROMPT_FIELDS, SAMPLING_FIELDS, UNDECLARED
from lockedroom.safeguards.room import Room
from lockedroom.visible import visible

SECTIONS = ("dataset", "prompts", "scorer", "sampling")
DRAWN = ("prompts", "sampling")  # what decides which completions come
UNAVAILABLE = "unavailable"
LONGEST_VALUE = 120

_WHAT_TO_DO = {
    "dataset": "the runs measured other examples: evaluate both on one file (and name the split alike with --split)",
    "prompts": "the policies were asked in other words: draw the completions of one run again with the other's prompts",
    "sampling": "the completions were drawn in another way: draw those of one run again with the other's settings",
    "scorer": "judge the saved completions of both runs with one scorer: lockedroom compare --rescore SCORER A B",
}


class FieldDifference(msgspec.Struct, frozen=True):
    """A field of the room that is not known to be equal. `undeclared`: at least one side does not say."""

    field: str
    a: Any
    b: Any
    undeclared: bool

    @property
    def section(self) -> str:
        return self.field.partition(".")[0]


def room_fields(room: Room) -> dict[str, Any]:
    """Return every field of a room by its dotted name; what should be there and is not is `undeclared`."""
    prompts = dict.fromkeys(PROMPT_FIELDS, UNDECLARED) | room.prompts
    sampling = dict.fromkeys(SAMPLING_FIELDS, UNDECLARED) | room.sampling
    sections = {
        "dataset": msgspec.to_builtins(room.dataset),
        "prompts": prompts,
        "scorer": msgspec.to_builtins(room.scorer),
        "sampling": sampling,
    }
    return {f"{section}.{key}": value for section in SECTIONS for key, value in sections[section].items()}


def find_differences(a: Room, b: Room) -> list[FieldDifference]:
    """Return every field that differs or is not known on both sides, in the order of the room."""
    fields_a, fields_b = room_fields(a), room_fields(b)
    found = []
    every = dict.fromkeys([*fields_a, *fields_b])  # in the order of the room, the same every time
    for field in sorted(every, key=lambda name: SECTIONS.index(name.partition(".")[0])):
        left, right = fields_a.get(field, UNDECLARED), fields_b.get(field, UNDECLARED)
        unknown = _unknown(left) or _unknown(right)
        if unknown or not _same(left, right):
            found.append(FieldDifference(field, left, right, unknown))
    return found


def assume_equal(
    differences: Sequence[FieldDifference], names: Sequence[str], known: Sequence[str]
) -> tuple[list[FieldDifference], list[FieldDifference]]:
    """Return (what still differs, what a person stated to be equal).

    `names` are sections or dotted fields. A statement covers what is undeclared; it never covers two declared values
    that differ. Raises BadInput for a name that is no section and none of the `known` fields.
    """
    for name in names:
        if name not in SECTIONS and name not in known:
            raise BadInput(
                f"--assume-equal {visible(name, 60)!r}: no such field of the room; name some of {', '.join(SECTIONS)}, "
                f"or of {visible(', '.join(known), 600)}"
            )
    stated = [one for one in differences if one.undeclared and (one.section in names or one.field in names)]
    return [one for one in differences if one not in stated], stated


def drawn_once(differences: Sequence[FieldDifference]) -> tuple[list[FieldDifference], list[FieldDifference]]:
    """Return (what still differs, what is one and the same) of two runs that hold the very same completions.

    However these were drawn, they were drawn once: what neither run declares of prompts and sampling is the same in both.
    """
    once = [one for one in differences if one.undeclared and one.section in DRAWN and _same(one.a, one.b)]
    return [one for one in differences if one not in once], once


def refuse(label_a: str, label_b: str, left: Sequence[FieldDifference], *, assumed: Sequence[str], about: str) -> None:
    """Raise NotComparable naming each field, both values and what to do. `about` says more of differing examples."""
    lines = [
        f"not comparable: {label_a} (A) and {label_b} (B) are not in one room; "
        f"{len(left)} field{'s are' if len(left) > 1 else ' is'} not known to be equal"
    ]
    for section in SECTIONS:
        for undeclared in (False, True):
            group = [one for one in left if one.section == section and one.undeclared is undeclared]
            lines += [f"  - {_described(one, assumed)}" for one in group]
            if group:
                lines.append(f"      what to do: {_what_to_do(section, group, f'{label_a} {label_b}')}")
                lines += [f"      {about}"] if about and section == "dataset" and not undeclared else []
    lines.append("  To see both without a verdict: --not-comparable")
    raise NotComparable("\n".join(lines))


def shown(value: Any) -> str:
    """Return a field's value as one safe, short piece of text; a hash is cut to 12 characters."""
    if isinstance(value, str):
        is_hash = len(value) == 64 and all(character in "0123456789abcdef" for character in value)
        return f"{value[:12]}…" if is_hash else visible(value, LONGEST_VALUE)
    return visible(json.dumps(value, ensure_ascii=False), LONGEST_VALUE)


def _described(one: FieldDifference, assumed: Sequence[str]) -> str:
    cannot = one.field in assumed or (one.section in assumed and not one.undeclared)
    return f"{visible(one.field, 80)}: {shown(one.a)} in A, {shown(one.b)} in B" + (
        " (declared on both sides and different, so it cannot be assumed equal)" if cannot else ""
    )


def _what_to_do(section: str, group: Sequence[FieldDifference], runs: str) -> str:
    what = _WHAT_TO_DO[section].replace("A B", runs)
    if not group[0].undeclared:
        return what
    names = visible(",".join(one.field for one in group), 300)
    if section in ("prompts", "sampling"):
        return (
            f"evaluate again with --declare {visible(group[0].field, 80)}=VALUE for each (or NAME.meta.toml beside the "
            f"completions); or state that they are equal: --assume-equal {names}"
        )
    return f"{what}; or state that they are equal: --assume-equal {names}"


def _unknown(value: Any) -> bool:
    """Whether the value, or anything within it, is a word for "not known"."""
    if isinstance(value, dict):
        return any(map(_unknown, value.values()))
    if isinstance(value, list):
        return any(map(_unknown, value))
    return isinstance(value, str) and value in (UNDECLARED, UNAVAILABLE)


def _same(a: Any, b: Any) -> bool:
    """JSON equality: 1 and 1.0 are one number, 1 and true are not one value."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a == b
    return type(a) is type(b) and bool(a == b)
