"""``python -m shadowstream``: the same as the command ``shadowstream``."""

from __future__ import annotations

import sys

from shadowstream.cli import main

if __name__ == "__main__":
    sys.exit(main())
