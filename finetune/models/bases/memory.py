"""Memory of the device: how much there is, how much was used at most, and freed memory kept for the next step."""

import ctypes
import gc
import resource
import sys
from pathlib import Path

import psutil
import torch

# Names and numbers of glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Let glibc keep what a step frees: giving it back and faulting it in again took a fifth of a CPU step.

    Both thresholds go together: the first alone would map and unmap every larger tensor (benchmarks/LOG.md).
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # Other C libraries do without.
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, 2**30)
            mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def memory_limit() -> int:
    """Return the bytes that this process can have: of the GPU, otherwise its own and what is free."""
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        allowed = int(total * torch.cuda.get_per_process_memory_fraction())  # set_per_process_memory_fraction
        return min(free + torch.cuda.memory_reserved(), allowed)
    return psutil.virtual_memory().available + psutil.Process().memory_info().rss


def reset_peak() -> None:
    """Begin to watch for the most memory anew."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")  # Resets VmHWM, see proc(5).


def peak_memory() -> int:
    """Return the most bytes since `reset_peak`: on a GPU what torch reserved, otherwise what was resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def clear_memory() -> None:
    """Free what models that nothing refers to any longer have left."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
