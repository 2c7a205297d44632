"""Time and peak memory of one prediction of ViTDet, Swin and MViTv2, compared with Detectron2's.

From an image of 400 x 600 in memory to what is found in it, masks in the image's pixels. Both sides
have the same seeded random weights. Detectron2's side reads the configurations of its own
projects/, which its package does not have: TFDETECT_DETECTRON2 names a checkout.

    python benchmarks/transformers.py [ROW ...] [--runs N] [--reference PYTHON]
"""

from __future__ import annotations

import functools

import lazy_models
import seeded_models
from harness import Row, Side, main
from seeded_models import IMAGE


def _detectron2(config: str) -> Side:
    import cv2
    import torch

    cfg, model = lazy_models.build(config)
    model.eval()
    from detectron2.config import instantiate
    from detectron2.data import transforms

    resize = transforms.AugmentationList(
        [instantiate(each) for each in cfg.dataloader.test.mapper.augmentations]
    )
    image = cv2.imread(str(IMAGE))[:, :, ::-1]

    def run() -> dict[str, float]:
        with torch.no_grad():
            resized = transforms.AugInput(image)
            resize(resized)
            pixels = resized.image.astype("float32").transpose(2, 0, 1).copy()
            height, width = image.shape[:2]
            (found,) = model(
                [{"image": torch.from_numpy(pixels), "height": height, "width": width}]
            )
        return {"detections": len(found["instances"])}

    return Side(seeded_models.detectron2_versions(), run)


def _row(name: str, title: str, config: str) -> Row:
    return Row(
        name,
        title,
        0.5,
        functools.partial(seeded_models.prediction, config),
        "Detectron2",
        functools.partial(_detectron2, config),
        needs=("torch", "detectron2", "timm"),
        unit="s",
        runs=3,
        warm_up=1,
    )


_VITDET_B = "ViTDet/COCO/mask_rcnn_vitdet_b_100ep"

ROWS = [
    _row("vitdet_b", "one image, ViTDet-B Mask R-CNN, 1024 square", _VITDET_B),
    _row(
        "swin_b",
        "one image, Swin-B Cascade Mask R-CNN, 1024 square",
        "ViTDet/COCO/cascade_mask_rcnn_swin_b_in21k_50ep",
    ),
    _row(
        "mvitv2_t",
        "one image, MViTv2-T Mask R-CNN, 800 x 1216",
        "MViTv2/mask_rcnn_mvitv2_t_3x",
    ),
    # Memory only grows, so that the last of several runs says it.
    Row(
        "vitdet_b_memory",
        "peak memory of the process, ViTDet-B Mask R-CNN, three predictions",
        0.6,
        functools.partial(seeded_models.prediction, _VITDET_B),
        "Detectron2",
        functools.partial(_detectron2, _VITDET_B),
        needs=("torch", "detectron2", "timm"),
        measure="peak_mb",
        unit="MB",
        runs=1,
        warm_up=2,
    ),
]

if __name__ == "__main__":
    main(ROWS)
