"""A person's own scorer, isolated: whatever it does costs one record, and nothing is left running."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkContext, SpawnContext
from pathlib import Path

import pytest

from lockedroom.errors import BadInput
from lockedroom.records import Code, Example, Failure, FailureCode, Outcome, Score, ScorerSpec
from lockedroom.scorer import final_int
from lockedroom.scorer.custom import IsolatedScorer

HOSTILE = Path(__file__).parent / "hostile"
TIMEOUT_S = 0.3
PLAIN = "def score(example, completion):\n    return {'reward': 1, 'details': {'parsed': completion}}\n"
ON_LINUX = sys.platform == "linux"
Write = Callable[[str], Path]


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    """Mark every process that this test starts, through its environment."""
    value = uuid.uuid4().hex
    monkeypatch.setenv("LOCKEDROOM_TEST_TOKEN", value)
    return value


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> Path:
        path = tmp_path / "own_scorer.py"
        path.write_text(text)
        return path

    return written


@pytest.fixture
def no_orphans(token: str) -> Iterator[None]:
    yield
    assert wait_until_gone(token) == []


def marked(token: str) -> list[int]:
    """Return the pids of living processes that carry the token."""
    found = []
    for folder in Path("/proc").glob("[0-9]*") if ON_LINUX else ():
        try:
            alive = (folder / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
            if alive and token.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return found


def wait_until_gone(token: str) -> list[int]:
    deadline = time.monotonic() + 5
    while marked(token) and time.monotonic() < deadline:
        time.sleep(0.02)
    return marked(token)


def examples(count: int) -> list[Example]:
    return [Example(id=str(i), prompt="p", expected_answer=[i], metadata={"n": i}) for i in range(count)]


def parsed(result: Score | Failure) -> str | None:
    assert isinstance(result, Score), result
    return result.details.parsed


RAISED, DIED, TIMED_OUT = FailureCode.SCORER_RAISED, FailureCode.SCORER_DIED, FailureCode.SCORER_TIMEOUT
MEMORY, INVALID = FailureCode.SCORER_MEMORY, FailureCode.SCORER_INVALID_RESULT


@pytest.mark.usefixtures("no_orphans")
@pytest.mark.parametrize(
    ("name", "code", "message", "restarts"),
    [
        ("raises_error", RAISED, "ValueError: red \\x1b[31m and \\ud800 xxx", 0),
        ("raises_system_exit", RAISED, "SystemExit: 0", 0),
        ("raises_keyboard_interrupt", RAISED, "KeyboardInterrupt", 0),
        ("raises_generator_exit", RAISED, "GeneratorExit", 0),
        ("raises_unprintable", RAISED, "UnprintableError: (its text cannot be read)", 0),
        ("recurses", RAISED, "RecursionError: ", 0),
        ("ends_process", DIED, "exit code 3", 1),
        ("segfaults", DIED, "signal 11", 1),
        ("kills_itself", DIED, "signal 9", 1),
        ("kills_its_parent", DIED, "the process that had started it", 1),
        ("spins", TIMED_OUT, "no result within 0.3 seconds", 1),
        ("sleeps_in_c", TIMED_OUT, "", 1),
        ("spins_in_regex", TIMED_OUT, "", 1),
        ("stops_itself", TIMED_OUT, "", 1),
        ("ignores_signals", TIMED_OUT, "", 1),
        ("leaves_alarm", TIMED_OUT, "", 1),
        ("leaves_processes_and_hangs", TIMED_OUT, "", 1),
        ("allocates_bytes", MEMORY, "more than its 512 MB", 1),
        ("allocates_text", MEMORY, "", 1),
        ("returns_nonsense", INVALID, "None", 0),
        ("says_too_much", INVALID, "at most 65536 are kept", 0),
    ],
)
def test_the_record_fails_and_its_neighbours_are_scored(
    name: str, code: FailureCode, message: str, restarts: int
) -> None:
    with IsolatedScorer(str(HOSTILE / f"{name}.py"), timeout_s=TIMEOUT_S) as scorer:
        results = scorer.score_batch(examples(5), ["one", "bad", "three", "bad", "five"])

        assert [parsed(results[i]) for i in (0, 2, 4)] == ["one", "three", "five"]
        for failure in (results[1], results[3]):
            assert isinstance(failure, Failure)
            assert failure.code is code
            assert message in failure.message
            assert failure.message.isprintable()
            assert len(failure.message) < 400
        assert scorer.restarts == 2 * restarts


@pytest.mark.usefixtures("no_orphans")
@pytest.mark.parametrize(
    ("name", "restarts"),
    [
        ("prints", 0),
        ("changes_folder", 0),
        ("starts_thread", 0),
        ("forks_and_returns", 0),
        ("leaves_processes", 0),
        ("closes_descriptors", 1),  # the child cannot ring any more; what it finished is kept
    ],
)
def test_bad_manners_harm_nobody(name: str, restarts: int) -> None:
    with IsolatedScorer(str(HOSTILE / f"{name}.py"), timeout_s=TIMEOUT_S) as scorer:
        results = scorer.score_batch(examples(3), ["one", "bad", "three"])
        later = scorer.score_batch(examples(2), ["four", "five"])

        assert [parsed(result) for result in results + later] == ["one", "bad", "three", "four", "five"]
        assert scorer.restarts == restarts


def test_a_full_memory_is_left_behind_with_its_process() -> None:
    with IsolatedScorer(str(HOSTILE / "hoards.py"), memory_mb=32) as scorer:
        results = scorer.score_batch(examples(3), ["one", "bad", "three"])

    assert isinstance(results[1], Failure)
    assert results[1].code is MEMORY
    assert [parsed(results[0]), parsed(results[2])] == ["one", "three"]
    assert scorer.restarts == 1


def test_recursion_through_c_costs_one_record() -> None:
    with IsolatedScorer(str(HOSTILE / "recurses_into_segfault.py")) as scorer:
        results = scorer.score_batch(examples(3), ["one", "bad", "three"])

    assert isinstance(results[1], Failure)
    assert results[1].code in (DIED, RAISED, MEMORY)  # since Python 3.12, C recursion has a limit of its own
    assert [parsed(results[0]), parsed(results[2])] == ["one", "three"]


def test_changed_arguments_do_not_leak_into_other_records() -> None:
    shared = Example(id="a", prompt="p", expected_answer=[1], metadata={"n": 1})
    with IsolatedScorer(str(HOSTILE / "mutates_arguments.py")) as scorer:
        results = scorer.score_batch([shared, shared, shared], ["one", "bad", "three"])

    assert parsed(results[0]) == parsed(results[2]) == "([1], {'n': 1})"
    assert shared.expected_answer == [1]


def test_damaged_results_are_failures_and_the_run_goes_on() -> None:
    with IsolatedScorer(str(HOSTILE / "damages_results.py"), timeout_s=TIMEOUT_S) as scorer:
        results = scorer.score_batch(examples(3), ["one", "bad", "three"])
        later = scorer.score_batch(examples(1), ["four"])

    assert len(results) == 3
    assert isinstance(results[0], Failure)
    assert results[0].code is DIED
    assert parsed(later[0]) == "four"


def test_every_record_may_fail() -> None:
    with IsolatedScorer(str(HOSTILE / "ends_process.py")) as scorer:
        results = scorer.score_batch(examples(20), ["bad"] * 20)

        assert [type(result) for result in results] == [Failure] * 20
        assert scorer.restarts == 19  # the last one is replaced when it is needed


@pytest.mark.parametrize(
    "completion",
    ["", "\0", "\ud800 alone", "emoji \U0001f600", "x" * 10_000_000, "\ud800" * 100_000],
    ids=["empty", "nul", "surrogate", "emoji", "10 MB", "many surrogates"],
)
def test_any_text_reaches_the_scorer_and_comes_back(write: Write, completion: str) -> None:
    path = write(
        "import hashlib\n"
        "def score(example, completion):\n"
        "    digest = hashlib.sha256(completion.encode('utf-8', 'surrogatepass')).hexdigest()\n"
        "    return {'reward': 1, 'details': {'parsed': completion[:9], 'digest': digest}}\n"
    )
    with IsolatedScorer(str(path)) as scorer:
        results = scorer.score_batch(examples(3), ["one", completion, "three"])

    assert [parsed(result) for result in results] == ["one", completion[:9], "three"]
    assert isinstance(results[1], Score)
    digest = hashlib.sha256(completion.encode("utf-8", "surrogatepass")).hexdigest()
    assert results[1].details.extra == {"digest": digest}


def test_integers_of_any_size_reach_the_scorer(write: Write) -> None:
    path = write(
        "def score(example, completion):\n"
        "    return {'reward': 1, 'details': {'right': example.expected_answer == 10**9000, 'n': 2**70}}\n"
    )
    with IsolatedScorer(str(path)) as scorer:
        result = scorer.score(Example(id="a", prompt="p", expected_answer=10**9000), "c")

    assert isinstance(result, Score)
    assert result.details.extra == {"right": True, "n": 2**70}


def test_results_beyond_the_shared_memory_come_in_several_passes(write: Write) -> None:
    path = write("def score(e, c):\n    return {'reward': 1, 'details': {'parsed': c, 'message': 'x' * 60_000}}\n")
    with IsolatedScorer(str(path)) as scorer:
        results = scorer.score_batch(examples(200), [str(i) for i in range(200)])

    assert [parsed(result) for result in results] == [str(i) for i in range(200)]


def test_a_completion_beyond_the_memory_cap_is_a_failure_of_that_record(write: Write) -> None:
    with IsolatedScorer(str(write(PLAIN)), memory_mb=16) as scorer:
        results = scorer.score_batch(examples(3), ["one", "x" * 40_000_000, "three"])

    assert isinstance(results[1], Failure)
    assert results[1].code is MEMORY
    assert [parsed(results[0]), parsed(results[2])] == ["one", "three"]


def test_an_example_that_is_not_json_is_bad_input(write: Write) -> None:
    with IsolatedScorer(str(write(PLAIN))) as scorer, pytest.raises(BadInput, match="use JSON values"):
        scorer.score(Example(id="a", prompt="p", expected_answer=object()), "c")


# --- what the module declares -----------------------------------------------------------------------------------------


def test_spec_may_be_a_dict(write: Write) -> None:
    text = (
        "SPEC = {'name': 'mine', 'version': 2, 'codes': ["
        "{'name': 'ok', 'outcome': 'correct', 'meaning': 'm'}], 'reward_range': [-1, 1]}\n"
    )
    with IsolatedScorer(str(write(text + PLAIN))) as scorer:
        assert scorer.declared
        assert scorer.spec == ScorerSpec("mine", 2, (Code("ok", Outcome.CORRECT, "m"),), (-1.0, 1.0))
        result = scorer.score(examples(1)[0], "c")

    assert isinstance(result, Failure)
    assert result.code is INVALID  # it declares codes and returns none


def test_without_spec_the_file_names_the_scorer_and_any_reward_is_allowed(write: Write) -> None:
    path = write("def judge(e, c):\n    return {'reward': -7, 'details': {}}\n")
    with IsolatedScorer(f"{path}:judge") as scorer:
        result = scorer.score(examples(1)[0], "c")

        assert (scorer.spec, scorer.declared) == (ScorerSpec("own_scorer.py:judge", 0), False)
        assert scorer.source == path.resolve()
    assert isinstance(result, Score)
    assert (result.reward, result.details.code, result.details.outcome) == (-7.0, "reward_not_1", Outcome.WRONG)


def test_a_built_in_scorer_judges_the_same_when_isolated() -> None:
    texts = ["Final: 7", "Final: 07", "7", "", "Final: 8\n"]
    rows = [Example(id=str(i), prompt="p", expected_answer=7) for i in range(len(texts))]
    with IsolatedScorer(final_int.__file__) as scorer:
        assert scorer.spec == final_int.SPEC
        assert scorer.score_batch(rows, texts) == [
            final_int.score(row, text) for row, text in zip(rows, texts, strict=True)
        ]
        assert scorer.first_refused([7, "7", "seven"]) == 2


def test_accepts_is_asked_for_every_answer(write: Write) -> None:
    path = write("def accepts(answer):\n    return answer != 4321\n" + PLAIN)
    with IsolatedScorer(str(path)) as scorer:
        assert scorer.first_refused(list(range(10_000))) == 4321
        assert scorer.first_refused(list(range(4000))) is None
        assert scorer.first_refused([10**30, "\ud800", 4321]) == 2
        assert scorer.first_refused([]) is None
        assert not scorer.accepts(4321)


def test_without_accepts_every_answer_is_accepted(write: Write) -> None:
    with IsolatedScorer(str(write(PLAIN))) as scorer:
        assert scorer.accepts(object())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('boom')", "expected answer 2: raised ValueError: boom; fix accepts"),
        ("return 1", "returned a int, not True or False"),
        ("os._exit(3)", "exit code 3"),
        ("time.sleep(60)", "no result within 0.3 seconds"),
    ],
)
def test_accepts_that_does_not_answer_is_bad_input(write: Write, body: str, message: str) -> None:
    path = write(f"import os, time\ndef accepts(a):\n    if a == 'bad':\n        {body}\n    return True\n{PLAIN}")
    with IsolatedScorer(str(path), timeout_s=TIMEOUT_S) as scorer:
        with pytest.raises(BadInput) as caught:
            scorer.first_refused(["fine", "bad"])
        assert message in str(caught.value)
        assert scorer.accepts("fine")


# --- targets that cannot be used --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_orphans")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "own_scorer.py: no function 'score' in this file; it has: no functions"),
        ("def other(): pass\n", "it has: other"),
        ("score = 3\n", "'score' is a int, not a function"),
        ("def score(example): pass\n", "'score(example)' cannot be called as score(example, completion)"),
        ("def score(a, b, c): pass\n", "cannot be called as"),
        ("def score(*, example, completion): pass\n", "cannot be called as"),
        ("async def score(a, b): pass\n", "is async; define it with def"),
        ("x = 1\nx = 1 / 0\n", "own_scorer.py:2: importing the scorer raised ZeroDivisionError: division by zero"),
        ("def f():\n    int('x')\n\nf()\n", "own_scorer.py:2: importing the scorer raised ValueError"),
        ("def score(:\n", "own_scorer.py:1: importing the scorer raised SyntaxError: "),
        ("import no_such_module_here\n", "raised ModuleNotFoundError: No module named 'no_such_module_here'"),
        ("import sys\nsys.exit(1)\n", "own_scorer.py:2: the file ends the process (sys.exit)"),
        ("import os\nos._exit(5)\n", "importing the file ended its process: it ended with exit code 5"),
        ("import os\nos.kill(os.getpid(), 11)\n", "it was killed by signal 11"),
        ("import time\ntime.sleep(60)\n", "takes longer than 0.3 seconds"),
        ("SPEC = 3\n" + PLAIN, "SPEC is a int; make it a ScorerSpec or a dict"),
        ("SPEC = {'name': 'x'}\n" + PLAIN, "SPEC cannot be read: Object missing required field `version`"),
        ("SPEC = {'name': 'x', 'version': '1'}\n" + PLAIN, "SPEC cannot be read: Expected `int`, got `str`"),
        ("SPEC = {'name': 'x', 'version': 1, 'kodes': []}\n" + PLAIN, "SPEC has the unknown field 'kodes'"),
        ("SPEC = {'name': '', 'version': 1}\n" + PLAIN, "SPEC needs a name"),
        ("SPEC = {'name': 'x', 'version': 1, 'reward_range': [1, 0]}\n" + PLAIN, "reward_range is 1.0 to 0.0"),
        ("SPEC = {'name': 'x', 'version': 1, 'codes': [{'name': 'a', 'outcome': 'wrong', 'meaning': ''}] * 2}\n" + PLAIN,
         "declares the code 'a' twice"),
        ("accepts = 3\n" + PLAIN, "'accepts' is a int, not a function"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_gives_one_clear_message(write: Write, text: str, message: str) -> None:
    path = write(text)

    with pytest.raises(BadInput) as caught:
        IsolatedScorer(str(path), import_timeout_s=TIMEOUT_S if "sleep" in text else 30)

    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("{folder}/none.py:score", "no such file"),
        ("{folder}/none.py", "no such file"),
        ("{folder}", "is not a function name|is a folder"),
        ("{folder}:score", "is a folder"),
        ("{folder}/own_scorer.py:", "'' is not a function name"),
        ("{folder}/own_scorer.py:a.b", "'a.b' is not a function name"),
    ],
)
def test_a_target_that_names_no_function_is_bad_input(write: Write, target: str, message: str) -> None:
    folder = write(PLAIN).parent
    with pytest.raises(BadInput, match=message):
        IsolatedScorer(target.format(folder=folder))


@pytest.mark.parametrize("limits", [{"timeout_s": 0.0}, {"timeout_s": float("nan")}, {"import_timeout_s": -1.0}])
def test_limits_that_mean_nothing_are_bad_input(write: Write, limits: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="time-out is above 0"):
        IsolatedScorer(str(write(PLAIN)), timeout_s=limits.get("timeout_s", 5.0),
                       import_timeout_s=limits.get("import_timeout_s", 5.0))  # fmt: skip
    with pytest.raises(BadInput, match="give at least 16"):
        IsolatedScorer(str(write(PLAIN)), memory_mb=0)


def test_siblings_can_be_imported_and_the_import_is_paid_once(write: Write, tmp_path: Path) -> None:
    (tmp_path / "own_sibling.py").write_text("ANSWER = 'sibling'\n")
    log = tmp_path / "imports.txt"
    path = write(
        f"import os, own_sibling\nopen({str(log)!r}, 'a').write('imported ')\n"
        "def score(e, c):\n    if c == 'bad':\n        os._exit(1)\n"
        "    return {'reward': 1, 'details': {'parsed': own_sibling.ANSWER}}\n"
    )
    with IsolatedScorer(str(path)) as scorer:
        results = scorer.score_batch(examples(3), ["bad", "bad", "good"])

        assert parsed(results[2]) == "sibling"
        assert scorer.restarts == 2
    assert log.read_text() == "imported "


def test_relative_imports_reach_the_folders_above_and_their_init_files(tmp_path: Path) -> None:
    inner = tmp_path / "rewards" / "sums"
    inner.mkdir(parents=True)
    (tmp_path / "rewards" / "__init__.py").write_text("SHARED = 'Final: '\n")
    (tmp_path / "rewards" / "numbers.py").write_text(
        "from . import SHARED\n\ndef spelled(answer):\n    return SHARED + str(answer)\n"
    )
    (inner / "sibling.py").write_text("from ..numbers import spelled\n")
    (inner / "scorer.py").write_text(
        "from .sibling import spelled\nfrom .. import SHARED\n\n"
        "def score(example, completion):\n"
        "    assert SHARED\n"
        "    return {'reward': float(completion == spelled(example.expected_answer)), 'details': {}}\n"
    )
    with IsolatedScorer(f"{inner / 'scorer.py'}:score") as scorer:
        result = scorer.score(Example(id="a", prompt="?", expected_answer=7), "Final: 7")
    assert isinstance(result, Score)
    assert result.reward == 1.0


def test_the_scorer_process_loads_no_numeric_library(write: Write) -> None:
    path = write(
        "import sys\ndef score(e, c):\n"
        "    heavy = sorted({'numpy', 'scipy', 'rich'} & set(sys.modules))\n"
        "    return {'reward': 1, 'details': {'heavy': heavy}}\n"
    )
    with IsolatedScorer(str(path)) as scorer:
        result = scorer.score(examples(1)[0], "c")

    assert isinstance(result, Score)
    assert result.details.extra == {"heavy": []}


# --- nobody is left behind --------------------------------------------------------------------------------------------

OWNER = """
import sys
from lockedroom import Example
from lockedroom.scorer import final_int
from lockedroom.scorer.custom import IsolatedScorer
scorer = IsolatedScorer(sys.argv[1], timeout_s=60)
print("ready", flush=True)
scorer.score(Example(id="a", prompt="p", expected_answer=1), "bad")
"""


@pytest.mark.skipif(not ON_LINUX, reason="reads /proc")
@pytest.mark.parametrize("name", ["sleeps_in_c", "spins", "leaves_processes_and_hangs"])
def test_when_the_owner_is_killed_everything_ends_by_itself(token: str, name: str) -> None:
    command = [sys.executable, "-c", OWNER, str(HOSTILE / f"{name}.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        time.sleep(0.1)  # into the call that hangs
        assert len(marked(token)) >= 3
        owner.send_signal(signal.SIGKILL)

    assert wait_until_gone(token) == []


@pytest.mark.skipif(not ON_LINUX, reason="reads /proc")
def test_when_the_owner_is_killed_during_the_import_everything_ends_by_itself(token: str, write: Write) -> None:
    command = [sys.executable, "-c", OWNER, str(write("import time\ntime.sleep(60)\n"))]
    with subprocess.Popen(command) as owner:
        deadline = time.monotonic() + 10
        while len(marked(token)) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
        owner.send_signal(signal.SIGKILL)

    assert wait_until_gone(token) == []


def test_close_may_be_called_twice_and_ends_a_scorer_that_was_never_used(token: str, write: Write) -> None:
    scorer = IsolatedScorer(str(write(PLAIN)))
    scorer.close()
    scorer.close()

    assert marked(token) == []


def test_no_descriptor_is_left_open(write: Write) -> None:
    path = write("import os\ndef score(e, c):\n    os._exit(1)\n")
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        with IsolatedScorer(str(path)) as scorer:
            scorer.score_batch(examples(2), ["a", "b"])
        with pytest.raises(BadInput):
            IsolatedScorer(f"{path}:missing")

    assert len(os.listdir("/dev/fd")) == before


def test_an_interrupted_batch_does_not_run_on_behind_the_next(write: Write) -> None:
    path = write(
        "import os, signal, time\ndef score(e, c):\n    if c == 'bad':\n"
        f"        os.kill({os.getpid()}, signal.SIGINT)\n        time.sleep(60)\n"
        "    return {'reward': 1, 'details': {'parsed': c}}\n"
    )
    with IsolatedScorer(str(path)) as scorer:
        with pytest.raises(KeyboardInterrupt):
            scorer.score_batch(examples(2), ["one", "bad"])

        assert parsed(scorer.score(examples(1)[0], "two")) == "two"


def _score_in_worker(path: str, token: str) -> None:
    os.environ["LOCKEDROOM_TEST_TOKEN"] = token
    with IsolatedScorer(path) as scorer:
        assert parsed(scorer.score(examples(1)[0], "inside")) == "inside"


FORK, SPAWN = multiprocessing.get_context("fork"), multiprocessing.get_context("spawn")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12, when the test runner has threads
@pytest.mark.parametrize("context", [FORK, SPAWN], ids=["fork", "spawn"])
def test_it_works_inside_a_worker_process(write: Write, context: ForkContext | SpawnContext) -> None:
    token = uuid.uuid4().hex
    process = context.Process(target=_score_in_worker, args=(str(write(PLAIN)), token))
    process.start()
    process.join(30)

    assert process.exitcode == 0
    assert wait_until_gone(token) == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # as above
def test_a_forked_copy_leaves_the_original_alone(write: Write) -> None:
    with IsolatedScorer(str(write(PLAIN))) as scorer:
        process = FORK.Process(target=scorer.close)
        process.start()
        process.join(30)

        assert process.exitcode == 0
        assert parsed(scorer.score(examples(1)[0], "still here")) == "still here"


# --- the docs page ----------------------------------------------------------------------------------------------------


def test_the_code_of_the_docs_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                        capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    page = Path(__file__).parents[2] / "docs" / "writing-a-scorer.md"
    smallest, declared, use = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    for source in (smallest, declared):
        (tmp_path / "tail.py").write_text(source)
        exec(use, {})
        assert capsys.readouterr().out == "[1.0, 0.0]\n"

    with IsolatedScorer("tail.py") as scorer:
        assert scorer.spec.name == "tail"
        assert scorer.first_refused(["7", 7]) == 1
