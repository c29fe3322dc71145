"""Noisy copies of a batch's objects that a decoder is to put right: extra queries, for training only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class DenoisingQueries:
    """G groups of noisy objects, each a block of positives (near their object) and one of negatives (further off).

    N = 2 · G · M queries an image, M being the most objects that an image of the batch gives to a group; slots that an
    image has no object for are padding. Slot of object j of an image in block k: j + M · k; blocks 0, 2, … are
    positive.

    Source: Zhang et al., DINO, arXiv:2203.03605, section 3.3 (contrastive denoising).
    """

    labels: Tensor  # (B, N) int64 classes, some of them wrong on purpose; −1 for padding
    boxes: Tensor  # (B, N, 4) xywh in [0, 1] before the sigmoid; 0 for padding
    groups: int  # G
    group_size: int  # M
    # Which positive query stands for which object, for all groups; on the host.
    image: Tensor  # (P,) int64
    query: Tensor  # (P,) int64, of N
    target: Tensor  # (P,) int64, row of the batch's targets

    @property
    def count(self) -> int:
        """N."""
        return 2 * self.groups * self.group_size

    def blocked(self, queries: int) -> Tensor:
        """(N + Q, N + Q) bool on the device of `boxes`: True where the row's query must not look at the column's.

        The ordinary queries would find the answers among the noisy ones, and so would one group in another.

        Args:
            queries: Q, the ordinary ones; they stand behind the N.
        """
        places = torch.arange(self.count + queries, device=self.boxes.device)
        group = (places // (2 * self.group_size)).clamp(max=self.groups)  # G for the ordinary ones
        return (group[None, :] < self.groups) & (group[None, :] != group[:, None])
