"""The projects a scorer is exported to: the files each gets, and what none of our words can say there."""

from __future__ import annotations

import msgspec


class Target(msgspec.Struct, frozen=True):
    """`could_not_judge` says what a failure becomes; `cannot_express` lists what is lost."""

    name: str
    template: str
    could_not_judge: str
    cannot_express: tuple[str, ...]
    task: str | None = None  # a second template, of a YAML file


NO_DETAILS = "only the number arrives: the code, what was parsed and the message stay behind"

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            "trl",
            "trl.py.txt",
            "`None`: TRL leaves the completion out of the group's mean and of the loss, and logs a warning",
            (
                "why it could not be judged (only its code, in the completions table)",
                "a completion of several assistant messages: the last one is judged",
            ),
        ),
        Target(
            "verl",
            "verl.py.txt",
            "`CouldNotJudge` is raised and the run stops: a NaN would spread over the batch, and there is no None",
            (
                "one completion that could not be judged, in a run that goes on",
                "the example's id and prompt: a scorer that reads them gets `0` and an empty text",
                "end tokens: verl drops special tokens before it asks, so a completion with and without them read the same",
            ),
        ),
        Target(
            "openrlhf",
            "openrlhf.py.txt",
            "`CouldNotJudge` is raised: OpenRLHF logs it and gives the sample no reward",
            (
                "where the completion begins and ends: it is what follows the prompt in the decoded text, less one end token",
                "a completion that spells the end token as text: it reads as one that ended there",
                "answers that are not text: labels arrive as they stand in the file",
                NO_DETAILS,
            ),
        ),
        Target(
            "verifiers",
            "verifiers.py.txt",
            "v1: `CouldNotJudge` is raised, the trace records the error and the reward stays None; classic: NaN, "
            "because a raised error becomes 0.0 there",
            (
                "the example's id and prompt: a scorer that reads them gets `0` and an empty text",
                "classic: an answer that is the number 0 (its results leave it out: write answers as text)",
                NO_DETAILS,
            ),
        ),
        Target(
            "inspect",
            "inspect.py.txt",
            "`Score.unscored`: left out of the metrics and counted as unscored",
            (
                "answers that are not text: a target is a text or a list of texts",
                "mean with failures as 0, and bounds: Inspect's accuracy is over what was scored",
            ),
        ),
        Target(
            "lm-eval",
            "lm-eval.py.txt",
            "NaN in the samples, left out of `reward`, counted in `reward_failures_as_zero` and `could_not_judge`",
            (
                "a standard error of `reward`: the harness has none for a mean of ours",
                "several generations of one row: the first is judged",
                "white space that a stop string or a filter removed before the scorer is asked",
                NO_DETAILS,
            ),
            task="lm-eval.yaml.txt",
        ),
    )
}


def limits_table() -> str:
    """Return the Markdown table of docs/adapters.md: what "could not judge" becomes, and what a target cannot express."""
    rows = ["| target | could not judge | cannot express |", "|---|---|---|"]
    for target in TARGETS.values():
        rows.append(f"| {target.name} | {target.could_not_judge} | {'; '.join(target.cannot_express)} |")
    return "\n".join(rows)
