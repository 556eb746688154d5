"""The token X-ray: a run's own records, token by token, under the policy that wrote them and under a reference.

Nothing is drawn and nothing is judged again: ids, verdicts and rewards are the run's. Log-probabilities are computed again
by the policy, which is opened as the run named it and has to have the weights that the run recorded.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.errors import BadInput
from lockedroom.jsonl import open_for_reading, read_batches
from lockedroom.loops.learning.advantages_again import advantages_of_steps
from lockedroom.loops.learning.opening import LearnConfig
from lockedroom.loops.opening.policy import LEARNED_FOLDER, LEARNED_WEIGHTS, open_token_policy
from lockedroom.policy.backend import Backend
from lockedroom.policy.spans import spell
from lockedroom.protocols import TokenPolicy
from lockedroom.records import Completion, Example, FinishReason, PolicySpec, Record, Score
from lockedroom.results.evaluation.inspection import code_of
from lockedroom.results.microscope.xray import PromptToken, TokenRow, Xray
from lockedroom.results.run_folder import CONFIG, EXAMPLES, RECORDS
from lockedroom.safeguards.manifest import read_manifest
from lockedroom.visible import visible

SHOWN = 3
DRAWN_IN = ("run", "rescore")  # the settings of select and of rescore that name another run
WARMED = ("policy", "policy.safetensors")  # what a warm-up writes beside its losses


class Wanted(msgspec.Struct, frozen=True):
    """Which records: all that is given must hold. `step` is of a learning run; `show` is how many, from the first."""

    ids: tuple[str, ...] = ()
    draw: int | None = None
    code: str | None = None
    step: int | None = None
    show: int = SHOWN


class Found(msgspec.Struct, frozen=True):
    """A record with its example, and where it stands: its step, and its row of that step."""

    example: Example
    record: Record
    completion: Completion
    step: int | None
    row: int


def xray_run(
    run: Path,
    wanted: Wanted,
    *,
    policy: str | None = None,
    reference: str | None = None,
    threads: int = 1,
    backend: Mapping[str, Any] | None = None,
) -> list[Xray]:
    """Return the X-rays of the first records that are wanted.

    policy: who reads, when it is not the policy that the run names. backend: what is other than in the run's
    configuration; whether code from a model's folder may run is never taken from there. reference: what KL is measured to; of a learned
    policy it is by default the one that it was learned from. Raises BadInput for a run without token ids, and for
    policies that cannot be opened from here, have other weights, or another tokenizer.
    """
    manifest, config = read_manifest(run), _config(run)
    learned = _learn_config(run, config) if manifest.kind == "learn" else None
    found = _find(run, wanted, learned)
    if not found:
        return []
    drawn_by = config if policy is not None or learned is not None else _drawing_config(run, config)
    settings = _backend(run, drawn_by, backend or {})
    name = policy or (str(run) if learned is not None else str(drawn_by["policy"]))
    read_by = _opened(name, run, "--policy", threads, settings)
    if policy is None and learned is None:
        _check_same(run, manifest.policy, read_by.spec)
    base = reference or _learned_from(Path(name.removeprefix("hf:")))
    compared = None if base is None else _opened(base, run, "--reference", threads, settings)
    if reference is None and policy is None and learned is not None and compared is not None:
        _check_same(run, manifest.policy, compared.spec)  # a learning run's manifest names what it began with
    advantages = (
        advantages_of_steps(run, learned, {one.step for one in found if one.step is not None}) if learned else None
    )
    made = []
    for one in found:
        weighed, notes = advantages.of(one.step or 0, one.row) if advantages else (None, ())
        made.append(_xray(one, read_by, compared, name, base, weighed=weighed, notes=notes))
    return made


def _xray(
    found: Found,
    policy: TokenPolicy,
    reference: TokenPolicy | None,
    name: str,
    base: str | None,
    *,
    weighed: Sequence[float | None] | None,
    notes: Sequence[str],
) -> Xray:
    drawn, result = found.completion, found.record.result
    ids, prompt = drawn.token_ids or (), policy.prompt_ids(found.example.prompt)
    (logprobs,) = policy.logprobs([prompt], [ids])
    ref_logprobs = None if reference is None else _under(reference, policy, found, prompt)
    score = result if isinstance(result, Score) else None
    parsed = None if score is None else score.details.parsed
    span = _span_of(drawn.text, parsed)
    rows = _rows(found, policy, logprobs, ref_logprobs, weighed=weighed, span=span)
    if parsed is not None and span is None:
        notes = (*notes, "What was parsed does not stand in the text in these characters, so no line is marked.")
    verdict = f"{score.details.outcome.value}: {score.details.code}" if score else f"failure: {code_of(found.record)}"
    return Xray(
        id=found.example.id,
        draw=found.record.draw,
        step=found.step,
        policy=name,
        reference=base,
        text=drawn.text,
        verdict=verdict,
        reward=None if score is None else score.reward,
        parsed=parsed,
        scored_span=span,
        canonical=_canonical(policy, ids),
        drawn_logprob=drawn.logprob,
        prompt=tuple(
            _prompt_token(policy, prompt, i, piece) for i, (piece, _, _) in enumerate(spell(policy.decode, prompt))
        ),
        tokens=rows,
        notes=(*notes, *_recorded_notes(drawn, logprobs)),
    )


def _rows(
    found: Found,
    policy: TokenPolicy,
    logprobs: Sequence[float],
    ref_logprobs: Sequence[float] | None,
    *,
    weighed: Sequence[float | None] | None,
    span: tuple[int, int] | None,
) -> tuple[TokenRow, ...]:
    drawn = found.completion
    ids = drawn.token_ids or ()
    pieces = spell(policy.decode, ids)
    _check_spelling(found, policy, pieces)
    rows = []
    for t, (token, (piece, start, end)) in enumerate(zip(ids, pieces, strict=True)):
        ref = None if ref_logprobs is None else ref_logprobs[t]
        rows.append(
            TokenRow(
                id=token, piece=piece, start=start, end=end, logprob=logprobs[t], ref_logprob=ref,
                k1=None if ref is None else logprobs[t] - ref,
                recorded=drawn.token_logprobs[t] if drawn.token_logprobs else None,
                advantage=None if weighed is None else weighed[t],
                scored=span is not None and start < span[1] and end > span[0],
                mark=_mark(policy, drawn, t, (piece, start)),
            )
        )  # fmt: skip
    return tuple(rows)


def _canonical(policy: TokenPolicy, ids: Sequence[int]) -> int | None:
    """Return how many tokens the tokenizer makes of what these spell; None where it makes these."""
    spelled = tuple(ids[:-1] if ids[-1] in policy.end_ids else ids)
    canonical = tuple(policy.encode(policy.decode(spelled)))
    return None if canonical == spelled else len(canonical)


def _mark(policy: TokenPolicy, drawn: Completion, t: int, at: tuple[str, int]) -> str:
    ids = drawn.token_ids or ()
    piece, start = at
    last = t == len(ids) - 1
    if not piece and ids[t] in policy.end_ids:
        return "end"
    if last and drawn.finish_reason is FinishReason.LENGTH:
        return "token limit"
    if not piece:
        if policy.decode([ids[t]]):
            return "part of a character"
        return "end" if last and drawn.finish_reason is FinishReason.STOP else "special"
    return "after the text" if start >= len(drawn.text) else ""


def _prompt_token(policy: TokenPolicy, prompt: Sequence[int], place: int, piece: str) -> PromptToken:
    if piece:
        return PromptToken(prompt[place], piece)
    if policy.decode([prompt[place]]):
        return PromptToken(prompt[place], "", "part of a character")
    ends = prompt[place] in policy.end_ids
    return PromptToken(prompt[place], "", "start" if place == 0 else "end" if ends else "special")


def _span_of(text: str, parsed: str | None) -> tuple[int, int] | None:
    """Return where what was parsed stands in the text; the last place, which is where an answer is looked for."""
    at = text.rfind(parsed) if parsed else -1
    return (at, at + len(parsed)) if parsed and at >= 0 else None


def _under(reference: TokenPolicy, policy: TokenPolicy, found: Found, prompt: Sequence[int]) -> tuple[float, ...]:
    ids = found.completion.token_ids or ()
    if tuple(reference.prompt_ids(found.example.prompt)) != tuple(prompt) or spell(reference.decode, ids) != spell(
        policy.decode, ids
    ):
        raise BadInput(
            f"--reference {reference.spec.name}: has another tokenizer than {policy.spec.name}, so their tokens cannot be "
            "compared one by one; name a reference with the same tokenizer and template"
        )
    return reference.logprobs([prompt], [ids])[0]


def _recorded_notes(drawn: Completion, logprobs: Sequence[float]) -> list[str]:
    recorded = drawn.token_policy_logprobs
    if recorded is None:
        return []
    off = max(abs(a - b) for a, b in zip(recorded, logprobs, strict=True))
    return [f"The run recorded the policy's log-probabilities; computed again they differ by at most {off:.0e}."]


def _check_spelling(found: Found, policy: TokenPolicy, pieces: Sequence[tuple[str, int, int]]) -> None:
    spelled = "".join(piece for piece, _, _ in pieces)
    if not spelled.startswith(found.completion.text):
        raise BadInput(
            f"id {found.example.id!r}, draw {found.record.draw}: with the tokenizer of {policy.spec.name} its token ids spell "
            f"{visible(spelled, 60)!r}, and its text is {visible(found.completion.text, 60)!r}; name the policy that wrote it "
            "with --policy"
        )


def _find(run: Path, wanted: Wanted, learned: LearnConfig | None) -> list[Found]:
    """Return the first wanted records that hold a completion. Raises BadInput where these have no token ids."""
    if wanted.step is not None and learned is None:
        raise BadInput(f"--step {wanted.step}: {run} is not a learning run; its records have no steps")
    group = 0 if learned is None else (learned.prompts or 1) * learned.learner.group
    found: list[Found] = []
    met: set[str] = set()
    for place, (example, record) in enumerate(_pairs(run, learned is not None)):
        step, row = divmod(place, group) if group else (None, place)
        met.update({example.id}.intersection(wanted.ids))
        if not _matches(record, step, wanted) or record.completion is None:
            continue
        if not record.completion.token_ids:
            raise BadInput(
                f"{run}: its records hold no token ids, only text (recorded completions and servers give none); draw them "
                "with a policy whose tokens can be read, e.g. --policy tiny or hf:PATH"
            )
        found.append(Found(example, record, record.completion, step, row))
        if len(found) == wanted.show:
            return found
    absent = [one for one in wanted.ids if one not in met]
    if absent:
        raise BadInput(f"--id {visible(absent[0], 60)!r}: no such example in {run}")
    return found


def _matches(record: Record, step: int | None, wanted: Wanted) -> bool:
    return (
        (not wanted.ids or record.id in wanted.ids)
        and wanted.draw in (None, record.draw)
        and wanted.code in (None, code_of(record))
        and wanted.step in (None, step)
    )


def _pairs(run: Path, learning: bool) -> Iterator[tuple[Example, Record]]:
    """Yield every record with its example; a learning run comes back to its examples, other runs go through them in order."""
    examples = (example for batch in read_batches(run / EXAMPLES, Example) for example in batch.rows)
    known = {example.id: example for example in examples} if learning else {}
    example: Example | None = None
    for batch in read_batches(run / RECORDS, Record):
        for record in batch.rows:
            if learning:
                example = known.get(record.id)
            while not learning and (example is None or example.id != record.id):
                example = next(examples, None)
                if example is None:
                    break
            if example is None:
                raise BadInput(f"{run}: records and examples do not line up; run lockedroom verify {run}")
            yield example, record


def _config(run: Path) -> dict[str, Any]:
    path = run / CONFIG
    with open_for_reading(path) as file:
        try:
            return tomllib.loads(file.read().decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadInput(f"{path}: not TOML: {error}; run lockedroom verify {run}") from None


def _learn_config(run: Path, config: dict[str, Any]) -> LearnConfig:
    try:
        return msgspec.convert(config, LearnConfig)
    except msgspec.ValidationError as error:
        raise BadInput(f"{run / CONFIG}: not the configuration of a learning run: {error}") from None


def _backend(run: Path, config: dict[str, Any], changes: Mapping[str, Any]) -> Backend:
    try:
        return msgspec.convert({**config.get("backend", {}), "trust_remote_code": False, **changes}, Backend)
    except (msgspec.ValidationError, TypeError) as error:
        raise BadInput(f"{run / CONFIG}: backend: {error}; run lockedroom verify {run}") from None


def _drawing_config(run: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of the run that drew these completions; select and rescore name the run they read."""
    at, seen = run, {run}
    while not isinstance(config.get("policy"), str):
        source = next((config[key] for key in DRAWN_IN if isinstance(config.get(key), str)), None)
        if source is None or Path(source) in seen:
            raise BadInput(
                f"{at}: says no policy that could be opened; name the one that wrote its completions with --policy"
            )
        if not (Path(source) / CONFIG).is_file():
            raise BadInput(
                f"{at}: its completions were drawn in {source!r}, which is not there from here; go where it is, or name the "
                "policy with --policy"
            )
        at = Path(source)
        seen.add(at)
        config = _config(at)
    return config


def _opened(name: str, run: Path, flag: str, threads: int, backend: Backend) -> TokenPolicy:
    try:
        return open_token_policy(name, threads=threads, backend=backend)
    except BadInput as error:
        raise BadInput(f"{run}: needs the policy {name!r}, and {error} (or name it with {flag})") from None


def _check_same(run: Path, recorded: PolicySpec, opened: PolicySpec) -> None:
    """Refuse a policy whose hashes are not those in the manifest."""
    pins = [key for key in recorded.identity if key.endswith("sha256")]
    wrong = [key for key in pins if opened.identity.get(key) != recorded.identity[key]]
    if wrong:
        raise BadInput(
            f"{run}: its manifest names {recorded.name} with other {', '.join(wrong)} than what {opened.name} holds now; "
            "restore those weights, or say who shall read with --policy and --reference"
        )


def _learned_from(policy: Path) -> str | None:
    """Return the name of the policy that this one was learned from, as the folder beside it says; None where none does."""
    folder = policy if (policy / CONFIG).is_file() else policy.parent
    inside = None if folder == policy else policy.name
    learning = (folder / LEARNED_WEIGHTS).is_file() or (folder / LEARNED_FOLDER).is_dir()
    warming = (folder / "losses.jsonl").is_file() and inside in (None, *WARMED)
    if not (folder / CONFIG).is_file() or not (
        warming or (learning and inside in (None, LEARNED_WEIGHTS, LEARNED_FOLDER))
    ):
        return None
    name = _config(folder).get("policy", "tiny")  # what both take where nothing is said
    return name if isinstance(name, str) else None
