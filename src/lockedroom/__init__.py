"""lockedroom: score, evaluate, select, learn, and compare only what is comparable.

The nouns come with the package; the loops are imported when they are first asked for, so that `import lockedroom` stays
quick.
"""

import typing as _typing

from lockedroom._version import __version__
from lockedroom.records import Completion, Example, Failure, Sampling, Score

if _typing.TYPE_CHECKING:
    from lockedroom.api import compare, evaluate, learn, select
    from lockedroom.loops.evaluating.configuration import EvaluateConfig
    from lockedroom.loops.learning.opening import LearnConfig
    from lockedroom.loops.selecting.opening import SelectConfig
    from lockedroom.results.compare import CompareOptions

__all__ = [
    "CompareOptions",
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
    "CompareOptions": "lockedroom.results.compare",
    "EvaluateConfig": "lockedroom.loops.evaluating.configuration",
    "LearnConfig": "lockedroom.loops.learning.opening",
    "SelectConfig": "lockedroom.loops.selecting.opening",
    "evaluate": "lockedroom.api",
    "learn": "lockedroom.api",
    "select": "lockedroom.api",
    "compare": "lockedroom.api",
}


def __getattr__(name: str) -> _typing.Any:
    import importlib

    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'lockedroom' has no attribute {name!r}")
