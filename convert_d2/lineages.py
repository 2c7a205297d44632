"""Which library a checkpoint is of, and what its weights are in Detectron2's terms."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from yacs.config import CfgNode

from convert_d2 import detectron, maskrcnn_benchmark, torchvision
from convert_d2.architecture import architecture
from convert_d2.caffe2_names import is_caffe2
from tfdetect.config import load_config
from tfdetect.data import catalog
from tfdetect.errors import InputError

# This project's YAMLs.
CONFIGS = Path(__file__).resolve().parent.parent / "configs"

Arrays = Mapping[str, np.ndarray]


def _unchanged(arrays: Arrays) -> dict[str, np.ndarray]:
    return dict(arrays)


@dataclass(frozen=True)
class Lineage:
    """A library whose checkpoints are read.

    Attributes:
        name: what it is called.
        recognize: whether arrays of these names are a detector of the library.
        to_detectron2: its arrays, in PyTorch's layout, as Detectron2's state dict.
        options: what its configuration always has, by key; None where a checkpoint does not tell
            its configuration (Detectron2's, whose own YAML has to be given).
    """

    name: str
    recognize: Callable[[Iterable[str]], bool]
    to_detectron2: Callable[[Arrays], dict[str, np.ndarray]] = _unchanged
    options: Mapping[str, Any] | None = field(default=None)


DETECTRON2 = Lineage("Detectron2", lambda names: any("roi_heads." in name for name in names))
_OTHERS = (
    Lineage(
        "torchvision",
        torchvision.is_torchvision,
        torchvision.from_torchvision,
        torchvision.OPTIONS,
    ),
    Lineage(
        "maskrcnn-benchmark",
        maskrcnn_benchmark.is_maskrcnn_benchmark,
        maskrcnn_benchmark.from_maskrcnn_benchmark,
        maskrcnn_benchmark.OPTIONS,
    ),
    Lineage(
        "Detectron",
        detectron.is_detectron,
        detectron.from_detectron,
        maskrcnn_benchmark.OPTIONS,
    ),
)


def find_lineage(names: Iterable[str]) -> Lineage:
    """The library that arrays of these names are of; Detectron2 where nothing else fits."""
    names = list(names)
    return next((lineage for lineage in _OTHERS if lineage.recognize(names)), DETECTRON2)


def describe_source(names: Iterable[str]) -> str:
    """The library by name, for a person; a bare backbone is called that."""
    names = list(names)
    lineage = find_lineage(names)
    if lineage is DETECTRON2 and is_caffe2(names):
        return "Caffe2 (a backbone)"
    if lineage is DETECTRON2 and not any("." in name for name in names):
        return "unknown"
    return lineage.name


def make_config(lineage: Lineage, arrays: Arrays, changes: list[str], source: str) -> CfgNode:
    """The configuration of a checkpoint that is not Detectron2's.

    Args:
        lineage: of the checkpoint.
        arrays: what `lineage.to_detectron2` made of it.
        changes: further keys and values, alternating.
        source: the checkpoint, for errors.

    Raises:
        InputError: the weights are of no model that is known.
    """
    try:
        options = architecture({name: array.shape for name, array in arrays.items()})
        options |= _poolers(options)
    except (KeyError, IndexError) as error:
        raise InputError(
            f"{source}: looks like {lineage.name}'s, but is none of its R-CNNs (no {error}); "
            "give a Faster, Mask or Keypoint R-CNN with FPN or C4"
        ) from None
    options |= dict(lineage.options or {})
    if lineage.name != "torchvision":
        # In Detectron's ResNeXts, as in all that were not MSRA's.
        options["MODEL.RESNETS.STRIDE_IN_1X1"] = options["MODEL.RESNETS.NUM_GROUPS"] == 1
    dataset = "keypoints_coco_2017" if options["MODEL.KEYPOINT_ON"] else "coco_2017"
    options |= {"DATASETS.TRAIN": [f"{dataset}_train"], "DATASETS.TEST": [f"{dataset}_val"]}
    fpn = options["MODEL.BACKBONE.NAME"] == "build_resnet_fpn_backbone"
    base = CONFIGS / ("Base-RCNN-FPN.yaml" if fpn else "Base-RCNN-C4.yaml")
    return load_config(base, [str(x) for pair in options.items() for x in pair] + changes)


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


def _poolers(options: Mapping[str, Any]) -> dict[str, Any]:
    fpn = options["MODEL.BACKBONE.NAME"] == "build_resnet_fpn_backbone"
    heads = ("ROI_BOX_HEAD", "ROI_MASK_HEAD", "ROI_KEYPOINT_HEAD")
    return {f"MODEL.{head}.POOLER_TYPE": "ROIAlign" for head in heads} | {
        f"MODEL.{head}.POOLER_SAMPLING_RATIO": 2 if fpn else 0 for head in heads
    }
