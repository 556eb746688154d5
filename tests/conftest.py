"""What every test relies on, whoever starts the suite."""

from __future__ import annotations

import signal

from hypothesis import settings

# A slow machine is not a wrong number.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# A shell that starts the suite in the background has SIGINT ignored, and every process started from here would inherit
# that: Ctrl-C is a feature under test.
signal.signal(signal.SIGINT, signal.default_int_handler)
