"""Which knob was turned between two runs in one room: the policy, or the compute spent on selection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from lockedroom.errors import BadInput, NotComparable
from lockedroom.results.comparison.room_difference import shown
from lockedroom.safeguards.manifest import Manifest
from lockedroom.visible import visible

KNOBS = ("policy", "selection")
SEEDS = "seeds"  # in a policy's identity: how it derives random numbers, which changes draws and not what is drawn from
NOTHING, RESAMPLING = "nothing", "resampling"


class Turned(msgspec.Struct, frozen=True):
    """`knobs` are those that differ; `word` is them, or `resampling` (only the seed differs), or `nothing`.

    `differences` say what differs, one line each; `meaning` is a sentence for the reader.
    """

    knobs: tuple[str, ...]
    word: str
    differences: list[str]
    meaning: str


def find_turned(a: Manifest, b: Manifest) -> Turned:
    """Return what was turned from A to B.

    A recorded policy is its declared identity and the sha256 of its completions; its name may be a file name and does
    not count. The draws of two runs without a selector are measurement effort, not selection.
    """
    policy = _differences("policy", _policy(a), _policy(b))
    selection = _differences("selection", _selection(a), _selection(b))
    knobs = tuple(knob for knob, found in zip(KNOBS, (policy, selection), strict=True) if found)
    random = _differences("sampling", _random_numbers(a), _random_numbers(b))
    if not knobs and random:
        return Turned((), RESAMPLING, random,
                      "only the seed differs: the same policy was drawn again, so any difference is luck")  # fmt: skip
    if not knobs:
        return Turned((), NOTHING, [], "nothing was turned: policy, selection and seed are the same, "
                                       "so any difference is noise of the engine")  # fmt: skip
    return Turned(knobs, " and ".join(knobs), policy + selection, _meaning(a, b, knobs))


def check_knobs(turned: Turned, named: Sequence[str], label_a: str, label_b: str) -> None:
    """Refuse two knobs at once unless both were named, and a knob that was turned while only another was named."""
    for name in named:
        if name not in KNOBS:
            raise BadInput(f"--knobs {visible(name, 60)!r}: no such knob; name some of {', '.join(KNOBS)}")
    unnamed = [knob for knob in turned.knobs if knob not in named]
    if unnamed and (named or len(turned.knobs) > 1):
        listed = "".join(f"\n  - {line}" for line in turned.differences)
        raise NotComparable(
            f"not comparable: from {label_a} (A) to {label_b} (B) {turned.word} changed, so a difference could not be "
            f"put down to one of them:{listed}\n  what to do: change one at a time, or name what you mean to compare: "
            f"--knobs {','.join(turned.knobs)}"
        )


def _policy(manifest: Manifest) -> dict[str, Any]:
    policy = manifest.policy
    if policy.kind == "recorded":
        return {"kind": policy.kind, **{f"identity.{key}": value for key, value in policy.identity.items()},
                "completions_sha256": manifest.inputs.completions_sha256}  # fmt: skip
    # Weights that are pinned by their hash are the same policy under any name.
    pinned = isinstance(policy.identity.get("weights_sha256"), str) and not str(
        policy.identity["weights_sha256"]
    ).startswith("hub commit unknown")
    return {"kind": policy.kind, **({} if pinned else {"name": policy.name}),
            **{f"identity.{key}": value for key, value in policy.identity.items() if key != SEEDS}}  # fmt: skip


def _random_numbers(manifest: Manifest) -> dict[str, Any]:
    """Return what decides which completions of one distribution were drawn."""
    return {"seed": manifest.seed, SEEDS: manifest.policy.identity.get(SEEDS, "not said")}


def _selection(manifest: Manifest) -> dict[str, Any]:
    selector = manifest.selection.get("selector", "none")
    if selector == "none":
        return {"selector": "none"}
    return {field: value for field, value in manifest.selection.items() if field != "draws"}


def _differences(knob: str, a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    fields = [field for field in {**a, **b} if field not in a or field not in b or a[field] != b[field]]
    return [
        f"{knob}.{visible(field, 60)}: {shown(a.get(field, 'absent'))} in A, {shown(b.get(field, 'absent'))} in B"
        for field in fields
    ]


def _meaning(a: Manifest, b: Manifest, knobs: Sequence[str]) -> str:
    if knobs == ("selection",):
        return (
            "the policy is the same: what differs is the compute spent on choosing, so this is selection, not learning"
        )
    if knobs == KNOBS:
        return "policy and selection both changed: the difference belongs to the two together"
    if a.policy.kind == b.policy.kind == "recorded" and a.policy.identity == b.policy.identity:
        said = "is the same" if a.policy.identity else "was not given"
        return (
            f"the completions are others, while the declared identity of the policy {said}: this may be another policy "
            "or the same one drawn again"
        )
    return "the policy was changed"
