"""What the arithmetic of this CPU is good for."""

import time

import torch

SIZE, REPEATS, WORTH = 256, 20, 1.5


def takes_bfloat16() -> bool:
    """Say whether products of matrices are at least 1.5 times as fast in bfloat16 as in float32 here, by timing them.

    A CPU without instructions for bfloat16 computes it all the same, some ten times slower; a list of CPU names
    would be wrong for the next one.
    """
    return product_seconds(torch.float32) >= WORTH * product_seconds(torch.bfloat16)


def product_seconds(dtype: torch.dtype) -> float:
    """Return the shortest time of a 256x256x256 product, after a warm-up."""
    a, b = (torch.full((SIZE, SIZE), 0.5, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return min(seconds[REPEATS // 4 :])
