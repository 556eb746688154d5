"""What a trainer's reward function judged, as a run folder: learning at scale with the lab's evidence attached.

While training, every process appends what it judged to a file of its own beside the run. When training ends, the files
become examples and completions, and Loop A judges them once more into a run folder with room and manifest. An example
of that run is one prompt at one step, `step-000010/ID`, because the policy changes from step to step.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.adapters.exported import ExportedScorer, completion_text, plain
from lockedroom.adapters.writing import Source, write_import
from lockedroom.errors import BadInput, LockedroomError
from lockedroom.jsonl import encode_lines, read_batches
from lockedroom.loops.evaluate import Evaluated, evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.records import Completion, Example, Failure, Record, Score
from lockedroom.results.run_folder import RECORDS, whole_bytes, write_atomically
from lockedroom.wording import counted

SUFFIX = ".rollouts"


class Rollout(msgspec.Struct, frozen=True, gc=False):
    """One completion that a reward function was asked about, and what it answered."""

    step: int
    id: str
    prompt: str
    expected_answer: Any
    completion: Completion | None
    result: Score | Failure


class TrainingLog:
    """Collects rollouts once it was begun, and ignores them until then."""

    def __init__(self, scorer: ExportedScorer) -> None:
        self._scorer = scorer
        self._file: Path | None = None
        self._training: Callable[[], bool] | None = None

    def begin(
        self,
        out: Path,
        *,
        step: int,
        process: int = 0,
        processes: int = 1,
        training: Callable[[], bool] | None = None,
    ) -> None:
        """Append to this process's file from now on; what an interrupted run wrote from `step` on is dropped.

        `training()` says whether the model is being trained: what is judged in an evaluation is left out.
        Raises BadInput when the run folder exists, or files of a run that is not being continued.
        """
        if out.exists():
            raise BadInput(f"{out}: exists already; name another folder for the run of this training")
        self._file = folder_of(out) / f"process-{process:05d}.jsonl"
        if step == 0 and self._file.exists():
            raise BadInput(
                f"{self._file.parent}: holds another training's rollouts; remove it, or name another run folder"
            )
        self._training = training
        self._file.parent.mkdir(parents=True, exist_ok=True)
        gone = [path for path in _files(out) if process == 0 and _process_of(path) >= processes]
        for path in (self._file, *gone):
            # A line that a kill tore belongs to the last step, which is done again.
            kept = [row for row in _rollouts(path, stop=whole_bytes(path)) if row.step < step] if path.exists() else []
            write_atomically(path, encode_lines(kept))

    def add(
        self,
        step: int,
        *,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Any] | None,
        answers: Sequence[Any],
        results: Sequence[Score | Failure],
        ids: Sequence[str] | None = None,
    ) -> None:
        """Append what was judged at a step."""
        if self._file is None or (self._training is not None and not self._training()):
            return
        rows = []
        for i, (prompt, completion, answer, result) in enumerate(
            zip(prompts, completions, answers, results, strict=True)
        ):
            text = completion_text(plain(completion))
            tokens = None if completion_ids is None else tuple(int(token) for token in completion_ids[i])
            whole = prompt if isinstance(prompt, str) else encode_lines([prompt]).decode().rstrip("\n")
            name = (
                ids[i] if ids is not None else hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:16]
            )
            drawn = None if text is None else Completion(text, token_ids=tokens)
            rows.append(Rollout(step, name, whole, plain(answer), drawn, result))
        with open(self._file, "ab") as file:
            file.write(encode_lines(rows))

    def close(self, out: Path, *, draws: int, declared: Mapping[str, Mapping[str, Any]]) -> Evaluated:
        """Make the run folder of everything that all processes judged.

        Raises BadInput when nothing was judged, or when a verdict that was paid differs from the one made now.
        """
        folder = folder_of(out)
        self._file = None
        rows = [row for path in _files(out) for row in _rollouts(path)]
        if not rows:
            raise BadInput(f"{folder}: nothing was judged while training, so there is no run to write")
        examples, records = _grouped(rows, draws)
        made = folder / "made"
        source = Source("training", [str(path) for path in _files(out)])
        write_import(made, examples, records, source, declared)
        target = self._scorer.identity
        config = EvaluateConfig(
            dataset=str(made / "examples.jsonl"),
            completions=str(made / "completions.jsonl"),
            scorer=target.target,
            scorer_sha256=target.scorer.source_sha256,
            scorer_fingerprint=target.scorer.fingerprint,
            split="training",
        )
        done = evaluate(config, out, command=("lockedroom", "training-log", str(out)))
        _refuse_other_verdicts(records, out)
        return done


def folder_of(out: Path) -> Path:
    """Return where the rollouts of a run are kept while it is made."""
    return out.with_name(f"{out.name}{SUFFIX}")


def _files(out: Path) -> list[Path]:
    return sorted(folder_of(out).glob("process-*.jsonl"))


def _process_of(path: Path) -> int:
    return int(path.stem.removeprefix("process-"))


def trl_callback(log: TrainingLog, out: str | Path) -> Any:
    """Return a `transformers.TrainerCallback` that writes the run folder `out` when a TRL trainer has finished."""
    from accelerate import PartialState  # type: ignore[import-untyped,import-not-found,unused-ignore]
    from transformers import TrainerCallback  # type: ignore[import-not-found,unused-ignore]

    path = Path(out).resolve()

    class RunFolderCallback(TrainerCallback):  # type: ignore[misc,unused-ignore]  # untyped where it is not installed
        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:  # noqa: ARG002
            training = None if model is None else (lambda: model.training)
            here = PartialState()
            log.begin(
                path,
                step=state.global_step,
                process=here.process_index,
                processes=here.num_processes,
                training=training,
            )

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            PartialState().wait_for_everyone()
            if not state.is_world_process_zero:
                return
            try:
                log.close(path, draws=args.num_generations, declared=_declared(args))
            except LockedroomError as error:  # the training is done, and what comes after it should still run
                logging.getLogger("lockedroom").error("%s (the rollouts are kept in %s)", error, folder_of(path))

    return RunFolderCallback()


def _declared(args: Any) -> dict[str, dict[str, Any]]:
    """Return what TRL's arguments say of the policy and of how it was sampled."""
    import trl  # type: ignore[import-not-found,unused-ignore]

    sampling = {
        "temperature": args.temperature,
        "top_p": args.top_p,
        "top_k": args.top_k,
        "max_tokens": args.max_completion_length,
        "seed_scheme": f"{type(args).__name__} seed {args.seed}",
    }
    policy = {"model": f"{args.output_dir} (in training)", "trainer": f"trl {trl.__version__} {type(args).__name__}"}
    return {"sampling": {key: value for key, value in sampling.items() if value is not None}, "policy": policy}


def _grouped(rows: Sequence[Rollout], draws: int) -> tuple[list[Example], list[Record]]:
    """Make examples of (step, prompt) with `draws` completions each; a prompt that came twice at a step gives two."""
    groups: dict[tuple[int, str], list[Rollout]] = {}
    for row in rows:
        groups.setdefault((row.step, row.id), []).append(row)
    examples: list[Example] = []
    records: list[Record] = []
    for (step, name), group in sorted(groups.items(), key=lambda item: item[0]):
        for start in range(0, len(group), draws):
            part = group[start : start + draws]
            example_id = f"step-{step:06d}/{name}" + (f"#{start // draws + 1}" if start else "")
            where = {"step": step, "example": name}
            examples.append(
                Example(id=example_id, prompt=part[0].prompt, expected_answer=part[0].expected_answer, metadata=where)
            )
            records += [Record(example_id, i, row.completion, row.result) for i, row in enumerate(part)]
    return examples, records


def _refuse_other_verdicts(paid: Sequence[Record], out: Path) -> None:
    """A verdict that was paid and cannot be made again means that the reward was not a function of the completion."""
    now = {(row.id, row.draw): row.result for batch in read_batches(out / RECORDS, Record) for row in batch.rows}
    differing = [row for row in paid if row.completion is not None and now[row.id, row.draw] != row.result]
    if differing:
        first = differing[0]
        raise BadInput(
            f"{out}: {len(differing)} of {counted(len(paid), 'verdict')} that were paid while training are not the ones made now, "
            f"first for {first.id!r}, draw {first.draw}; the scorer is not deterministic, or ran out of time: audit it"
        )


def _rollouts(path: Path, stop: int | None = None) -> list[Rollout]:
    return [row for batch in read_batches(path, Rollout, stop=stop) for row in batch.rows]
