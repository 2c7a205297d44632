"""docs/coming-from-detectron2.md as data."""

from __future__ import annotations

from functools import cache

from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "coming-from-detectron2.md"

AWAITED = {
    # Row -> the file that it needs. Others add these now: delete this table once they are there.
    "TEST.AUG.ENABLED": "tfdetect/config/tta.py",
    "MODEL.ANCHOR_GENERATOR.ANGLES": "tfdetect/ops/rotated_boxes.py",
    "MODEL.RETINANET.": "tfdetect/modeling/dense/retinanet.py",
    "MODEL.SEM_SEG_HEAD.": "tfdetect/modeling/semantic_loss.py",
    "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT": "tfdetect/modeling/semantic_loss.py",
    "TEST.AUG.": "tfdetect/config/tta.py",
    "modeling.anchor_generator.Rotated": "tfdetect/ops/rotated_boxes.py",
    "modeling.box_regression.Box2BoxTransformRotated": "tfdetect/ops/rotated_boxes.py",
    "modeling.proposal_generator.rrpn": "tfdetect/modeling/proposal_generator/rrpn.py",
    "modeling.roi_heads.rotated": "tfdetect/modeling/roi_heads/rotated.py",
    "layers.roi_align_rotated": "tfdetect/ops/roi_align_rotated.py",
    "modeling.box_regression.Box2BoxTransformLinear": "tfdetect/ops/linear_deltas.py",
    "modeling.meta_arch.dense_detector": "tfdetect/modeling/dense/detector.py",
    "modeling.meta_arch.fcos": "tfdetect/modeling/dense/fcos.py",
    "modeling.test_time_augmentation": "tfdetect/inference/tta.py",
    "evaluation.cityscapes": "tfdetect/evaluation/cityscapes.py",
    "evaluation.sem_seg": "tfdetect/evaluation/cityscapes.py",
    "tracking.": "tfdetect/tracking/base_tracker.py",
}


def is_awaited(row: str) -> bool:
    """Whether what a row says is being added by someone else and is not there yet."""
    return any(
        row.startswith(name) and not (ROOT / path).is_file() for name, path in AWAITED.items()
    )


@cache
def rows(section: str) -> list[tuple[str, str, str]]:
    """The three columns of the table below a heading, without backticks in the first."""
    text = PAGE.read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    lines = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    found = [tuple(cell.strip(" |") for cell in [*line, ""][:3]) for line in lines[1:]]
    return [(first.strip("`"), status, notes) for first, status, notes in found]
