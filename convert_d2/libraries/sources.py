"""Source libraries of checkpoints, and their conversion to Detectron2's names."""

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
from convert_d2.libraries.detectron2 import with_present_names
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
class SourceLibrary:
    """A library with supported checkpoints.

    Attributes:
        name: what it is called.
        to_detectron2: converts its arrays, in its own layout and without a prefix, to a Detectron2
            state dict.
        options: keys and values of its configuration, in addition to what `architecture` derives
            from its arrays, and given that; None for Detectron2, whose own YAML has to be given.
    """

    name: str
    to_detectron2: Callable[[Arrays], dict[str, np.ndarray]] = dict
    options: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None


def _from_tensorpack(arrays: Arrays) -> dict[str, np.ndarray]:
    arrays = {name.removesuffix(":0"): array for name, array in arrays.items()}
    layers = tensorpack_architecture(arrays)
    return from_tensorpack(arrays, load_config(_base(layers), _as_options(layers)))


DETECTRON2 = SourceLibrary("Detectron2", with_present_names)
_OTHERS = (
    SourceLibrary("torchvision", from_torchvision, torchvision_options),
    SourceLibrary("maskrcnn-benchmark", from_maskrcnn_benchmark, maskrcnn_benchmark_options),
    SourceLibrary("Detectron", from_detectron, maskrcnn_benchmark_options),
    SourceLibrary("tensorpack", _from_tensorpack, tensorpack_options),
)


def find_library(names: Iterable[str]) -> SourceLibrary:
    """The source library of arrays with these names; Detectron2 if nothing else fits."""
    return library_named(recognize(names).library)


def library_named(library: str | None) -> SourceLibrary:
    """The library with this name; Detectron2, which keeps array names, for None."""
    return next(
        (source_library for source_library in _OTHERS if source_library.name == library), DETECTRON2
    )


def to_detectron2(
    source_library: SourceLibrary, arrays: Arrays, source: str
) -> dict[str, np.ndarray]:
    """The arrays as a state dict of Detectron2.

    Raises:
        InputError: an array has a shape that is impossible for its name.
    """
    try:
        return source_library.to_detectron2(arrays)
    except (IndexError, ValueError) as error:
        raise InputError(
            f"{source}: looks like {source_library.name}'s, but has an array of an impossible "
            f"shape ({' '.join(str(error).split())[:100]}); download or save it again"
        ) from None


def make_config(
    source_library: SourceLibrary, arrays: Arrays, changes: list[str], source: str
) -> CfgNode:
    """The configuration of a checkpoint that is not Detectron2's.

    Args:
        source_library: of the checkpoint.
        arrays: what `to_detectron2` made of it.
        changes: further keys and values, alternating.
        source: the checkpoint, for errors.

    Raises:
        InputError: the weights do not belong to a known model.
    """
    try:
        options = architecture({name: array.shape for name, array in arrays.items()})
        options |= source_library.options(options) if source_library.options else {}
        keypoints = options["MODEL.KEYPOINT_ON"]
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"{source}: looks like {source_library.name}'s, but is not one of its R-CNNs (no "
            f"{error}); "
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
