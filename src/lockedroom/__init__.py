"""lockedroom: score, evaluate, select, learn, and compare only what is comparable.

The nouns come with the package; the loops are imported when they are first asked for, so that `import lockedroom` stays
quick.
"""

import typing as _typing

from lockedroom._version import __version__
from lockedroom.records import Completion, Example, Failure, Sampling, Score

if _typing.TYPE_CHECKING:
    from lockedroom.loops.configuration import EvaluateConfig
    from lockedroom.loops.evaluate import evaluate
    from lockedroom.loops.learn import learn
    from lockedroom.loops.learn_opening import LearnConfig
    from lockedroom.loops.select import select
    from lockedroom.loops.select_opening import SelectConfig
    from lockedroom.results.compare import compare

__all__ = [
    "Completion",
    "EvaluateConfig",
    "Example",
    "Failure",
    "LearnConfig",
    "Sampling",
    "Score",
    "SelectConfig",
    "__version__",
    "compare",
    "evaluate",
    "learn",
    "select",
]

_LATER = {
    "EvaluateConfig": "lockedroom.loops.configuration",
    "LearnConfig": "lockedroom.loops.learn_opening",
    "SelectConfig": "lockedroom.loops.select_opening",
    "evaluate": "lockedroom.loops.evaluate",
    "learn": "lockedroom.loops.learn",
    "select": "lockedroom.loops.select",
    "compare": "lockedroom.results.compare",
}


def __getattr__(name: str) -> _typing.Any:
    import importlib

    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'lockedroom' has no attribute {name!r}")
