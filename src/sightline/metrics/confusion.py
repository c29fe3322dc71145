"""Which class is taken for which, and what is missed or invented."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from sightline.metrics.matching import match_any_class

BACKGROUND = "background"


class ConfusionMatrix:
    """Counts of (predicted, true) classes over many images; the last row and column stand for background.

    Attributes:
        matrix: (C + 1, C + 1) float64, rows predicted, columns true. Sums of matrices are matrices of both halves.
        nc: C.
        names: class index → name.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self.names = dict(names)
        self.nc = len(self.names)
        self.matrix = np.zeros((self.nc + 1, self.nc + 1))

    def update(
        self,
        overlap: np.ndarray,
        scores: np.ndarray,
        predicted_classes: np.ndarray,
        true_classes: np.ndarray,
        *,
        conf: float = 0.25,
        iou_threshold: float = 0.45,
    ) -> None:
        """Add one image.

        Args:
            overlap: (T, P) IoU of labelled objects with predictions, whatever their classes.
            scores: (P,), those above `conf` count.
            predicted_classes: (P,) in 0 … C − 1.
            true_classes: (T,) likewise.
            conf: at 0.001 nearly every prediction would be an invention; 0.25 is what prediction shows.
            iou_threshold: a prediction and an object belong together when they overlap more than this.
        """
        kept = np.asarray(scores) > conf
        predicted = np.asarray(predicted_classes)[kept].astype(np.int64)
        true = np.asarray(true_classes).astype(np.int64)
        overlap = np.asarray(overlap).reshape(len(true), len(kept))[:, kept]
        rows, columns = match_any_class(overlap, np.asarray(scores)[kept], threshold=iou_threshold)
        invented = np.delete(predicted, rows)
        missed = np.delete(true, columns)
        # np.add.at, because one image may hold the same pair of classes several times.
        np.add.at(self.matrix, (predicted[rows], true[columns]), 1)
        np.add.at(self.matrix, (invented, self.nc), 1)
        np.add.at(self.matrix, (self.nc, missed), 1)

    def tp_fp(self) -> tuple[np.ndarray, np.ndarray]:
        """Right and wrong predictions of each class: two (C,) arrays."""
        right = self.matrix.diagonal()
        return right[:-1].copy(), (self.matrix.sum(axis=1) - right)[:-1]

    def normalized(self) -> np.ndarray:
        """Share of each true class (column) that went to each predicted class, (C + 1, C + 1) in [0, 1]."""
        return self.matrix / (self.matrix.sum(axis=0, keepdims=True) + 1e-9)

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, str | float]]:
        """One dict a predicted class: `Predicted`, then a value for every true class, all as plain Python values."""
        columns = _column_names([*self.names.values(), BACKGROUND])
        values = (self.normalized() if normalize else self.matrix).round(decimals).tolist()
        rows = [*self.names.values(), BACKGROUND]
        return [
            {"Predicted": str(name), **dict(zip(columns, row, strict=True))}
            for name, row in zip(rows, values, strict=True)
        ]


def _column_names(names: list[str]) -> list[str]:
    """Names that can be columns of a table: letters, digits and underscores, no two alike."""
    columns: list[str] = []
    for name in names:
        base = re.sub(r"[^a-zA-Z0-9]", "_", str(name))
        column, number = base, 0
        while column in columns:
            number += 1
            column = f"{base}_{number}"
        columns.append(column)
    return columns
