"""Checkpoints of every library that is known, as weights to begin a training with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from convert_d2.libraries.caffe2_names import is_caffe2, rename_caffe2
from convert_d2.libraries.recognition import MVIT, describe_place, not_converted, recognize
from convert_d2.libraries.sources import library_named, to_detectron2
from convert_d2.libraries.torchvision import is_torchvision_backbone, rename_torchvision_backbone
from convert_d2.libraries.transformers import is_over_one_frame
from tfdetect.checkpoint.formats.reader import Checkpoint
from tfdetect.checkpoint.libraries import StateDict
from tfdetect.errors import InputError


def to_state_dict(checkpoint: Checkpoint, source: str) -> StateDict | None:
    """A detector or a backbone as a state dict of Detectron2.

    Args:
        checkpoint: of `read_checkpoint`.
        source: what messages call it.

    Returns:
        The weights; None if the names are those of no library.

    Raises:
        InputError: the model is known, and there is none like it here; or an array is of a shape
            that no layer of its name has.
    """
    found = recognize(checkpoint.arrays)
    if not found.converted:
        raise InputError(f"{source}: {not_converted(found)}")
    notes = tuple(describe_place(checkpoint.container, checkpoint.others, found))
    arrays, warning = found.select(checkpoint.arrays), None
    if found.library not in (None, "Detectron2"):
        warning = (
            f"is a detector of {found.library}, whose images, anchors and boxes follow other rules "
            "(docs/other-libraries.md): its weights are a start, not the same model"
        )
    if found.library is not None:
        arrays = to_detectron2(library_named(found.library), arrays, source)
    elif found.description == MVIT:
        arrays = _without_time(arrays)
    elif is_caffe2(arrays):
        arrays = rename_caffe2(arrays)
    elif is_torchvision_backbone(arrays):
        warning = (
            "is torchvision's: it was trained on RGB images of 0 to 1, with the stride in the "
            "3 x 3 convolution (INPUT.FORMAT, MODEL.PIXEL_MEAN, MODEL.PIXEL_STD, "
            "MODEL.RESNETS.STRIDE_IN_1X1)"
        )
        arrays = rename_torchvision_backbone(arrays)
    elif found.description == "unknown" and not notes:
        return None
    return StateDict(arrays, notes, () if warning is None else (warning,))


def _without_time(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convolutions over one frame as those of an image."""
    return {
        name: array[:, :, 0] if is_over_one_frame(array.shape) else array
        for name, array in arrays.items()
    }
