"""Seconds to import the package, to get YOLO, and to print the command line's help; median of several fresh processes.

python benchmarks/import_time.py --peer-python ../peer-env/bin/python
"""

from __future__ import annotations

import os
import subprocess
import time

import side_by_side as bench

PROGRAMS = {
    "import": ["-c", "import {package}"],
    "from … import YOLO": ["-c", "from {package} import YOLO"],
    "command line help": ["-c", "import sys; sys.argv = ['x', '{help}']; {entry}"],
}
ENTRY = {
    "ours": ("--help", "from sightline.cli.main import main; sys.exit(main())"),
    "peer": ("help", "from ultralytics.cfg import entrypoint; entrypoint()"),
}


def seconds(interpreter, side: str, program: list[str]) -> float:
    words, entry = ENTRY[side]
    command = [str(interpreter), *(part.format(package=bench.SIDES[side], help=words, entry=entry) for part in program)]
    environment = {**os.environ, "YOLO_OFFLINE": "true", "PYTHONPATH": str(bench.ROOT / "src")}
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - start


def main() -> None:
    parser = bench.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    sides, interpreter = bench.interpreters(options)
    for name, program in PROGRAMS.items():
        times: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(options.rounds):
            for side in sides:
                times[side].append(seconds(interpreter, side, program))
        print(f"\n{name}", end="")
        bench.print_table([(side, times[side], "s") for side in sides], higher_is_better=False)


if __name__ == "__main__":
    main()
