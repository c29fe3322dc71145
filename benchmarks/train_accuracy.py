"""mAP after N epochs from scratch, several seeds, side by side. Resumable: finished runs are kept in --out and skipped.

    python benchmarks/train_accuracy.py --data ../shared/data/bccd/bccd.yaml --epochs 100 --imgsz 320 --seeds 0 1 2

For every run: best.pt validated NMS-free and with NMS (where the network has both), and the best epoch by NMS, which is
tracked by a second validation of the EMA after every epoch (--track-nms). A model of another task is measured in all
its parts: boxes and keypoints of `--model yolo26n-pose.yaml`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import side_by_side as bench


def worker(options, side: str) -> None:
    model = bench.load_yolo(side, options.model)(options.model)
    extra = dict(bench.setting(item) for item in options.set)
    start = time.perf_counter()
    folder = options.out / f"{side}-seed{options.seed}-{options.tag}"
    folder.mkdir(parents=True, exist_ok=True)
    data = bench.absolute_data(options.data, folder)
    by_epoch: list[dict[str, float]] = []
    if options.track_nms and side == "ours":
        model.add_callback("on_fit_epoch_end", lambda trainer: by_epoch.append(nms_scores(trainer)))
    model.train(
        data=data, epochs=options.epochs, imgsz=options.imgsz, batch=options.batch,
        project=str(options.out.absolute()), name=folder.name, exist_ok=True, seed=options.seed,
        device="cpu", plots=False, **extra,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    best = bench.load_yolo(side)(str(folder / "weights" / "best.pt"))
    scores: dict[str, float] = {}
    two_branches = bool(getattr(best.model, "end2end", False))
    for nms in ((True, False) if side == "ours" else (None, False)) if two_branches else (None,):
        metrics = best.val(data=data, imgsz=options.imgsz, nms=nms, plots=False, device="cpu")
        kind = "nms_free" if nms is False else "nms"
        scores |= {f"{kind}{part}": value for part, value in by_part(metrics.results_dict).items()}
    result = {"side": side, "seed": options.seed, "seconds": round(seconds), **scores, **bench.versions(side)}
    for part in by_epoch[0] if by_epoch else ():  # each part's own best epoch
        result[f"best_epoch_by_nms{part}"] = max(scores[part] for scores in by_epoch)
    (options.out / f"{folder.name}.json").write_text(json.dumps(result))
    print(json.dumps(result))


def by_part(metrics: dict[str, float]) -> dict[str, float]:
    """mAP50-95 of every part of a result: of boxes as "", of keypoints as "_pose"."""
    names = {"metrics/mAP50-95(B)": "", "metrics/mAP50-95(P)": "_pose"}
    return {part: metrics[name] for name, part in names.items() if name in metrics}


def nms_scores(trainer) -> dict[str, float]:
    """mAP50-95 of the EMA by the one-to-many branch with NMS, on the same images."""
    validator = type(trainer.validator)(
        trainer.test_loader, save_dir=trainer.save_dir, args=trainer.args.copy(nms=True, plots=False)
    )
    return by_part(validator(model=trainer.ema.ema))


def main() -> None:
    parser = bench.parser(__doc__)
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--model", default="yolo26n.yaml")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"))
    parser.add_argument("--tag", default="default", help="name of this recipe")
    parser.add_argument("--set", nargs="*", default=[], help="more settings, name=value")
    parser.add_argument("--track-nms", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.worker:
        return worker(options, options.worker)
    sides, interpreter = bench.interpreters(options)
    passed = [
        f"--{name}={getattr(options, name)}" for name in ("data", "model", "imgsz", "batch", "epochs", "out", "tag")
    ]
    passed += ["--track-nms"] if options.track_nms else []
    results: dict[str, list[dict]] = {side: [] for side in sides}
    for seed in options.seeds:
        for side in sides:
            done = options.out / f"{side}-seed{seed}-{options.tag}.json"
            if not done.exists():
                bench.run_worker(__file__, side, interpreter, [*passed, f"--seed={seed}", "--set", *options.set])
            results[side].append(json.loads(done.read_text()))
            print(results[side][-1], flush=True)
    print(f"{bench.machine()}; {' '.join(passed)}")
    for key in (f"{kind}{part}" for part in ("", "_pose") for kind in ("nms_free", "nms", "best_epoch_by_nms")):
        rows = [
            (side, [r[key] for r in results[side]], f"mAP50-95 ({key})") for side in sides if key in results[side][0]
        ]
        if rows:
            bench.print_table(rows)
    return None


if __name__ == "__main__":
    main()
