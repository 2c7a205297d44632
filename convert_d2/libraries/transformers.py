"""ViT, Swin and MViT by the names and shapes of their arrays, and in words."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

Shape = tuple[int, ...]

# A level of the simple feature pyramid, by the logarithm of its stride.
_LEVEL = re.compile(r"backbone\.simfp_(\d)\.")
_NO_WINDOWS = "windows do not show in its arrays"
# Sizes of images, in pixels in a configuration; arrays show how many patches make a side.
IN_PATCHES = {
    "MODEL.VIT.IMG_SIZE": "MODEL.VIT.PATCH_SIZE",
    "MODEL.VIT.PRETRAIN_IMG_SIZE": "MODEL.VIT.PATCH_SIZE",
    "MODEL.SWIN.PRETRAIN_IMG_SIZE": "MODEL.SWIN.PATCH_SIZE",
    "MODEL.MVIT.IMG_SIZE": "MODEL.MVIT.PATCH_STRIDE",
    "MODEL.MVIT.PRETRAIN_IMG_SIZE": "MODEL.MVIT.PATCH_STRIDE",
}


def transformer(shapes: Mapping[str, Shape], body: str = "") -> dict[str, Any]:
    """The keys of MODEL.VIT, MODEL.SWIN or MODEL.MVIT that follow from names and shapes.

    Args:
        shapes: of the arrays in PyTorch's layout.
        body: what stands before the backbone's names, such as "backbone.net.".

    Returns:
        Key with dots -> value, those of `IN_PATCHES` in patches; empty for another backbone.
        What does not show in arrays, such as windows without relative positions, is not there.

    Raises:
        KeyError, IndexError, ValueError, ZeroDivisionError: arrays are missing, or of no such
            backbone's shapes.
    """
    found = {
        name.removeprefix(body): (*shape[:2], *shape[3:]) if is_over_one_frame(shape) else shape
        for name, shape in shapes.items()
        if name.startswith(body)
    }
    if "patch_embed.proj.weight" not in found:
        return {}
    if "layers.0.blocks.0.attn.relative_position_bias_table" in found:
        return {f"MODEL.SWIN.{key}": value for key, value in _swin(found).items()}
    if "blocks.0.attn.pool_q.weight" in found:
        return {f"MODEL.MVIT.{key}": value for key, value in _mvit(found).items()}
    if "blocks.0.attn.qkv.weight" in found:
        return {f"MODEL.VIT.{key}": value for key, value in _vit(found).items()}
    return {}


def is_over_one_frame(shape: Shape) -> bool:
    """Whether it is of a convolution [out, in, 1, h, w], as PySlowFast may save those of an MViT
    for images."""
    return len(shape) == 5 and shape[2] == 1


def _vit(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    width, _, patch, _ = shapes["patch_embed.proj.weight"]
    depth = _count(shapes, "blocks.{}.attn.qkv.weight")
    result = {
        "PATCH_SIZE": patch,
        "EMBED_DIM": width,
        "DEPTH": depth,
        **_of_block(shapes, "blocks.0."),
        **_positions(shapes),
        "USE_REL_POS": "blocks.0.attn.rel_pos_h" in shapes,
        "RESIDUAL_BLOCK_INDEXES": [
            index for index in range(depth) if f"blocks.{index}.residual.conv1.weight" in shapes
        ],
    }
    if result["USE_REL_POS"]:
        result["NUM_HEADS"] = width // shapes["blocks.0.attn.rel_pos_h"][1]
        sides = [_side(shapes, f"blocks.{index}.") for index in range(depth)]
        # One size may be that of windows or of whole images.
        if len(set(sides)) == 2:
            window = min(sides)
            result["WINDOW_SIZE"], result["IMG_SIZE"] = window, max(sides)
            result["WINDOW_BLOCK_INDEXES"] = [
                index for index, side in enumerate(sides) if side == window
            ]
    return result


def _swin(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    width, _, patch, _ = shapes["patch_embed.proj.weight"]
    stages = range(_count(shapes, "layers.{}.blocks.0.norm1.weight"))
    table = "layers.{}.blocks.0.attn.relative_position_bias_table"
    positions = shapes.get("absolute_pos_embed")
    result = {
        "PATCH_SIZE": patch,
        "EMBED_DIM": width,
        "DEPTHS": [_count(shapes, f"layers.{stage}.blocks.{{}}.norm1.weight") for stage in stages],
        "NUM_HEADS": [shapes[table.format(stage)][1] for stage in stages],
        "WINDOW_SIZE": (math.isqrt(shapes[table.format(0)][0]) + 1) // 2,
        **_of_block(shapes, "layers.0.blocks.0."),
        "APE": positions is not None,
        "PATCH_NORM": "patch_embed.norm.weight" in shapes,
    }
    if positions is not None:
        result["PRETRAIN_IMG_SIZE"] = positions[2]
    if outputs := [stage for stage in stages if f"norm{stage}.weight" in shapes]:
        result["OUT_INDICES"] = outputs
    return result


def _mvit(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    width, _, kernel, _ = shapes["patch_embed.proj.weight"]
    depth = _count(shapes, "blocks.{}.attn.qkv.weight")
    pool = shapes["blocks.0.attn.pool_q.weight"]
    # The blocks that widen are the first ones of their stages.
    last_blocks = [
        index - 1 for index in range(1, depth) if f"blocks.{index}.proj.weight" in shapes
    ]
    result = {
        "PATCH_KERNEL": [kernel, kernel],
        "EMBED_DIM": width,
        "DEPTH": depth,
        "NUM_HEADS": width // pool[0],
        "LAST_BLOCK_INDEXES": last_blocks if len(last_blocks) == 4 else [*last_blocks, depth - 1],
        "QKV_POOL_KERNEL": list(pool[2:]),
        **_of_block(shapes, "blocks.0."),
        **_positions(shapes),
        "USE_REL_POS": "blocks.0.attn.rel_pos_h" in shapes,
    }
    if result["USE_REL_POS"]:
        result["IMG_SIZE"] = _side(shapes, "blocks.0.")
    norms = [f"scale{stage}" for stage in range(2, 6)]
    if outputs := [name for name in norms if f"{name}_norm.weight" in shapes]:
        result["OUT_FEATURES"] = outputs
    return result


def _of_block(shapes: Mapping[str, Shape], block: str) -> dict[str, Any]:
    hidden, width = shapes[f"{block}mlp.fc1.weight"]
    return {"MLP_RATIO": hidden / width, "QKV_BIAS": f"{block}attn.qkv.bias" in shapes}


def _side(shapes: Mapping[str, Shape], block: str) -> int:
    """The side of the grid of tokens that a block's relative positions are for."""
    return (shapes[f"{block}attn.rel_pos_h"][0] + 1) // 2


def _positions(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Of absolute positions, which are those of a square, after a class token's or not."""
    if "pos_embed" not in shapes:
        return {"USE_ABS_POS": False}
    count = shapes["pos_embed"][1]
    has_class_token = math.isqrt(count) ** 2 != count
    return {
        "USE_ABS_POS": True,
        "PRETRAIN_IMG_SIZE": math.isqrt(count - has_class_token),
        "PRETRAIN_USE_CLS_TOKEN": has_class_token,
    }


def _count(shapes: Mapping[str, Shape], pattern: str) -> int:
    """How many names `pattern` with 0, 1, ... exist without a gap."""
    return next(index for index in itertools.count() if pattern.format(index) not in shapes)


def pyramid(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """The keys of MODEL.SIMPLE_FEATURE_PYRAMID that follow from names and shapes, but its norm."""
    levels = {int(match[1]) for match in map(_LEVEL.match, shapes) if match}
    patch = shapes["backbone.net.patch_embed.proj.weight"][2]
    return {
        "MODEL.SIMPLE_FEATURE_PYRAMID.OUT_CHANNELS": shapes[f"{last_of_level(shapes)}.weight"][0],
        "MODEL.SIMPLE_FEATURE_PYRAMID.SCALE_FACTORS": [
            patch / 2**level for level in sorted(levels)
        ],
    }


def last_of_level(shapes: Mapping[str, Shape]) -> str:
    """The last convolution of one of the pyramid's levels."""
    for name, shape in shapes.items():
        if _LEVEL.match(name) and tuple(shape[2:]) == (3, 3):
            return name.removesuffix(".weight")
    raise KeyError("backbone.simfp_2.5.weight")


def transformer_kind(found: Mapping[str, Any]) -> str | None:
    """What the backbone of these keys is called; None if it is of another kind."""
    kinds = {"MODEL.VIT.DEPTH": "ViT", "MODEL.SWIN.DEPTHS": "Swin", "MODEL.MVIT.DEPTH": "MViT"}
    return next((kind for key, kind in kinds.items() if key in found), None)


def describe_transformer(found: Mapping[str, Any]) -> str:
    """Depth, width, heads and windows of a backbone, as far as its keys say."""
    kind = transformer_kind(found)
    section = f"MODEL.{str(kind).upper()}."
    of = {key.removeprefix(section): value for key, value in found.items()}
    width = f"{of['EMBED_DIM']} channels"
    if kind == "Swin":
        depths, heads = _listed(of["DEPTHS"]), _listed(of["NUM_HEADS"])
        window = of["WINDOW_SIZE"]
        return (
            f"stages of {depths} blocks with {heads} heads, {width} in the first; windows of "
            f"{window} x {window} tokens"
        )
    if kind == "MViT":
        ends, window = _listed(of["LAST_BLOCK_INDEXES"]), of.get("ADAPTIVE_WINDOW_SIZE")
        windows = f"windows of {window} x {window} tokens there" if window else _NO_WINDOWS
        heads = f"{of['NUM_HEADS']} head{'s' * (of['NUM_HEADS'] > 1)}"
        return (
            f"{of['DEPTH']} blocks in stages that end with {ends}, {width} and {heads} in the "
            f"first; {windows}"
        )
    heads = f" and {of['NUM_HEADS']} heads" if "NUM_HEADS" in of else ""
    window, blocks = of.get("WINDOW_SIZE"), of.get("WINDOW_BLOCK_INDEXES")
    windows = _NO_WINDOWS
    if blocks is not None:
        windows = f"windows of {window} x {window} tokens in {len(blocks)} of them"
    return f"{of['DEPTH']} blocks of {width}{heads}; {windows}"


def _listed(values: Sequence[Any]) -> str:
    *others, last = map(str, values)
    return f"{', '.join(others)} and {last}" if others else last
