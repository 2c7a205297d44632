"""Converts names and layouts of another library's state dict to Detectron2's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

# A pattern that a whole name matches, and the name that Detectron2 has instead.
Rule = tuple[str, str | Callable[[re.Match[str]], str]]

# The epsilon of batch normalisation here, as in Detectron2.
_EPSILON = 1e-5


def resnet_rules(body: str, stem: str, prefix: str) -> list[Rule]:
    """torchvision's names of a ResNet, which maskrcnn-benchmark has too.

    Args:
        body: what stands before `layer1`, as a pattern.
        stem: what stands before `conv1` and `bn1`, as a pattern.
        prefix: what Detectron2 has before `stem` and `res2`.
    """
    parts = {"conv1": "conv1", "conv2": "conv2", "conv3": "conv3", "downsample.0": "shortcut"}
    parts |= {f"bn{index}": f"conv{index}.norm" for index in (1, 2, 3)}
    parts["downsample.1"] = "shortcut.norm"

    def in_block(match: re.Match[str]) -> str:
        stage, block, part, parameter = match.groups()
        return f"{prefix}.res{int(stage) + 1}.{block}.{parts[part]}.{parameter}"

    return [
        (rf"{stem}conv1\.(\w+)", rf"{prefix}.stem.conv1.\1"),
        (rf"{stem}bn1\.(\w+)", rf"{prefix}.stem.conv1.norm.\1"),
        (rf"{body}layer(\d)\.(\d+)\.({'|'.join(map(re.escape, parts))})\.(\w+)", in_block),
    ]


def numbered(pattern: str, replacement: str, add: int, divide: int = 1) -> Rule:
    """A rule for layers that are numbered differently.

    Args:
        pattern: its first group is a number, its second the rest.
        replacement: with {} for the number, divided and then added to, and {} for the rest.
    """

    def rename(match: re.Match[str]) -> str:
        return replacement.format(int(match[1]) // divide + add, match[2])

    return pattern, rename


def rename(arrays: Mapping[str, np.ndarray], rules: Iterable[Rule]) -> dict[str, np.ndarray]:
    """The arrays, renamed by the first matching rule; others keep their names."""
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    result = {}
    for name, array in arrays.items():
        matches = (
            (match, replacement)
            for pattern, replacement in compiled
            if (match := pattern.fullmatch(name))
        )
        match, replacement = next(matches, (None, ""))
        if match is not None:
            name = replacement(match) if callable(replacement) else match.expand(replacement)
        result[name] = array
    return result


def background_last(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Moves the background class, which is 0 in the older libraries and last in Detectron2.

    It moves to the end of the class scores, and out of the box deltas and the masks, where nothing
    reads it.
    """
    result = dict(arrays)
    for parameter in ("weight", "bias"):
        name = f"roi_heads.box_predictor.cls_score.{parameter}"
        if name in arrays:
            result[name] = np.roll(arrays[name], -1, axis=0)
        name = f"roi_heads.box_predictor.bbox_pred.{parameter}"
        if name in arrays:
            result[name] = arrays[name][4:]
        name = f"roi_heads.mask_head.predictor.{parameter}"
        if name in arrays:
            result[name] = arrays[name][1:]
    return result


def without_epsilon(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Frozen norms without an epsilon: subtracts from the variance the epsilon that is added
    later."""
    return {
        name: (array.astype(np.float64) - _EPSILON).astype(np.float32)
        if name.endswith(".norm.running_var")
        else array
        for name, array in arrays.items()
    }
