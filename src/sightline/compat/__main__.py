"""`python -m sightline.compat [--replace] script.py [arguments]`: run a script on sightline."""

from __future__ import annotations

import sys

from sightline.compat.run import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
