"""What a checkpoint file is: `convert_d2.py --inspect FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convert_d2.architecture import architecture, fits
from convert_d2.lineages import CONFIGS, DETECTRON2, describe_source, find_lineage, to_detectron2
from convert_d2.reader import read_checkpoint
from tfdetect.config import load_config


def describe(path: str | Path) -> str:
    """Lineage, architecture, classes, parameters and fitting configurations, a line for each.

    Raises:
        InputError: the file is no checkpoint that can be read.
    """
    checkpoint = read_checkpoint(path)
    lineage = find_lineage(checkpoint.arrays)
    source = describe_source(checkpoint.arrays)
    lines = {"file": f"{checkpoint.source} ({checkpoint.format}), sha256 {checkpoint.sha256}"}
    lines["lineage"] = source + (f", by {checkpoint.author!r}" if checkpoint.author else "")
    arrays = to_detectron2(lineage, checkpoint.arrays, checkpoint.source)
    try:
        found = architecture({name: array.shape for name, array in arrays.items()})
    except (KeyError, IndexError, ValueError, ZeroDivisionError):
        found = {}
    has_heads = any(
        "predictor." in name or "rpn_head." in name or ".cls_score." in name for name in arrays
    )
    if found and has_heads:
        lines |= _of_model(found)
    else:
        lines["architecture"] = "no detector (a backbone, or a model that is not known)"
    parameters = sum(
        array.size for name, array in checkpoint.arrays.items() if not _is_counter(name, array)
    )
    lines["parameters"] = f"{parameters:,} in {len(checkpoint.arrays)} arrays"
    if found and has_heads and lineage is DETECTRON2:
        names = fitting_configs(found)
        lines["configs"] = ", ".join(names) or "none of configs/ fits; give that of its training"
    elif lineage is not DETECTRON2:
        lines["configs"] = "none is needed: convert_d2.py makes it from the file"
    width = max(map(len, lines)) + 2
    return "\n".join(f"{key + ':':<{width}}{value}" for key, value in lines.items())


def fitting_configs(found: Mapping[str, Any]) -> list[str]:
    """The configurations in configs/, such as "COCO-Detection/retinanet_R_50_FPN_1x", whose models
    have the names and shapes that `architecture` found."""
    paths = sorted(CONFIGS.glob("*/*.yaml"))
    return [
        path.relative_to(CONFIGS).with_suffix("").as_posix()
        for path in paths
        if not path.name.startswith("Base-") and fits(load_config(path), found)
    ]


def _of_model(found: Mapping[str, Any]) -> dict[str, str]:
    kind = found["MODEL.META_ARCHITECTURE"]
    backbone = "RegNet" if "MODEL.REGNETS.DEPTH" in found else "ResNet"
    if "MODEL.RESNETS.DEPTH" in found:
        groups = found.get("MODEL.RESNETS.NUM_GROUPS", 1)
        backbone = f"{'ResNeXt' if groups > 1 else 'ResNet'}-{found['MODEL.RESNETS.DEPTH']}"
    if "MODEL.FPN.NORM" in found:
        backbone += "-FPN"
    parts = [kind, backbone]
    if "MODEL.ROI_HEADS.NAME" in found:
        parts.append(found["MODEL.ROI_HEADS.NAME"])
        tasks = ["boxes"]
        tasks += ["masks"] if found["MODEL.MASK_ON"] else []
        if found["MODEL.KEYPOINT_ON"]:
            tasks.append(f"{found['MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS']} keypoints")
        parts += tasks
    lines = {"architecture": ", ".join(parts)}
    classes = [
        f"{found[key]} {what}"
        for key, what in (
            ("MODEL.ROI_HEADS.NUM_CLASSES", "classes"),
            ("MODEL.RETINANET.NUM_CLASSES", "classes"),
            ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", "stuff classes"),
        )
        if key in found
    ]
    return lines | {"classes": ", ".join(classes) or "none"}


def _is_counter(name: str, array: np.ndarray) -> bool:
    return array.ndim == 0 and name.endswith("num_batches_tracked")
