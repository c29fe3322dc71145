"""`python -m sightline` is the command `sightline`."""

from __future__ import annotations

import sys

from sightline.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
