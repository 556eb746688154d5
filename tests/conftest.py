"""Hypothesis without a per-example deadline: a slow machine is not a wrong number."""

from hypothesis import settings

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
