"""Label smoothing where every class is a question of its own and targets are soft.

An anchor that was given an object has a score w as its target in the class of the object, and 0 in the others. Of that
score a part ε is spread evenly over all C classes: t → (1 − ε)·t + ε·w/C. What an anchor is taught in total stays w, so
the divisor of the loss (the sum of all targets) stays the same, and background anchors, whose w is 0, stay background.

Source: Szegedy et al., Rethinking the Inception Architecture, arXiv:1512.00567, section 7; here with the assigned score
in the place of 1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def smooth_table(targets: Tensor, amount: float) -> Tensor:
    """Smooth a whole table: (..., C) → (..., C)."""
    spread = targets.sum(-1, keepdim=True) * (amount / targets.shape[-1])
    return targets * (1 - amount) + spread


def smooth_places(
    image: Tensor, class_: Tensor, anchor: Tensor, score: Tensor, classes: int, amount: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same for a list of positives: each becomes one entry a class.

    Args:
        image: (S,) int64.
        class_: (S,) int64 in [0, C).
        anchor: (S,) int64.
        score: (S,) the targets.
        classes: C.
        amount: ε in [0, 1).

    Returns:
        (S × C,) image, class, anchor and target of each entry.
    """
    table = (score * (amount / classes))[:, None].repeat(1, classes)  # (S, C)
    table.scatter_add_(1, class_[:, None], (score * (1 - amount))[:, None])
    every = torch.arange(classes, device=class_.device).repeat(len(score))
    return (
        image.repeat_interleave(classes),
        every,
        anchor.repeat_interleave(classes),
        table.flatten(),
    )
