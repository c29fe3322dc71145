"""What the benchmarks share: both sides as processes of one interpreter, alternating, and a table with the ratio.

With `--peer-python PATH` both sides run under that interpreter, so under the same torch; without it only ours runs.
The peer is used through its public interface only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SIDES = {"ours": "sightline", "peer": "ultralytics"}


def parser(description: str) -> argparse.ArgumentParser:
    """The options every benchmark has."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--peer-python", type=Path, help="interpreter that has the peer, sightline and one torch")
    result.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    return result


def run_worker(script: str, side: str, interpreter: Path | str, options: list[str]) -> dict[str, Any]:
    """One measurement in a process of its own; the worker's last line of output is its result as JSON."""
    environment = {**os.environ, "YOLO_OFFLINE": "true", "PYTHONPATH": str(ROOT / "src"), "CUDA_VISIBLE_DEVICES": ""}
    command = [str(interpreter), script, "--worker", side, *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def load_yolo(side: str, model: str = "") -> Any:
    """The class `YOLO` of one side, or the one for RT-DETR where a model of that name needs it."""
    import importlib

    return getattr(importlib.import_module(SIDES[side]), "RTDETR" if Path(model).name.startswith("rtdetr") else "YOLO")


def absolute_data(data: str, folder: str | Path) -> str:
    """A copy of a data YAML whose root is absolute: the peer looks for a relative one in the working directory."""
    source = Path(data)
    if not source.is_file():
        return data
    import yaml

    values = yaml.safe_load(source.read_text())
    values["path"] = str((source.resolve().parent / values.get("path", ".")).resolve())
    target = Path(folder) / source.name
    target.write_text(yaml.safe_dump(values))
    return str(target)


def versions(side: str) -> dict[str, str]:
    """What ran, for the record."""
    import importlib

    import torch

    package = importlib.import_module(SIDES[side])
    return {SIDES[side]: package.__version__, "torch": torch.__version__, "python": platform.python_version()}


def interpreters(options: argparse.Namespace) -> tuple[list[str], Path | str]:
    """The sides to run and the interpreter for both."""
    if options.peer_python:
        return ["ours", "peer"], options.peer_python
    return ["ours"], sys.executable


def setting(item: str) -> tuple[str, Any]:
    """`name=value`, the value as JSON where it looks like that."""
    name, _, value = item.partition("=")
    return name, json.loads(value) if value[:1] in set("-0123456789tfn[") else value


def alternate(
    script: str, options: argparse.Namespace, names: Sequence[str], *, unit: str, also: Sequence[str] = ()
) -> None:
    """Run the sides A B A B for `--rounds` rounds and print the table. A worker's "rates" are averaged."""
    sides, interpreter = interpreters(options)
    passed = [*(f"--{name}={getattr(options, name)}" for name in names), *also]
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(options.rounds):
        for side in sides:
            result = run_worker(script, side, interpreter, passed)
            rates[side].append(statistics.mean(result["rates"]))
            print(side, result, flush=True)
    print(f"{machine()}; {' '.join(passed)}")
    print_table([(side, rates[side], unit) for side in sides])


def machine() -> str:
    """One line about the machine."""
    found: list[str] = []
    with contextlib.suppress(OSError):  # Linux only
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{found[0] if found else platform.machine()}, {os.cpu_count()} cores, {platform.system()}"


def print_table(rows: list[tuple[str, list[float], str]], *, higher_is_better: bool = True) -> None:
    """`side, values, unit` a row; with two rows also the median of the pairwise ratios, ours : peer."""
    print(f"\n{'side':<8} {'median':>10} {'spread':>22}  unit")
    for side, values, unit in rows:
        print(f"{side:<8} {statistics.median(values):>10.3f} {f'{min(values):.3f} – {max(values):.3f}':>22}  {unit}")
    if len(rows) == 2:
        pairs = zip(rows[0][1], rows[1][1], strict=True)
        ratios = [a / b if higher_is_better else b / a for a, b in pairs]
        print(f"ratio    {statistics.median(ratios):>10.2f}   (median of {len(ratios)} pairs; above 1 we are ahead)")
