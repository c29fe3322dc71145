"""Whether the memory ran out, and how much there is."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
import traceback
from collections.abc import Iterator

import psutil
import torch

from sightline.data.image_cache import available_memory

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
    "bad_alloc",
    "could not create a primitive",  # oneDNN, under a limit of the address space
    "could not create a memory",
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
    link: BaseException | None = error
    while link is not None:  # what went wrong while something else did has frames of its own
        traceback.clear_frames(link.__traceback__)
        link.__traceback__, link = None, link.__cause__ or link.__context__
    _trim()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return f"{type(error).__name__}: {said[0][:200]}" if said else type(error).__name__


class BackwardDrain:
    """Lets go of what a backward pass that failed has left behind. Make it before the passes that may fail.

    torch's engine keeps the steps that were ready when one of them failed in the queue of its thread, and with them all
    activations. It takes steps in the order of their age, the youngest first, and drops those of dead passes when it
    comes to them. So a pass through a graph that is older than all of them clears the queue.
    """

    def __init__(self, device: torch.device) -> None:
        self._leaf = torch.zeros(1, requires_grad=True, device=device)
        self._root = (self._leaf * 2).sum()

    def clear(self) -> None:
        self._root.backward(retain_graph=True)
        self._leaf.grad = None


class MemoryMeter:
    """How much memory a block of code takes at its peak, beyond what was in use when the meter was made.

    On a GPU torch counts every allocation. On the host the process is looked at every few milliseconds, because the
    system's own record of the peak cannot be set back everywhere; where the address space is limited (`ulimit -v`) that
    is what counts, else the resident memory.

    Attributes:
        free: bytes that this process may still take.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._process = psutil.Process()
        self._counts_addresses = False
        self.peak = 0  # of the last block
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.empty_cache()
            self.free = torch.cuda.mem_get_info(device)[0]
        else:
            _trim()
            self.free = available_memory()
            addresses = _free_addresses(self._process)
            if addresses is not None and addresses < self.free:
                self.free, self._counts_addresses = addresses, True
        self._before = self._used()

    @contextlib.contextmanager
    def measure(self) -> Iterator[None]:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            yield
            torch.cuda.synchronize(self.device)
            # What torch took from the device, not what tensors filled of it: the difference is fragments.
            self.peak = torch.cuda.max_memory_reserved(self.device) - self._before
            return
        _trim()
        done, highest = threading.Event(), [self._used()]

        def watch() -> None:
            while not done.wait(0.002):
                highest[0] = max(highest[0], self._used())

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            self.peak = max(highest[0], self._used()) - self._before

    def _used(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.memory_reserved(self.device)
        memory = self._process.memory_info()
        return int(memory.vms if self._counts_addresses else memory.rss)


def _trim() -> None:
    """Make the allocator give back to the system what nobody uses."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _free_addresses(process: psutil.Process) -> int | None:
    """Bytes of address space that are left under a limit of it; None without a limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else max(limit - int(process.memory_info().vms), 0)
