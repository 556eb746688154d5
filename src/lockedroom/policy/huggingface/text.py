"""Text to token ids and back, for any tokenizer of the `transformers` library.

A completion's text is its ids decoded without special tokens, by themselves. `encode` is the other direction and never
makes a special token out of ordinary text, so text that spells `<|end|>` stays text. A prompt is rendered by the model's
chat template, or taken as it is (`plain`) behind whatever start token the tokenizer puts there.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

from lockedroom.errors import BadInput
from lockedroom.policy.spans import spell
from lockedroom.records import Token
from lockedroom.visible import visible

LONGEST_SHOWN = 60
TEMPLATE_DAY = datetime.date(2026, 1, 1)
CLOCK = "strftime_now"  # by which a chat template asks for today's date


class TextCodec:
    """A tokenizer, how it renders prompts, and which tokens end a completion (`end_ids`, the usual one first)."""

    def __init__(self, tokenizer: Any, end_ids: Sequence[int], template: str, where: str) -> None:
        self.tokenizer = tokenizer
        self.end_ids = tuple(end_ids)
        self.where = where
        self.chat = _uses_chat(tokenizer, template, where)
        self._template = _on_one_day(_chat_template(tokenizer, where)) if self.chat else "{prompt}"
        self.special_ids = frozenset({*tokenizer.all_special_ids, *end_ids, *_special_added(tokenizer)})
        self.special_texts = tuple(sorted({tokenizer.convert_ids_to_tokens(i) for i in self.special_ids} - {None}))
        self.start_ids = _start_ids(tokenizer)
        self.shared_ids = self._shared_ids()

    def identity(self) -> dict[str, str]:
        """Return the hashes that pin how text becomes ids."""
        whole = self.tokenizer.backend_tokenizer.to_str().encode()
        template = self._template.encode()
        return {
            "tokenizer_sha256": hashlib.sha256(whole).hexdigest(),
            "template": "chat" if self.chat else "plain",
            "template_sha256": hashlib.sha256(template).hexdigest(),
            **({"template_day": TEMPLATE_DAY.isoformat()} if CLOCK in self._template else {}),
        }

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the canonical ids of a text, without start or end token; special tokens are read as ordinary text."""
        _refuse_surrogates(text)
        return tuple(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    def tokens(self, text: str) -> list[Token]:
        """Return the canonical tokens of a text. Raises BadInput where they do not spell it."""
        ids = self.encode(text)
        spelled = self.decode(ids)
        if spelled != text:
            raise BadInput(
                f"this policy's tokenizer cannot write {visible(text, LONGEST_SHOWN)}: its tokens spell "
                f"{visible(spelled, LONGEST_SHOWN)}"
            )
        return [
            Token(i, piece, start, end) for i, (piece, start, end) in zip(ids, spell(self.decode, ids), strict=True)
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; special tokens add nothing."""
        kept = [i for i in ids if i not in self.special_ids]
        text: str = self.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def prompt_ids(self, prompt: str) -> tuple[int, ...]:
        """Return what the model conditions on. Raises BadInput for a prompt that cannot be rendered faithfully."""
        _refuse_surrogates(prompt)
        ids = self._chat_ids(prompt) if self.chat else self._plain_ids(prompt)
        start = self.tokenizer.bos_token_id
        if len(ids) >= 2 and ids[0] == ids[1] == start:
            raise BadInput(
                f"begins with two start tokens ({self.tokenizer.bos_token}); take the one out of the prompt"
                + (" or the template" if self.chat else "")
            )
        return ids

    def _plain_ids(self, prompt: str) -> tuple[int, ...]:
        # Special tokens that stand in a plain prompt are meant: the person wrote the template.
        ids = tuple(self.tokenizer(prompt, add_special_tokens=False, split_special_tokens=False)["input_ids"])
        return (*self.start_ids, *ids) or (self._first_id(),)

    def _shared_ids(self) -> tuple[int, ...]:
        """Return what the chat template puts before every prompt, as far as two prompts that differ at once can tell."""
        if not self.chat:
            return ()
        pairs = zip(self._chat_ids("a"), self._chat_ids("1"), strict=False)
        return tuple(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    def _first_id(self) -> int:
        """Return what an empty prompt starts with: the start token, or as in GPT-2 the end token."""
        start: int | None = self.tokenizer.bos_token_id
        return self.end_ids[0] if start is None else start

    def _chat_ids(self, prompt: str) -> tuple[int, ...]:
        import jinja2

        mark = next((mark for mark in self.special_texts if mark in prompt), None)
        if mark is not None:
            raise BadInput(
                f"holds {visible(mark)}, which in a chat template is a control token and not text; take it out, or use "
                "--template plain"
            )
        try:
            rendered = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}],
                tokenize=False,
                add_generation_prompt=True,
                chat_template=self._template,
            )
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            said = visible(str(error) or type(error).__name__, 200)
            raise BadInput(
                f"the chat template of {self.where} cannot render it: {said}; use --template plain"
            ) from None
        if prompt.strip() not in rendered:
            raise BadInput(
                f"the chat template of {self.where} renders it without its text, as {visible(rendered, LONGEST_SHOWN)}; use "
                "--template plain"
            )
        return tuple(self.tokenizer(rendered, add_special_tokens=False, split_special_tokens=False)["input_ids"])


def _chat_template(tokenizer: Any, where: str) -> str:
    """Return a tokenizer's chat template, the default one where it has several."""
    named = tokenizer.chat_template
    found = named.get("default") if isinstance(named, dict) else named
    if isinstance(found, str):
        return found
    has = f"chat templates {', '.join(named)} and none named default" if isinstance(named, dict) else "no text for it"
    raise BadInput(f"{where}: its chat template cannot be used: it has {has}; use --template plain")


def _on_one_day(template: str) -> str:
    """Return a chat template that takes TEMPLATE_DAY for today, so that a prompt is the same tomorrow."""
    if CLOCK not in template:
        return template
    asked = {how for _, how in re.findall(CLOCK + r"\(\s*(['\"])(.*?)\1", template)}
    days = json.dumps({how: TEMPLATE_DAY.strftime(how) for how in sorted(asked)})
    return f"{{% macro {CLOCK}(how) -%}}{{{{ {days}[how] }}}}{{%- endmacro +%}}{template}"


def _uses_chat(tokenizer: Any, template: str, where: str) -> bool:
    if template == "chat" and not tokenizer.chat_template:
        raise BadInput(f"--template chat: {where} has no chat template; use --template plain")
    return template != "plain" and bool(tokenizer.chat_template)


def _special_added(tokenizer: Any) -> set[int]:
    return {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}


def _start_ids(tokenizer: Any) -> tuple[int, ...]:
    """Return the special tokens that the tokenizer puts before a text (and not those it puts behind)."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a", add_special_tokens=True)["input_ids"]
    for begin in range(len(whole) - len(bare) + 1):
        if whole[begin : begin + len(bare)] == bare:
            return tuple(whole[:begin])
    return ()


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(
            f"a lone surrogate at position {error.start}, which no tokenizer can read; repair the text"
        ) from None
