"""Which library a checkpoint is of, and what its weights are in Detectron2's terms."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from yacs.config import CfgNode

from convert_d2.libraries.architecture import architecture
from convert_d2.libraries.detectron import from_detectron
from convert_d2.libraries.maskrcnn_benchmark import (
    from_maskrcnn_benchmark,
    maskrcnn_benchmark_options,
)
from convert_d2.libraries.recognition import recognize
from convert_d2.libraries.tensorpack import (
    from_tensorpack,
    tensorpack_architecture,
    tensorpack_options,
)
from convert_d2.libraries.torchvision import from_torchvision, torchvision_options
from tfdetect.config import load_config
from tfdetect.config.zoo import CONFIGS
from tfdetect.data import catalog
from tfdetect.errors import InputError

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Lineage:
    """A library whose checkpoints are read.

    Attributes:
        name: what it is called.
        to_detectron2: its arrays, in its own layout and without what stands before their names,
            as Detectron2's state dict.
        options: keys and values of its configuration, beside what `architecture` finds in its
            arrays and given that; None for Detectron2, whose own YAML has to be given.
    """

    name: str
    to_detectron2: Callable[[Arrays], dict[str, np.ndarray]] = dict
    options: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None


def _from_tensorpack(arrays: Arrays) -> dict[str, np.ndarray]:
    arrays = {name.removesuffix(":0"): array for name, array in arrays.items()}
    layers = tensorpack_architecture(arrays)
    return from_tensorpack(arrays, load_config(_base(layers), _as_options(layers)))


DETECTRON2 = Lineage("Detectron2")
_OTHERS = (
    Lineage("torchvision", from_torchvision, torchvision_options),
    Lineage("maskrcnn-benchmark", from_maskrcnn_benchmark, maskrcnn_benchmark_options),
    Lineage("Detectron", from_detectron, maskrcnn_benchmark_options),
    Lineage("tensorpack", _from_tensorpack, tensorpack_options),
)


def find_lineage(names: Iterable[str]) -> Lineage:
    """The library that arrays of these names are of; Detectron2 where nothing else fits."""
    return lineage_of(recognize(names).library)


def lineage_of(library: str | None) -> Lineage:
    """The library of this name; Detectron2 for None, whose arrays keep their names."""
    return next((lineage for lineage in _OTHERS if lineage.name == library), DETECTRON2)


def to_detectron2(lineage: Lineage, arrays: Arrays, source: str) -> dict[str, np.ndarray]:
    """The arrays as a state dict of Detectron2.

    Raises:
        InputError: one is of a shape that no layer of its name has.
    """
    try:
        return lineage.to_detectron2(arrays)
    except (IndexError, ValueError) as error:
        raise InputError(
            f"{source}: looks like {lineage.name}'s, but has an array of an impossible shape "
            f"({' '.join(str(error).split())[:100]}); download or save it again"
        ) from None


def make_config(lineage: Lineage, arrays: Arrays, changes: list[str], source: str) -> CfgNode:
    """The configuration of a checkpoint that is not Detectron2's.

    Args:
        lineage: of the checkpoint.
        arrays: what `to_detectron2` made of it.
        changes: further keys and values, alternating.
        source: the checkpoint, for errors.

    Raises:
        InputError: the weights are of no model that is known.
    """
    try:
        options = architecture({name: array.shape for name, array in arrays.items()})
        options |= lineage.options(options) if lineage.options else {}
        keypoints = options["MODEL.KEYPOINT_ON"]
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"{source}: looks like {lineage.name}'s, but is none of its R-CNNs (no {error}); "
            "give a Faster, Mask or Keypoint R-CNN with FPN or C4"
        ) from None
    dataset = "keypoints_coco_2017" if keypoints else "coco_2017"
    options |= {"DATASETS.TRAIN": [f"{dataset}_train"], "DATASETS.TEST": [f"{dataset}_val"]}
    return load_config(_base(options), _as_options(options) + changes)


def torchvision_names(classes: int) -> catalog.DatasetMetadata | None:
    """The names of torchvision's COCO detectors: their classes are COCO's ids, gaps included."""
    known = catalog.metadata("coco_2017_val")
    if known is None or known.category_ids is None or classes != known.category_ids[-1]:
        return None
    names = dict(zip(known.category_ids, known.thing_classes, strict=True))
    ids = list(range(1, classes + 1))
    return dataclasses.replace(
        known,
        thing_classes=[names.get(number, f"N/A {number}") for number in ids],
        category_ids=ids,
        thing_colors=None,
    )


def _base(options: Mapping[str, Any]) -> Path:
    fpn = options["MODEL.BACKBONE.NAME"] == "build_resnet_fpn_backbone"
    return CONFIGS / ("Base-RCNN-FPN.yaml" if fpn else "Base-RCNN-C4.yaml")


def _as_options(options: Mapping[str, Any]) -> list[str]:
    return [str(item) for pair in options.items() for item in pair]
