"""Names of Detectron2's own parameters in older versions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from convert_d2.libraries.renaming import Rule, rename

# Those of PointRend's mask head before its version 2, under StandardROIHeads' predecessor.
_POINT_REND: tuple[Rule, ...] = (
    (r"roi_heads\.mask_coarse_head\.coarse_mask_fc(.+)", r"roi_heads.mask_head.coarse_head.fc\1"),
    (r"roi_heads\.mask_coarse_head\.(.+)", r"roi_heads.mask_head.coarse_head.\1"),
    (
        r"roi_heads\.mask_head\.coarse_head\.coarse_mask_fc(.+)",
        r"roi_heads.mask_head.coarse_head.fc\1",
    ),
    (r"roi_heads\.mask_point_head\.(.+)", r"roi_heads.mask_head.point_head.\1"),
)


def with_present_names(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict of Detectron2 by the names that its parameters have today.

    Detectron2 renames the same when it loads them (`PointRendROIHeads`, `ConvFCHead`).
    """
    return rename(arrays, _POINT_REND)
