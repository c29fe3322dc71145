"""How well each single image went, so that the worst can be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath


def counts_to_metrics(tp: int, predictions: int, targets: int) -> dict[str, float | int]:
    """Precision, recall and F1 of one image from its counts.

    An image without objects on which nothing was predicted is perfect (1.0); otherwise an empty ratio is 0.0.
    """
    fp, fn = predictions - tp, targets - tp
    if predictions == targets == 0:
        precision = recall = f1 = 1.0
    else:
        precision = tp / predictions if predictions else 0.0
        recall = tp / targets if targets else 0.0
        f1 = 2 * precision * recall / (precision + recall) if tp else 0.0
    return {"precision": precision, "recall": recall, "f1": f1, "tp": tp, "fp": fp, "fn": fn}


def distinct_names(paths: Sequence[str]) -> list[str]:
    """The file name of each path; where files in different folders share it, as many folders more as tell them apart.

    `a/1.jpg b/1.jpg c/2.jpg` gives `a/1.jpg b/1.jpg 2.jpg`. The same path twice keeps one name.
    """
    parts = {path: PurePath(path).parts for path in paths}
    names: dict[str, str] = {}
    open_paths, length = list(parts), 0
    while open_paths:
        length += 1
        owners: dict[str, list[str]] = {}
        for path in open_paths:
            owners.setdefault(str(PurePath(*parts[path][-length:])), []).append(path)
        open_paths = []
        for name, group in owners.items():
            if len(group) == 1 or all(len(parts[path]) <= length for path in group):
                names.update(dict.fromkeys(group, name))
            else:
                open_paths += group
    return [names[path] for path in paths]
