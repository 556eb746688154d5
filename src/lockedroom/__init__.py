"""lockedroom: score, evaluate, select, learn, and compare only what is comparable."""

from lockedroom._version import __version__
from lockedroom.records import Completion, Example, Failure, Score

__all__ = ["Completion", "Example", "Failure", "Score", "__version__"]
