"""Whether the memory ran out, and how much there is."""

from __future__ import annotations

import gc
import traceback

import torch

# What allocators say that have no exception of their own: of the CPU, of cuDNN and cuBLAS, of OpenCV, of Apple GPUs.
SAID = (
    "not enough memory",
    "defaultcpuallocator",
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "cudnn_status_alloc_failed",
    "cublas_status_alloc_failed",
    "insufficient memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory, of the host or of a device, is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    # cv2.error derives from Exception alone.
    kinds = isinstance(error, RuntimeError | OSError) or type(error).__module__.startswith("cv2")
    return kinds and any(said in text for said in SAID)


def release(error: BaseException) -> str:
    """Give back what a failed computation holds. Returns the first line of what the exception said.

    The frames of the traceback hold the activations of the failed pass, so they are cleared; call this after the
    `except` block or as its last act.
    """
    said = str(error).strip().splitlines()
    traceback.clear_frames(error.__traceback__)
    error.__traceback__ = None
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return f"{type(error).__name__}: {said[0][:200]}" if said else type(error).__name__
