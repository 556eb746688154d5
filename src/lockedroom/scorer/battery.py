"""The fixed battery of questions that a scorer's behaviour fingerprint is taken over.

`BATTERY` is every answer of `_ANSWERS` with every completion of `_COMPLETIONS`, in that order: right, wrong and
malformed in the ways that scorers are known to get wrong. It never changes; a better battery is a new version, with a
new `BATTERY_SHA256`, and its fingerprints do not compare with the old ones.
"""

from __future__ import annotations

from lockedroom.records import Example

BATTERY_VERSION = 1
# sha256 of `identity.battery_text()`; a test recomputes it.
BATTERY_SHA256 = "4ec8ffd3cf70266de767cf5c03a551ea56e1610895576199a89a53c285bb6d0b"

# The expected answer as a dataset holds it, the next integer, and a prefix of its digits.
_ANSWERS: tuple[tuple[int | str, str, str], ...] = (
    (0, "1", ""),
    (7, "8", ""),
    (-7, "-6", "-"),
    ("42", "43", "4"),
    (323, "324", "32"),
    (1_000_000, "1000001", "100000"),
    (10**40 + 7, str(10**40 + 8), "1" + "0" * 39),
)

# {n} is the answer's digits, {u} the same without a minus, {w} the next integer, {cut} a prefix of the digits,
# {fullwidth} and {arabic} the answer's digits in another script.
_COMPLETIONS = (
    # in the language of final-int
    "Final: {n}",
    "Final: {n}\n",
    "Final: {w}",
    "Final: {w}\n",
    "Final: -{n}",
    "Final: {n}0",
    "Final: {cut}",
    "Final: 0",
    # empty, and nothing but the frame
    "",
    "\n",
    " ",
    "Final:",
    "Final: ",
    "Final: -",
    "Final: none",
    # lines
    "Final: {n}\n\n",
    "Final: {n}\r\n",
    "Final: {n}\r",
    "Final: {n}\u2028",
    "Final: {n}\x0b",
    "Final: {n}\x1c",
    "\nFinal: {n}",
    "Let me think.\nFinal: {n}",
    "Final: {n}\nFinal: {w}",
    "Final: {w}\nFinal: {n}",
    # prefix
    "{n}",
    "final: {n}",
    "FINAL: {n}",
    "Final:{n}",
    "Final :{n}",
    "Final\uff1a {n}",
    "F\u0456nal: {n}",
    "Answer: {n}",
    "The answer is {n}.",
    "**Final: {n}**",
    "\ufeffFinal: {n}",
    " Final: {n}",
    # whitespace and invisible characters
    "Final:  {n}",
    "Final:\t{n}",
    "Final:\xa0{n}",
    "Final: {n} ",
    "Final: {n}\t",
    "Final: {n}\xa0",
    "Final: {n}\x1f",
    "Final: {n}\u200b",
    "Final: {n}\x00",
    "Final: {n}\udc80",
    # number syntax
    "Final: +{n}",
    "Final: 0{n}",
    "Final: -0{u}",
    "Final: -0",
    "Final: {n}.0",
    "Final: {n}.",
    "Final: {n}_0",
    "Final: {n}%",
    "Final: {n}e0",
    "Final: \u2212{u}",
    "Final: - {u}",
    "Final: --{u}",
    "Final: {fullwidth}",
    "Final: {arabic}",
    "Final: {n}\u0662",
    "Final: {n}\u00b2",
    # more than one answer
    "Final: {n} or {w}",
    "Final: {w} or {n}",
    "Final: {n} apples",
)  # fmt: skip

_FULLWIDTH = {ord("0") + digit: 0xFF10 + digit for digit in range(10)}
_ARABIC = {ord("0") + digit: 0x0660 + digit for digit in range(10)}


def _filled(template: str, answer: int | str, after: str, cut: str) -> str:
    digits = str(answer)
    fields = {
        "{n}": digits,
        "{u}": digits.removeprefix("-"),
        "{w}": after,
        "{cut}": cut,
        "{fullwidth}": digits.translate(_FULLWIDTH),
        "{arabic}": digits.translate(_ARABIC),
    }
    for field, text in fields.items():
        template = template.replace(field, text)
    return template


BATTERY: tuple[tuple[Example, str], ...] = tuple(
    (
        Example(id=f"{row}-{column}", prompt=f"What is {answer} + 0?", expected_answer=answer),
        _filled(template, answer, after, cut),
    )
    for row, (answer, after, cut) in enumerate(_ANSWERS)
    for column, template in enumerate(_COMPLETIONS)
)
