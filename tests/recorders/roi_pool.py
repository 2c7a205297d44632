"""Records torchvision's roi_pool and Detectron2's ROIPooler with it: tests/arrays/ops/roi_pool.npz.

    python -m tests.recorders.roi_pool tests/arrays/ops tests/arrays/ops/roi_pool.npz

needs a Python with Detectron2. Features and boxes are those of roi_align.npz and roi_pooler.npz in
the first folder. "ties" has its features rounded, so that bins have several largest pixels.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from torchvision.ops import roi_pool

SPECIAL = [
    [0, 50, 50, 10, 10],
    [1, 10, 10, 10, 10],
    [0, -500, -500, -400, -400],
    [1, 8, 24, 40, 56],
    [0, -1e6, -1e6, 1e6, 1e6],
    [1, 1e6, 0, 1e6 + 40, 40],
    [0, -30, 100, 90, 700],
]


def main(folder, path):
    with np.load(folder / "roi_align.npz") as found:
        features, rois = found["feats"], found["rois"]
        scale = float(found["spatial_scale"])
    rois = np.concatenate([rois, np.array(SPECIAL, np.float32)])
    rng = np.random.default_rng(0)
    saved = {"rois": rois}
    for name, values in (("plain", features), ("ties", features.round())):
        for height, width in ((7, 7), (3, 5), (1, 1)):
            given = torch.tensor(values, requires_grad=True)
            pooled = roi_pool(given, torch.tensor(rois), (height, width), scale)
            grad = rng.normal(size=pooled.shape).astype(np.float32)
            pooled.backward(torch.tensor(grad))
            key = f"{name}_{height}x{width}"
            saved |= {key: pooled.detach().numpy(), f"{key}_outgrad": grad}
            saved[f"{key}_ingrad"] = given.grad.numpy()
    with np.load(folder / "roi_pooler.npz") as found:
        levels = [torch.tensor(found[f"p{level}"]) for level in range(2, 6)]
        boxes = [Boxes(torch.tensor(found[f"boxes{image}"])) for image in (0, 1)]
    pooler = ROIPooler(7, [1 / 4, 1 / 8, 1 / 16, 1 / 32], 0, "ROIPool")
    saved["pooler_7"] = pooler(levels, boxes).numpy()
    np.savez_compressed(path, **saved)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
