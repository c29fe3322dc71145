"""Numbers of the device that the host reads when they are long done."""

from __future__ import annotations

import torch
from torch import Tensor


class Late:
    """A few values on their way to the host. Making it costs no wait; reading it waits for what was queued before.

    Args:
        values: (n,) on any device.
    """

    def __init__(self, values: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._host = values.detach()
        if values.is_cuda:
            # A plain `.tolist()` would wait for all that has been queued since, too, which is the next batch.
            self._host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._host.copy_(values.detach(), non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> list[float]:
        if self._event is not None:
            self._event.synchronize()
        return self._host.tolist()
