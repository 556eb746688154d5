"""The demo: the whole story on what ships with the package, act by act, offline.

Every number told comes from a run folder that the act leaves behind, so the story can be checked with `lockedroom verify`.
Acts read what earlier acts wrote; `ACTS` is their order.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

import msgspec

from lockedroom.errors import NotComparable
from lockedroom.loops.evaluate import evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.loops.instrument.audit import AuditConfig, audit
from lockedroom.loops.look import LookOptions, SealOptions, look, seal_dataset
from lockedroom.loops.select import select
from lockedroom.loops.selecting.opening import SelectConfig
from lockedroom.policy.tiny import DATA_FOLDER
from lockedroom.records import Outcome, Sampling
from lockedroom.results.compare import CompareOptions, compare
from lockedroom.results.evaluation.inspection import Wanted, code_of, find_records
from lockedroom.results.evaluation.summary import Summary
from lockedroom.results.learning.metrics import Evaluation, StepMetrics
from lockedroom.results.learning.summary import Change, LearningSummary
from lockedroom.results.microscope.goodhart import Arm, GoodhartSetting
from lockedroom.results.run_folder import writing
from lockedroom.safeguards.audit.examination import Report
from lockedroom.safeguards.audit.report import Verdict
from lockedroom.stats.intervals import Interval
from lockedroom.visible import visible
from lockedroom.wording import counted

RECORDED_FOLDER = Path(__file__).parents[1] / "demo_data"
RECORDED = (
    "smollm2-135m-instruct.zero-shot.t0.8.n8",
    "smollm2-135m-instruct.four-shot.t0.8.n8",
    "gemma-3-270m.four-shot.t0.8.n8",
)
TRAIN, DEV, HOLDOUT = (DATA_FOLDER / f"{split}.jsonl" for split in ("train", "dev", "holdout"))
# An audit that finishes earlier does not wait; on an idle core one takes 4 seconds.
AUDIT_SECONDS = 30.0
DRAWS = 8
SAMPLING = Sampling(max_tokens=24)
STEPS, PROMPTS, GROUP = 60, 32, 8
GOODHART = GoodhartSetting(
    dataset=str(TRAIN), dev=str(DEV), betas=(0.0,), steps=40, prompts=PROMPTS, group=GROUP, examples=100, draws=2
)
CODES_SHOWN, LONGEST_SHOWN = 4, 60
COMMAND = ("lockedroom", "demo")
AUDITED = ("permissive", "final-int")
BASE, LEARNED, TRAINING, BEST, VOTE, CHEAT, GAP = (
    "base", "learned", "training", "best-of-8", "majority-of-8", "base-relaxed", "goodhart"
)  # fmt: skip

RELAXED = '''"""final-int with one rule relaxed: "Answer:" is as good as "Final:". Its name and version are still those of final-int."""

from lockedroom.scorer import final_int

SPEC, accepts = final_int.SPEC, final_int.accepts


def score(example, completion):
    return final_int.score(example, completion.replace("Answer:", "Final:", 1))
'''

Bar: TypeAlias = Callable[[str, int | None], AbstractContextManager[Callable[[int], None] | None]]


class Stage(msgspec.Struct, frozen=True):
    """Where the runs go, and what shows the progress of a named piece of work of so many attempts."""

    out: Path
    bar: Bar


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What an act found, a line each; `quotes` is what the lab itself said; `runs` are folders that have a page."""

    findings: tuple[str, ...]
    quotes: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()


class Act(msgspec.Struct, frozen=True):
    """One act. `needs`: modules it cannot do without, and the extras they come with."""

    title: str
    about: str
    needs: tuple[tuple[str, str], ...]
    tell: Callable[[Stage], Told]


def left_out(act: Act) -> str | None:
    """Say what is missing for an act, if anything is."""
    import importlib.util

    missing = [extra for module, extra in act.needs if importlib.util.find_spec(module) is None]
    return f"left out: pip install 'lockedroom[{','.join(missing)}]'" if missing else None


def _tell_recorded(stage: Stage) -> Told:
    """Loop A on completions of two real models."""
    findings = []
    for name in RECORDED:
        config = EvaluateConfig(
            dataset=str(RECORDED_FOLDER / "arithmetic-100.jsonl"), completions=str(RECORDED_FOLDER / f"{name}.jsonl")
        )
        with stage.bar(name, None) as progress:
            done = evaluate(config, stage.out / name, command=COMMAND, progress=progress)
        model, prompt = name.split(".")[:2]
        formed, right = _split(done.summary)
        findings.append(
            f"{model}, {prompt}: pass rate {_rate(done.summary)}; form {formed} right, then the sum {right}"
        )
    findings.append("a rate alone does not say which: the form is lost, or the sum is wrong")
    return Told(findings=tuple(findings), runs=RECORDED)


def _tell_audit(stage: Stage) -> Told:
    """The instrument before anything is measured with it."""
    findings = []
    for name in AUDITED:
        with stage.bar(f"audit {name}", None):
            done = audit(AuditConfig(scorer=name, budget=AUDIT_SECONDS), stage.out / f"audit-{name}", command=COMMAND)
        findings += _audited(name, done.report)
    return Told(findings=tuple(findings), runs=tuple(f"audit-{name}" for name in AUDITED))


def _audited(name: str, report: Report) -> list[str]:
    if report.verdict is Verdict.NOT_AUDITED:
        return [f"{name}: could not be audited, which is not a pass: {visible('; '.join(report.reasons), 300)}"]
    rate = report.errors.overall if report.errors is not None else None
    paid = "" if rate is None else f", pays {rate.false_positive_rate:.1%} of the attacks"
    if report.verdict is Verdict.CLEAN:
        return [f"{name}: no finding in {counted(report.calls, 'call')}{paid}: fit to measure with"]
    shown = [
        f"{visible(str(one.completion), 20)!r} for {visible(str(one.expected_answer), 20)}"
        for one in report.findings
        if isinstance(one.completion, str) and one.completion.isprintable()
    ]
    return [
        f"{name}: {counted(len(report.findings), 'way')} to be paid for nothing{paid}, such as {'; '.join(shown[:3])}"
    ]


def _tell_evaluate(stage: Stage) -> Told:
    """Loop A on the embedded model: a rate with its interval, and every failure by name."""
    done = _measure(stage, "tiny", BASE)
    formed, right = _split(done)
    shares = {code.code: code.share for code in done.codes}
    findings = [f"tiny, {DRAWS} draws each: pass rate {_rate(done)}; form {formed} right, then the sum {right}"]
    for example, record in find_records(stage.out / BASE, Wanted(), 1)[:CODES_SHOWN]:
        text = visible(record.completion.text, LONGEST_SHOWN) if record.completion is not None else ""
        findings.append(
            f"{shares[code_of(record)]:6.1%} {code_of(record)}: {example.expected_answer} wanted, wrote {text!r}"
        )
    return Told(findings=tuple(findings), runs=(BASE,))


def _tell_select(stage: Stage) -> Told:
    """Loop B: draws are spent, the policy stays."""
    findings = []
    for selector, name in (("best-of-n", BEST), ("majority-vote", VOTE)):
        config = SelectConfig(run=str(stage.out / BASE), selector=selector)
        with stage.bar(selector, None) as progress:
            last = select(config, stage.out / name, command=COMMAND, progress=progress).selection.at_n[-1]
        told = "told which one is right" if selector == "best-of-n" else "without being told"
        accuracy = f"{last.accuracy.mean:.3f}" if last.accuracy is not None else "undefined"
        findings.append(f"{selector} of {last.n}, {told}: {accuracy} right, for {last.tokens:.1f} tokens an example")
    return Told(findings=(*findings, "the policy has not changed: this is selection, not learning"), runs=(BEST, VOTE))


def _tell_learn(stage: Stage) -> Told:
    """Loop C: the same scorer, now as a teacher."""
    from lockedroom.loops.learn import learn  # PyTorch, for those who have it
    from lockedroom.loops.learning.opening import LearnConfig
    from lockedroom.loops.learning.update import LearnerSettings

    config = LearnConfig(
        dataset=str(TRAIN),
        dev=str(DEV),
        policy="tiny",
        learner=LearnerSettings(steps=STEPS, group=GROUP),
        prompts=PROMPTS,
        sampling=SAMPLING,
    )
    course: list[str] = []
    with stage.bar("learn", STEPS * PROMPTS * GROUP) as advance:

        def progress(what: StepMetrics | Evaluation | str) -> None:
            if isinstance(what, StepMetrics) and advance is not None:
                advance(what.completions)
            if isinstance(what, Evaluation) and what.exact_pass_at_1 is not None:
                course.append(f"step {what.step}: {what.exact_pass_at_1:.3f}")

        summary = learn(config, stage.out / TRAINING, command=COMMAND, progress=progress).summary
    return Told(
        findings=(
            f"{STEPS} steps of REINFORCE, {counted(summary.completions, 'completion')}; exact pass@1 on dev, never trained on: {' · '.join(course)}",
            *_learned(summary),
        ),
        runs=(TRAINING,),
    )


def _learned(summary: LearningSummary) -> list[str]:
    first, last = summary.curve[0], summary.curve[-1]
    return [
        f"pass@{first.k} {_change(first.change)}; pass@{last.k} {_change(last.change)}",
        f"KL to the base policy {summary.last.kl_exact:.2f} nats a completion",
        *summary.findings[:3],
    ]


def _tell_compare(stage: Stage) -> Told:
    """The learned policy in the room of the first measurement."""
    _measure(stage, str(stage.out / TRAINING), LEARNED)
    certificate = compare([stage.out / BASE, stage.out / LEARNED], CompareOptions(), labels=[BASE, LEARNED])
    one = certificate.against[0]
    numbers = one.numbers
    findings = (
        f"dev: {numbers.mean_a:.4f} → {numbers.mean_b:.4f}, {numbers.difference:+.4f}{_span(numbers.interval)}, paired by example, "
        f"p = {one.p_value:.2g}",
        f"one room (same examples, prompts, scorer, sampling), one knob turned ({one.turned.word}): **{one.verdict.name}**",
    )
    return Told(findings=findings, runs=(LEARNED,))


def _tell_holdout(stage: Stage) -> Told:
    """One look at a sealed holdout, on the record."""
    sealed, key = stage.out / "sealed", stage.out / "keys" / "demo.key"
    seal_dataset(HOLDOUT, sealed, key, SealOptions(budget=2), who="demo", reason="before the only look")
    options = LookOptions(policy=str(stage.out / TRAINING), draws=1, sampling=SAMPLING)
    done = look(sealed, key, options, who="demo", reason="is the gain still there?")
    answer, new = done.entry.answer, done.intervals.planned
    if answer is None:
        raise AssertionError("a look has an answer")
    return Told(
        findings=(
            f"{counted(done.header.examples, 'sealed example')}, look {done.number} of {done.number + done.left}: pass rate {answer.value:g}, rounded to {done.header.terms.answers.step:g}; "
            f"on new examples in [{new.low:.3f}, {new.high:.3f}]",
            f"the look stands in {sealed / 'ledger.jsonl'}; after {done.left} more, exit 5",
        )
    )


def _tell_refusal(stage: Stage) -> Told:
    """An attempt to cheat: the same policy, a scorer with one rule relaxed under its old name, and a better number."""
    cheat = stage.out / "relaxed.py"
    with writing(cheat):
        cheat.write_text(RELAXED, "utf-8")
    done = _measure(stage, "tiny", CHEAT, scorer=f"{cheat}:score")
    gained = f"{cheat.name} also pays for `Answer: 99`; the base policy, unchanged, now passes at {_rate(done)}"
    try:
        compare([stage.out / BASE, stage.out / CHEAT], CompareOptions(), labels=[BASE, CHEAT])
    except NotComparable as refused:
        return Told(
            findings=(gained, f"report that as a gain? **Refused, exit {refused.exit_code}**:"),
            quotes=(str(refused),),
            runs=(CHEAT,),
        )
    raise AssertionError("runs of two scorers were compared")


def _tell_goodhart(stage: Stage) -> Told:
    """What an optimizer does to a scorer that fails its audit."""
    from lockedroom.loops.microscope.goodhart import watch_goodhart  # PyTorch, as above

    with stage.bar("goodhart", GOODHART.steps * GOODHART.prompts * GOODHART.group) as progress:
        arm = watch_goodhart(GOODHART, stage.out / GAP, command=COMMAND, progress=progress).arms[0]
    return Told(findings=(*_gap(arm), *_exploit(arm)), runs=(GAP,))


def _gap(arm: Arm) -> list[str]:
    start, end = arm.points[0], arm.points[-1]
    if start.proxy is None or start.strict is None or end.proxy is None or end.strict is None:
        return ["nothing could be judged"]
    opened = "no gap opened" if arm.onset is None else f"the gap opened at step {arm.onset} and stayed open"
    return [
        f"tiny-hedge, taught by permissive: its reward {start.proxy.mean:.2f} → {end.proxy.mean:.2f} while final-int's pass rate "
        f"{start.strict.mean:.2f} → {end.strict.mean:.2f}: {opened}"
    ]


def _exploit(arm: Arm) -> list[str]:
    if not arm.exploits:
        return []
    worst = arm.exploits[0]
    texts = " · ".join(repr(visible(text, 30)) for text in worst.texts)
    return [f"the exploit it found ({worst.share_at_start:.0%} → {worst.share:.0%} of completions): {texts}"]


TORCH, HYPOTHESIS, CRYPTOGRAPHY = ("torch", "learn"), ("hypothesis", "audit"), ("cryptography", "holdout")
ACTS = (
    Act("Two real models", "Loop A on completions recorded from real models, judged by final-int: `Final: 112`.", (), _tell_recorded),
    Act("Is the instrument sound?", "Both built-in scorers are attacked in their own format.", (HYPOTHESIS,), _tell_audit),
    Act("Loop A: evaluate", "A small language model that ships with the package; its distribution can be read.", (TORCH,), _tell_evaluate),
    Act("Loop B: select", "Spend draws, keep one: what does choosing buy?", (TORCH,), _tell_select),
    Act("Loop C: learn", "Move the policy by its rewards.", (TORCH,), _tell_learn),
    Act("The locked room", "Is the learned policy better? Only in one room, and with an interval.", (TORCH,), _tell_compare),
    Act("The sealed holdout", "Examples that no act has touched; every look spends a budget and stands in a ledger.", (TORCH, CRYPTOGRAPHY), _tell_holdout),
    Act("An attempt to cheat", "Relax one rule of the scorer, keep its name and version, report a gain.", (TORCH,), _tell_refusal),
    Act("Goodhart's law", "Now teach with the scorer that failed its audit.", (TORCH,), _tell_goodhart),
)  # fmt: skip


def _measure(stage: Stage, policy: str, name: str, *, scorer: str = "final-int") -> Summary:
    """Evaluate a policy on dev; with the same scorer, in the same room."""
    config = EvaluateConfig(dataset=str(DEV), policy=policy, scorer=scorer, draws=DRAWS, sampling=SAMPLING)
    with stage.bar("evaluate", 500 * DRAWS) as progress:
        return evaluate(config, stage.out / name, command=COMMAND, progress=progress).summary


def _rate(summary: Summary) -> str:
    rate = summary.pass_rate
    if rate is None:
        return "undefined"
    return f"{rate.value:.3f}" + ("" if rate.low is None else f" [{rate.low:.3f}, {rate.high:.3f}]")


def _split(summary: Summary) -> tuple[str, str]:
    """The share of well-formed completions, and of right ones among them."""
    formed = sum(code.count for code in summary.codes if code.outcome is not Outcome.MALFORMED)
    right = sum(code.count for code in summary.codes if code.outcome is Outcome.CORRECT)
    return f"{formed / summary.scored:.1%}", f"{right / formed:.1%}" if formed else "unknown"


def _change(change: Change) -> str:
    return f"{change.before:.3f} → {change.after:.3f}"


def _span(interval: Interval | None) -> str:
    return "" if interval is None else f" [{interval.low:+.4f}, {interval.high:+.4f}]"
