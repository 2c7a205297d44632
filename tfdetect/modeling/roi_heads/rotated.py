"""RoI heads for rotated boxes."""

from __future__ import annotations

from tfdetect.modeling.registries import ROI_HEADS
from tfdetect.modeling.roi_heads.roi_heads import StandardROIHeads


@ROI_HEADS.register()
class RROIHeads(StandardROIHeads):
    """The box head on rotated proposals; there are no masks and keypoints (as in Detectron2).

    What is special to rotated boxes is in the functions that boxes of five numbers are given to;
    `tfdetect.config.rotated` checks that all parts are made for them.
    """
