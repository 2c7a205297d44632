"""Caffe2's names for the layers of ImageNet backbones (MSRA's and FAIR's `R-50.pkl`).

Caffe2 calls the convolutions of a ResNet `conv1_w` and `res2_0_branch2a_w`, and what follows them
`res_conv1_bn_s`, `res_conv1_bn_b`, `res2_0_branch2a_bn_s` and so on: there batch normalisation is
only a scale and a shift, into which its statistics were multiplied. Detectron2 calls them
`stem.conv1.weight`, `res2.0.conv1.weight`, `stem.conv1.norm.weight`, ...
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

_BRANCHES = {"branch1": "shortcut", "branch2a": "conv1", "branch2b": "conv2", "branch2c": "conv3"}
_OF_CONVOLUTION = {"w": "weight", "b": "bias"}
_OF_NORM = {
    "s": "weight",
    "gamma": "weight",
    "b": "bias",
    "bias": "bias",
    "beta": "bias",
    "rm": "running_mean",
    "running_mean": "running_mean",
    "riv": "running_var",
    "running_var": "running_var",
}
_CONVOLUTION = re.compile(r"(?:res(\d)_(\d+)_(branch1|branch2[abc])|(conv1))_(w|b)")
_NORM = re.compile(
    r"(?:res(\d)_(\d+)_(branch1|branch2[abc])|(?:res_)?(conv1))_(?:bn|gn)_("
    + "|".join(_OF_NORM)
    + ")"
)


def is_caffe2(names: Iterable[str]) -> bool:
    """Whether arrays of these names are a backbone of Caffe2."""
    return "conv1_w" in set(names)


def rename_caffe2(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a backbone under Detectron2's names, without what stands before `stem`.

    Momentum, which some files have, is left out; other names that are not of a ResNet's
    convolutions (the classifier's `fc1000_w`) stay as they are.
    """
    return {
        _rename(name): array for name, array in arrays.items() if not name.endswith("_momentum")
    }


def _rename(name: str) -> str:
    for pattern, kinds, norm in ((_CONVOLUTION, _OF_CONVOLUTION, ""), (_NORM, _OF_NORM, "norm.")):
        if match := pattern.fullmatch(name):
            stage, block, branch, _, kind = match.groups()
            layer = "stem.conv1" if stage is None else f"res{stage}.{block}.{_BRANCHES[branch]}"
            return f"{layer}.{norm}{kinds[kind]}"
    return name
