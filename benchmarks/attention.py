"""Attention on the CPU, compared with PyTorch's: time and peak memory.

A row is the attention of one block between its projections, with relative positions or Swin's bias
where the block has them. PyTorch's side computes it as Detectron2's `Attention` does. Rows named
sdpa have no relative positions, and PyTorch's `scaled_dot_product_attention`, which holds no logits
either. If a goal is not met, the row says which share of the rate of a large matrix product ours
has; --rates prints that of all rows.

    python benchmarks/attention.py [ROW ...] [--runs N] [--reference PYTHON]
    python benchmarks/attention.py --rates
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import operator_inputs as inputs
from harness import Row, Side, main
from machine import peak_gflops


@dataclass(frozen=True)
class Block:
    """The attention of a block: items of a batch (windows), grids of queries and keys, heads."""

    name: str
    title: str
    batch: int
    queries: tuple[int, int]
    keys: tuple[int, int]
    heads: int
    depth: int
    relative: bool = False
    bias: bool = False
    goal: float = 0.5

    @property
    def gflop(self) -> float:
        """Of both products."""
        (a, b), (c, d) = self.queries, self.keys
        return 4e-9 * self.batch * a * b * c * d * self.heads * self.depth

    def operands(self) -> dict:
        """By the names of `attention`'s arguments."""
        (a, b), (c, d) = self.queries, self.keys
        queries = (self.batch, a * b, self.heads)
        found = {"query": inputs.normal(*queries, self.depth)}
        for name in ("key", "value"):
            found[name] = inputs.normal(self.batch, c * d, self.heads, self.depth)
        if self.relative:
            found |= {"rel_h": inputs.normal(*queries, c), "rel_w": inputs.normal(*queries, d)}
        if self.bias:
            found["bias"] = inputs.normal(1, self.heads, a * b, c * d)
        return found


_GRID = ((64, 64), (64, 64))
_WINDOW = ((14, 14), (14, 14))

BLOCKS = [
    Block("attention_global", "ViT-B, global block", 1, *_GRID, 12, 64, relative=True),
    Block("attention_global_sdpa", "the same without positions", 1, *_GRID, 12, 64, goal=1.0),
    Block("attention_windows", "ViT-B, 25 windows of 14", 25, *_WINDOW, 12, 64, relative=True),
    Block("attention_swin", "Swin-B, 1369 windows of 7", 1369, (7, 7), (7, 7), 4, 32, bias=True),
    Block(
        "attention_mvit", "MViTv2-T, stage 4, global", 1, (50, 76), (25, 38), 4, 96, relative=True
    ),
]


def _call(block: Block) -> tuple[dict[str, str], Callable]:
    versions = inputs.versions()
    import tensorflow as tf

    from tfdetect.ops.attention import attention

    inputs.require_native()
    operands = {name: tf.constant(array) for name, array in block.operands().items()}
    attend = functools.partial(attention, **operands, scale=block.depth**-0.5)
    return versions, inputs.call(attend)


def _ours(block: Block) -> Side:
    versions, call = _call(block)

    def limit(seconds: float) -> str:
        return _rate(block, seconds, peak_gflops())

    return Side(versions, call, limit)


def _rate(block: Block, seconds: float, peak: float) -> str:
    rate = block.gflop / seconds
    return (
        f"{block.gflop:.1f} GFLOP of products at {rate:.0f} GFLOP/s, {rate / peak:.0%} of the "
        f"{peak:.0f} GFLOP/s of a large product"
    )


def _torch(block: Block) -> Side:
    import torch

    operands = {
        name: torch.from_numpy(array)
        if name == "bias"
        else torch.from_numpy(array).transpose(1, 2).contiguous()
        for name, array in block.operands().items()
    }
    query, key, value = (operands[name] for name in ("query", "key", "value"))
    scale = block.depth**-0.5

    def attend() -> torch.Tensor:
        if "_sdpa" in block.name:
            return torch.nn.functional.scaled_dot_product_attention(query, key, value)
        logits = (query * scale) @ key.transpose(-2, -1)
        if block.bias:
            logits = logits + operands["bias"]
        if block.relative:
            rel_h, rel_w = operands["rel_h"], operands["rel_w"]
            of_map = logits.view(*logits.shape[:3], *block.keys)
            of_map = of_map + rel_h[..., :, None] + rel_w[..., None, :]
            logits = of_map.view(logits.shape)
        return logits.softmax(-1) @ value

    def run() -> None:
        with torch.no_grad():
            attend()

    return Side({"PyTorch": torch.__version__}, run)


def _row(block: Block, measure: str = "seconds") -> Row:
    memory = measure == "peak_mb"
    return Row(
        block.name + ("_memory" if memory else ""),
        f"attention, {block.title}" + (": peak memory of the process" if memory else ""),
        block.goal,
        functools.partial(_ours, block),
        "PyTorch",
        functools.partial(_torch, block),
        needs=("torch",),
        measure=measure,
        unit="MB" if memory else "ms",
        runs=1 if memory else 5,
        warm_up=1,
    )


ROWS = [*map(_row, BLOCKS), _row(BLOCKS[0], "peak_mb")]


def _print_rates() -> None:
    peak = peak_gflops()
    for block in BLOCKS:
        _, call = _call(block)
        taken = []
        for _ in range(6):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
        print(f"{block.title}: {_rate(block, min(taken), peak)}", flush=True)


if __name__ == "__main__":
    if "--rates" in sys.argv[1:]:
        _print_rates()
    else:
        main(ROWS)
