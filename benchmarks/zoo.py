"""The zoo: is every broken set-up named within its first third, and no healthy one blamed?

    python benchmarks/zoo.py --bccd ../shared/data/bccd/bccd.yaml --seeds 0 1 --out benchmarks/out/zoo

Resumable: results are kept in --out, a line of JSON a run, and skipped the next time. Broken cases end after their
first third, because the question is about that. Ends with the table of docs/diagnosis.md.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import math
import random
import shutil
import time
from pathlib import Path
from typing import Any

import cv2
import torch
import yaml
from zoo_cases import BROKEN, HEALTHY, Case

from sightline import YOLO
from sightline.callbacks.diagnose import Diagnose
from sightline.data.formats.yolo import label_path
from sightline.data.spec import load_dataset_spec
from sightline.diagnosis import plan
from sightline.diagnosis.history import history_from, to_plain
from sightline.diagnosis.rules import replay

PLAN_RULES = ("lr0", *(rule.__name__ for rule in plan.RULES), "accumulation", "sync_bn")
CASES = (*BROKEN, *HEALTHY)
EPOCHS = 18  # of a case that says nothing else; a third is six
VAL = 24  # validation images
IMGSZ = {"shapes": 96, "bccd": 64}  # the classes of shapes differ in outline only, which 64 pixels do not show
BASE_IMAGES = {"shapes": 240, "bccd": 120}
BASE_EPOCHS = {"shapes": 60, "bccd": 30}
SIDE = 128  # longest side of the copies: decoding is not what is tested here


def small_copy(data: str, folder: Path, *, train: int, val: int = VAL) -> Path:
    """A data set of the first images of each split, made small."""
    spec = load_dataset_spec(data, split="val")
    for split, count in (("train", train), ("val", val)):
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True, exist_ok=True)
        for path in map(Path, spec.images(split)[:count]):
            image = cv2.imread(str(path))
            factor = SIDE / max(image.shape[:2])
            image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(folder / "images" / split / f"{path.stem}.png"), image)
            label = Path(label_path(str(path)))
            shutil.copy(label, folder / "labels" / split / label.name)
    file = folder / "data.yaml"
    file.write_text(
        yaml.safe_dump({"path": str(folder), "train": "images/train", "val": "images/val", "names": dict(spec.names)})
    )
    return file


def base_weights(name: str, data: str, out: Path, imgsz: int, epochs: int) -> Path:
    """Weights of a network that has learnt the data set, from which most cases start."""
    file = out / f"base-{name}.pt"
    if not file.exists():
        folder = out / f"base-{name}"
        model = YOLO("yolo26n.yaml")
        model.train(
            data=str(small_copy(data, folder / "data", train=120)), epochs=epochs, imgsz=imgsz, batch=8, workers=0,
            plots=False, device="cpu", amp=False, nbs=8, optimizer="AdamW", lr0=2e-3, mosaic=0.3, val_interval=5,
            project=str(folder), name="run", exist_ok=True, verbose=False, diagnosis=False,
        )  # fmt: skip
        shutil.copy(folder / "run" / "weights" / "best.pt", file)
    return file


def run(case: Case, data: str, weights: Path, folder: Path, *, seed: int, imgsz: int) -> dict[str, Any]:
    """Train one case; returns what was said, with the epoch after which it was said."""
    shutil.rmtree(folder, ignore_errors=True)
    file = small_copy(data, folder / "data", train=case.images)
    if case.prepare is not None:
        case.prepare(folder / "data", random.Random(seed))
    settings = {
        "model": str(weights),
        "epochs": EPOCHS,
        "imgsz": imgsz,
        "batch": 4,
        "warmup_epochs": 1.0,
        "workers": 0,
        "plots": False,
        "device": "cpu",
        "amp": False,
        "verbose": False,
        "patience": 0,
        "save": False,
        "optimizer": "AdamW",
        "lr0": 5e-4,
        "mosaic": 0.5,
        **case.settings,
    }  # fmt: skip
    settings.setdefault("nbs", settings["batch"])  # a step for every batch: these runs are short
    third = math.ceil(settings["epochs"] / 3)

    def end_after_a_third(trainer: Any) -> None:
        trainer.stop_training |= not case.healthy and trainer.epoch + 1 >= third

    model = YOLO(settings.pop("model"))
    for event, function in case.callbacks.items():
        model.add_callback(event, function)
    model.add_callback("on_train_epoch_end", end_after_a_third)
    began, error = time.perf_counter(), ""
    try:
        model.train(
            data=str(file), seed=seed, trainer=case.trainer, project=str(folder), name="run", exist_ok=True, **settings
        )
    except Exception as problem:  # a network whose every parameter is frozen cannot be trained: it must have been said
        error = f"{type(problem).__name__}: {problem}"
    watcher = next(each for each in model.trainer.objects if isinstance(each, Diagnose))
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "findings": [finding.to_plain() for finding in watcher.findings],
        "epochs": settings["epochs"],
        "third": third,
        "seconds": round(time.perf_counter() - began, 1),
        "error": error.splitlines()[0] if error else "",
        "map50": [round(float(epoch.map50), 4) for epoch in watcher.history.epochs],
        "history": {
            "setup": to_plain(watcher.history.setup),
            "epochs": [to_plain(epoch) for epoch in watcher.history.epochs],
        },
    }


def judged_again(row: dict[str, Any]) -> dict[str, Any]:
    """A kept result with what the rules of today say; what was said of its settings stays."""
    history = history_from(row["history"]["setup"], row["history"]["epochs"])
    before = [finding for finding in row["findings"] if finding["rule"] in PLAN_RULES]
    return {**row, "findings": [*before, *(finding.to_plain() for finding in replay(history))]}


def verdict(case: Case, result: dict[str, Any]) -> bool:
    """Whether the diagnosis was right about this run. A note is no alarm."""
    if case.healthy:
        return not result["error"] and all(finding["severity"] == "note" for finding in result["findings"])
    early = {finding["rule"] for finding in result["findings"] if finding["epoch"] <= result["third"]}
    return bool(early.intersection(case.expects))


def table(results: dict[str, dict[str, Any]], sets: list[str], seeds: list[int]) -> str:
    """Markdown: a row a case, how many of its runs were judged rightly, and what was said when."""
    lines = ["| set-up | right | said (epoch of the run's epochs) |", "|---|---|---|"]
    for case in CASES:
        runs = [results[key] for d in sets for s in seeds if (key := f"{d}|{s}|{case.name}") in results]
        if not runs:
            continue
        right = sum(verdict(case, result) for result in runs)
        said: dict[str, list[str]] = {}
        for result in runs:
            for finding in result["findings"]:
                if finding["severity"] == "note" and not finding["epoch"]:  # of its settings: all runs here are tiny
                    continue
                said.setdefault(finding["rule"], []).append(str(finding["epoch"]))
        words = "; ".join(f"`{rule}` ({', '.join(epochs)} of {runs[0]['epochs']})" for rule, epochs in said.items())
        name = f"healthy: {case.name}" if case.healthy else case.name
        lines.append(f"| {name} | {right}/{len(runs)} | {words or 'nothing'} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bccd", default="../shared/data/bccd/bccd.yaml", help="data YAML of the second data set")
    parser.add_argument("--sets", nargs="+", default=["shapes", "bccd"], choices=["shapes", "bccd"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--base-epochs", type=int, help="of the weights to start from, for a quick look")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--kind", choices=["broken", "healthy"], help="only these")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/zoo"))
    parser.add_argument("--record", type=Path, help="write all histories there, for the tests")
    options = parser.parse_args()
    options.out = options.out.absolute()
    options.out.mkdir(parents=True, exist_ok=True)
    logging.getLogger("sightline").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    kept = options.out / "results.jsonl"
    results = {}
    if kept.exists():
        # By the rules as they are now: what a run was like has not changed.
        results = {row["key"]: judged_again(row) for row in map(json.loads, kept.read_text().splitlines())}
    sources = {"shapes": "shapes", "bccd": options.bccd}
    for name in options.sets:
        weights = base_weights(name, sources[name], options.out, IMGSZ[name], options.base_epochs or BASE_EPOCHS[name])
        for seed in options.seeds:
            for case in CASES:
                key = f"{name}|{seed}|{case.name}"
                wanted = options.only in case.name and options.kind in (None, "healthy" if case.healthy else "broken")
                if key in results or not wanted:
                    continue
                folder = options.out / f"run-{name}-{seed}"
                result = {"key": key, **run(case, sources[name], weights, folder, seed=seed, imgsz=IMGSZ[name])}
                results[key] = result
                with kept.open("a") as file:
                    file.write(json.dumps(result) + "\n")
                said = ", ".join(f"{f['rule']}@{f['epoch']}" for f in result["findings"])
                print(f"{'ok ' if verdict(case, result) else 'NO '} {key}: {said or 'nothing'} "
                      f"[{result['seconds']} s] {result['error']}", flush=True)  # fmt: skip
    if options.record:
        record(results, options.record)
    print(table(results, options.sets, options.seeds))
    wrong = [key for key, result in results.items() if not verdict(case_of(key), result)]
    print(f"{len(results) - len(wrong)} of {len(results)} runs judged rightly" + (f"; not {wrong}" if wrong else ""))


def record(results: dict[str, dict[str, Any]], file: Path) -> None:
    """What tests/diagnosis/test_zoo.py judges again: a line a run, numbers to four digits."""
    with gzip.GzipFile(file, "wb", mtime=0) as out:  # no time stamp: the same runs make the same file
        for _, result in sorted(results.items()):
            short = {name: result[name] for name in ("key", "third", "error")}
            out.write(json.dumps({**short, **_rounded(result["history"])}).encode() + b"\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def case_of(key: str) -> Case:
    return next(case for case in CASES if case.name == key.split("|")[2])


if __name__ == "__main__":
    main()
