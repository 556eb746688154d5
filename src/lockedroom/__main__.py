"""`python -m lockedroom` is the command `lockedroom`."""

import sys

from lockedroom.cli.main import main

sys.exit(main())
