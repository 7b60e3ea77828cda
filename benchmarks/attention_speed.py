"""PyTorch's attention on this device, forward and backward: padded rows, and packed with a mask or row by row.

Run: python benchmarks/attention_speed.py. 16 rows of 150 tokens, 8 heads of 32; medians of 9.
"""

import statistics
import time

import torch
from torch.nn.functional import scaled_dot_product_attention as attend

ROWS, TOKENS, HEADS, WIDTH = 16, 150, 8, 32
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def seconds(compute) -> float:
    """Return the median seconds of a computation."""
    times = []
    for _ in range(11):
        start = time.perf_counter()
        compute().sum().backward()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def states(*shape: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """Return queries, keys and values."""
    return [torch.randn(*shape, dtype=dtype, device=DEVICE, requires_grad=True) for _ in range(3)]


def main() -> None:
    """Print milliseconds by type and layout."""
    print("| | padded rows | packed, one mask | packed, row by row |\n| --- | --- | --- | --- |")
    row = torch.arange(ROWS * TOKENS, device=DEVICE) // TOKENS
    mask = ((row[:, None] == row) & torch.ones(len(row), len(row), dtype=torch.bool, device=DEVICE).tril())[None, None]
    for dtype in (torch.bfloat16, torch.float32):
        padded = states(ROWS, HEADS, TOKENS, WIDTH, dtype=dtype)
        packed = states(1, HEADS, ROWS * TOKENS, WIDTH, dtype=dtype)

        def by_row(packed=packed):
            parts = zip(*(part.split(TOKENS, dim=2) for part in packed), strict=True)
            return torch.cat([attend(*part, is_causal=True) for part in parts], dim=2)

        times = [
            seconds(lambda padded=padded: attend(*padded, is_causal=True)),
            seconds(lambda packed=packed: attend(*packed, attn_mask=mask)),
            seconds(by_row),
        ]
        print(f"| {str(dtype).removeprefix('torch.')} | {' | '.join(f'{1000 * t:.1f} ms' for t in times)} |")


if __name__ == "__main__":
    main()
