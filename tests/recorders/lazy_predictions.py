"""Records what narrow models of LazyConfigs predict, and the config.yaml of each.

    python -m tests.recorders.lazy_predictions DETECTRON2 tests/arrays/lazy_configs/predictions.npz

needs a Python with Detectron2 and timm, and Detectron2's source in the folder DETECTRON2. Of a
ViTDet, a Swin and an MViTv2 of its projects, made narrow by overrides, with seeded weights: the
text of the config.yaml, and the detections in `full/coffee.png` (boxes, scores, classes, pixels of
each mask), as MODEL/NAME.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.data import transforms

from benchmarks.seeded_weights import state_dict

IMAGE = Path(__file__).resolve().parent.parent / "arrays" / "full" / "coffee.png"
SQUARE = "model.backbone.square_pad=384"
VIT, BODY = "model.backbone.net", "model.backbone.bottom_up"
MODELS = {
    "vit": (
        "ViTDet/configs/COCO/mask_rcnn_vitdet_b_100ep.py",
        [
            *(SQUARE, f"{VIT}.embed_dim=48", f"{VIT}.depth=4", f"{VIT}.num_heads=3"),
            *(f"{VIT}.window_block_indexes=[0,1,3]", f"{VIT}.img_size=384"),
        ],
    ),
    "swin": (
        "ViTDet/configs/COCO/cascade_mask_rcnn_swin_b_in21k_50ep.py",
        [
            *(SQUARE, f"{BODY}.embed_dim=24", f"{BODY}.depths=[2,2,2,2]"),
            f"{BODY}.num_heads=[1,2,3,4]",
        ],
    ),
    "mvit": (
        "MViTv2/configs/cascade_mask_rcnn_mvitv2_t_3x.py",
        [f"{BODY}.embed_dim=24", f"{BODY}.depth=6", f"{BODY}.last_block_indexes=[0,1,3,5]"],
    ),
}


def main() -> None:
    source, output = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    found = {}
    for name, (path, overrides) in MODELS.items():
        cfg = LazyConfig.load(str(source / "projects" / path))
        cfg = LazyConfig.apply_overrides(cfg, overrides)
        _narrow_heads(cfg)
        with tempfile.TemporaryDirectory() as folder:
            saved = os.path.join(folder, "config.yaml")
            LazyConfig.save(cfg, saved)
            found[f"{name}/config"] = np.array(Path(saved).read_text())
        for key, value in _predict(cfg).items():
            found[f"{name}/{key}"] = value
    np.savez_compressed(output, **found)


def _narrow_heads(cfg) -> None:
    model, roi_heads = cfg.model, cfg.model.roi_heads
    model.backbone.out_channels = 32
    model.proposal_generator.head.in_channels = 32
    roi_heads.num_classes = 5
    stages = "box_heads" in roi_heads
    for head in roi_heads.box_heads if stages else [roi_heads.box_head]:
        head.input_shape.channels = 32
        head.conv_dims = [32] * len(head.conv_dims)
        head.fc_dims = [48] * len(head.fc_dims)
    for predictor in roi_heads.box_predictors if stages else [roi_heads.box_predictor]:
        predictor.input_shape.channels = 48
        predictor.test_score_thresh = 0.02
    roi_heads.mask_head.input_shape.channels = 32
    roi_heads.mask_head.conv_dims = [32] * 5
    resize = cfg.dataloader.test.mapper.augmentations[0]
    resize.short_edge_length, resize.max_size = 256, 384


def _predict(cfg) -> dict[str, np.ndarray]:
    model = instantiate(cfg.model).eval()
    current = model.state_dict()
    weights = state_dict({name: tuple(value.shape) for name, value in current.items()})
    computed = {name for name in current if name.endswith("relative_position_index")}
    model.load_state_dict(
        {
            name: value if name in computed else torch.from_numpy(weights[name])
            for name, value in current.items()
        }
    )
    image = cv2.imread(str(IMAGE))
    resized = transforms.AugInput(np.ascontiguousarray(image[:, :, ::-1]))
    transforms.AugmentationList(
        [instantiate(each) for each in cfg.dataloader.test.mapper.augmentations]
    )(resized)
    pixels = torch.as_tensor(resized.image.astype("float32").transpose(2, 0, 1).copy())
    height, width = image.shape[:2]
    with torch.no_grad():
        [result] = model([{"image": pixels, "height": height, "width": width}])
    found = result["instances"]
    return {
        "boxes": found.pred_boxes.tensor.numpy(),
        "scores": found.scores.numpy(),
        "classes": found.pred_classes.numpy(),
        "mask_pixels": found.pred_masks.sum((1, 2)).numpy(),
    }


if __name__ == "__main__":
    main()
