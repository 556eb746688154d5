"""One completion under the token X-ray: what its tokens are, how probable each was, what was read in it; and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lockedroom.results.text_table import text_table
from lockedroom.visible import visible
from lockedroom.wording import counted

LONGEST_LINE, LINES_AROUND = 300, 20


class PromptToken(msgspec.Struct, frozen=True):
    """`piece` is empty for a token without text; `mark` says what it then is: start, end, special, or part
    of a character whose last byte comes later."""

    id: int
    piece: str
    mark: str = ""


class TokenRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One sampled token. start, end: the characters of the completion it covers (of what its tokens spell, past a stop string).

    logprob, ref_logprob: in nats, of the policies themselves (temperature 1, nothing truncated); k1: their difference,
    whose expected sum is KL. recorded: as the run wrote it, of the distribution that was sampled. advantage: what learning
    weighed log π of this token with; None where it did not learn from it. scored: it holds a part of what the scorer
    parsed. mark: end, special, part of a character, token limit, or after the text (behind a stop string).
    """

    id: int
    piece: str
    start: int
    end: int
    logprob: float
    ref_logprob: float | None = None
    k1: float | None = None
    recorded: float | None = None
    advantage: float | None = None
    scored: bool = False
    mark: str = ""


class Xray(msgspec.Struct, frozen=True, kw_only=True):
    """One record of a run, token by token.

    policy, reference: whose log-probabilities these are. drawn_logprob: the completion's, as recorded. parsed: what the
    scorer says it saw; scored_span: where in the text that stands, None where it does not stand there literally.
    canonical: how many tokens the tokenizer makes of the text, None where they are the sampled ones. notes: sentences on what is
    missing or is not what it may seem.
    """

    id: str
    draw: int
    step: int | None
    policy: str
    reference: str | None
    text: str
    verdict: str
    reward: float | None
    parsed: str | None
    scored_span: tuple[int, int] | None
    canonical: int | None
    drawn_logprob: float | None
    prompt: tuple[PromptToken, ...]
    tokens: tuple[TokenRow, ...]
    notes: tuple[str, ...]


def shown_piece(piece: str, mark: str = "", limit: int | None = None) -> str:
    """Return a piece in quotes, so that spaces at its ends show and none of it is read as Markdown; without text, its mark."""
    return f"'{_plain(piece, limit)}'" if piece or not mark else f"({mark})"


def render_xray(xray: Xray) -> str:
    """Return the X-ray as Markdown, safe for a terminal whatever the completion holds."""
    step = "" if xray.step is None else f" · step {xray.step}"
    reward = "not judged" if xray.reward is None else f"reward {xray.reward:g}"
    lines = [
        f"── {_plain(xray.id, 60)} · draw {xray.draw}{step} · {_plain(xray.verdict, 80)} · {reward}",
        f"prompt ({counted(len(xray.prompt), 'token')})  "
        + " · ".join(shown_piece(one.piece, one.mark) for one in xray.prompt),
        *_completion(xray),
        "",
        *_table(xray),
        "",
        *_sums(xray),
        *xray.notes,
        "",
    ]
    return "\n".join(lines)


def _completion(xray: Xray) -> list[str]:
    """The text line by line, the scored line behind an arrow, what was parsed strong."""
    span = xray.scored_span
    shown, start = [], 0
    for line in xray.text.split("\n"):
        end = start + len(line)
        hit = span is not None and span[0] <= end and start <= span[1] and (span[0] < end or start == end == span[0])
        shown.append(("→" if hit else " ", _strong(line, start, span) if hit and span else _plain(line, LONGEST_LINE)))
        start = end + 1
    at = next((i for i, (arrow, _) in enumerate(shown) if arrow == "→"), 0)
    first, last = max(0, at - LINES_AROUND), at + LINES_AROUND + 1
    cut = len(shown) - len(shown[first:last])
    parsed = "nothing was parsed" if xray.parsed is None else f"parsed '{_plain(xray.parsed, 80)}'"
    left_out = f", {counted(cut, 'line')} left out" if cut else ""
    return [
        f"completion ({parsed}{left_out})",
        *(f"  {arrow} {line}" for arrow, line in shown[first:last]),
    ]


def _strong(line: str, start: int, span: tuple[int, int]) -> str:
    begin, end = max(0, span[0] - start), min(len(line), span[1] - start)
    before, inside, after = line[:begin], line[begin:end], line[end:]
    if len(before) > LONGEST_LINE:
        before = "…" + before[-LONGEST_LINE:]
    return f"{_plain(before)}**{_plain(inside, LONGEST_LINE)}**{_plain(after, LONGEST_LINE)}"


def _table(xray: Xray) -> list[str]:
    rows = xray.tokens
    has = {name: any(getattr(row, name) is not None for row in rows) for name in ("recorded", "k1", "advantage")}
    header = (
        "",
        "id",
        "piece",
        "span",
        "logprob",
        "as sampled" if has["recorded"] else "",
        "reference" if has["k1"] else "",
        "k1" if has["k1"] else "",
        "advantage" if has["advantage"] else "",
        "",
    )
    cells = [
        (
            "→" if row.scored else "",
            str(row.id),
            f"**{shown_piece(row.piece, row.mark)}**" if row.scored else shown_piece(row.piece, row.mark),
            f"{row.start}–{row.end}",
            f"{row.logprob:.4f}",
            _number(row.recorded),
            _number(row.ref_logprob),
            _number(row.k1, "+.4f"),
            _number(row.advantage, "+.4f"),
            row.mark if row.piece else "",
        )
        for row in rows
    ]
    return text_table(header, cells, numbers=(1, 4, 5, 6, 7, 8))


def _number(value: float | None, form: str = ".4f") -> str:
    return "" if value is None else format(value, form)


def _sums(xray: Xray) -> list[str]:
    total = sum(row.logprob for row in xray.tokens)
    said = f"logprob {total:.4f} nats under {_plain(xray.policy, 120)}"
    if xray.reference is not None:
        reference = sum(row.ref_logprob or 0.0 for row in xray.tokens)
        said += f", {reference:.4f} under {_plain(xray.reference, 120)}: k1 = {total - reference:+.4f}"
    if xray.step is not None and xray.drawn_logprob is not None:
        said += f"; {xray.drawn_logprob:.4f} when it was drawn"
    if xray.canonical is not None:
        said += f"; the tokenizer would write this text in {counted(xray.canonical, 'other token')}"
    return [said]


def render_xrays(xrays: Sequence[Xray]) -> str:
    """Return several X-rays, or the sentence that there is none."""
    if not xrays:
        return "nothing to show: no record of this run with a completion is what was asked for"
    return "\n".join(render_xray(one) for one in xrays).rstrip("\n")


def _plain(text: str, limit: int | None = None) -> str:
    """Return text that no terminal obeys and that holds no Markdown sign for strong words."""
    return visible(text, limit).replace("**", "*⟨U+002A⟩")
