"""Thins Detectron2's records of transformers' operators and blocks, for tests/arrays/vitdet/ops.

    python -m tests.recorders.transformer_operators RECORDS tests/arrays/vitdet

RECORDS has a folder ops/ of all inputs, parameters, outputs and gradients. Kept are some cases, and
inputs and gradients of outputs as they are; of outputs and the gradients of inputs every fifth
channel; of other gradients every fifth number. Parameters follow from their names.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks import seeded_weights
from tests.support.transformers import thinned_channels, thinned_gradient

SWIN = ("attention_masked.", "layer_pad.", "layer_less.", "merge_odd.")
GIVEN = ("x", "dy", "arguments", "hw")
CHANNELS = ("y", "dx", "before_merging")


def blocks(recorded, cases=("",)):
    kept = {}
    for key, values in recorded.items():
        name = key.partition(".")[2]
        if not key.startswith(cases) or name.endswith(("relative_position_index", "mask")):
            continue
        if name in GIVEN or key == "pool_x":
            kept[key] = values
        elif name in CHANNELS or not name:
            kept[key] = thinned_channels(values)
        elif name.startswith("d_"):
            kept[key] = thinned_gradient(values)
        else:
            np.testing.assert_array_equal(values, seeded_weights.array(key, values.shape))
    return kept


def patch_embed(recorded):
    """Of the first image."""
    return {key: recorded[key][:1] for key in ("x", "vit16", "swin4", "mvit7")}


def simple_feature_pyramid(recorded):
    levels = {key: recorded[key] for key in ("x", "p2", "p3", "p4", "p5", "p6")}
    return levels | {key: levels[key][..., ::3, ::3] for key in ("p2", "p3")}


def windows(recorded):
    """One channel: all go the same way."""
    return {
        key: values if key.endswith(("_window", "_hw")) else values[..., :1]
        for key, values in recorded.items()
    }


def get_rel_pos(recorded):
    """Of the result every fifth row."""
    cases = ("q38_k19_", "q14_k14_", "q64_k64_")
    return {
        key: values[::5] if key.count("_") == 2 else values
        for key, values in recorded.items()
        if not key.startswith(cases)
    }


def get_abs_pos(recorded):
    return {
        key: thinned_gradient(values) if key.endswith("_dpos_embed") else values
        for key, values in recorded.items()
        if not key.startswith(("up_hw", "up_pos", "up_class", "up_out", "up_d", "full_"))
    }


def add_decomposed_rel_pos(recorded):
    """Of logits every fifth query."""
    return {
        key: values[:, ::5] if key.endswith(("_attn", "_out", "_dq")) else values
        for key, values in recorded.items()
        if key.startswith(("interpolated_", "pooled_keys_", "odd_"))
    }


def main(source, target):
    def write(path, function, *arguments):
        with np.load(source / "ops" / path.name) as arrays:
            np.savez_compressed(path, **function(dict(arrays), *arguments))

    folder = target / "ops"
    write(folder / "vit_blocks.npz", blocks)
    write(folder / "swin_blocks.npz", blocks, SWIN)
    write(folder / "mvit_blocks.npz", blocks)
    thin = (patch_embed, simple_feature_pyramid, windows, get_rel_pos, get_abs_pos)
    for function in (*thin, add_decomposed_rel_pos):
        write(folder / f"{function.__name__}.npz", function)
    for name in ("swin_masks", "norms_gelu"):
        with np.load(source / "ops" / f"{name}.npz") as arrays:
            kept = {key: arrays[key] for key in arrays if not key.endswith("_for_contrast")}
        np.savez_compressed((folder if name == "swin_masks" else target) / f"{name}.npz", **kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
