"""Records a step of training of narrow cascades: tests/arrays/vitdet/first_steps.json.gz.

Of Swin and MViT.

    python -m tests.recorders.transformer_steps OUTPUT NAME=NARROW.npz ...

needs a Python with Detectron2 and timm. A NARROW.npz has `settings`, JSON of a model as Detectron2
calls it; the square becomes 320 and the classes four, all anchors and proposals are taken, and the
weights are the seeded ones. Two images of the demo, in float32. Of each model:

- `settings`: of the whole model.
- `losses`: before and after a step of AdamW.
- `gradients`: of each parameter the norm, and the product with `direction(name, shape)`.
- `changes`: the norms of what the step changes.
- `weight_decays`: of each parameter.
- `noise`: how far `losses` and `gradients` (of the norm) are at most, as shares, with weights that
  are disturbed by 1e-6.
"""

from __future__ import annotations

import gzip
import importlib
import json
import sys
import zlib
from functools import partial
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.data.datasets import load_coco_json
from detectron2.layers import ShapeSpec
from detectron2.solver.build import get_default_optimizer_params
from detectron2.utils.events import EventStorage

from benchmarks.seeded_weights import array
from tests.support.paths import DEMO

IMAGES = ("000002.jpg", "000003.jpg")
# By what a name begins with: weight decay, and the parameters without.
DECAYS = {
    "swin": (0.05, ["relative_position_bias_table"]),
    "mvit": (0.1, ["pos_embed", "rel_pos_h", "rel_pos_w"]),
}


def direction(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """In PyTorch's layout; its elements are of the order of 1."""
    return np.random.RandomState(zlib.crc32(f"{name}/direction".encode())).randn(*shape)


def adapt(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a model for small images of which nothing is sampled."""
    settings["proposal_generator"] |= {
        "batch_size_per_image": 25600,
        "positive_fraction": 1.0,
        "pre_nms_topk": [400, 400],
        "post_nms_topk": [2000, 2000],
        "nms_thresh": 1.0,
    }
    settings["roi_heads"] |= {"batch_size_per_image": 2048, "positive_fraction": 1.0}
    settings["backbone"]["square_pad"] = 320

    def reduce(node: Any) -> None:
        if isinstance(node, dict):
            if "num_classes" in node:
                node["num_classes"] = 4
            node = list(node.values())
        for each in node if isinstance(node, list) else []:
            reduce(each)

    reduce(settings["roi_heads"])
    return settings


def make(node: Any) -> Any:
    """What settings describe."""
    if isinstance(node, list):
        return [make(each) for each in node]
    if not isinstance(node, dict):
        return node

    def find(path: str) -> Any:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)

    if "_class_" in node:
        return find(node["_class_"])
    arguments = {key: make(value) for key, value in node.items() if key[0] != "_"}
    if "_partial_" in node:
        return partial(find(node["_partial_"]), **arguments)
    if "_target_" in node:
        return find(node["_target_"])(**arguments)
    shape = set(arguments) == {"channels", "height", "width", "stride"}
    return ShapeSpec(**arguments) if shape else arguments


def load_weights(model: torch.nn.Module, disturbance: float) -> None:
    random = np.random.RandomState(1)
    weights = {}
    for name, value in model.state_dict().items():
        weights[name] = value
        if not name.endswith("relative_position_index"):  # computed
            seeded = array(name, tuple(value.shape))
            if seeded.dtype == np.float32:
                seeded = seeded * (1 + disturbance * random.randn(*seeded.shape))
            weights[name] = torch.from_numpy(seeded.astype(np.float32))
    model.load_state_dict(weights)


def images() -> list[dict[str, Any]]:
    records = load_coco_json(str(DEMO / "annotations.json"), str(DEMO / "images"), "demo")
    by_name = {record["file_name"].rpartition("/")[2]: record for record in records}
    mapper = DatasetMapper(
        is_train=True,
        augmentations=[T.ResizeShortestEdge(224, 320)],
        image_format="RGB",
        use_instance_mask=True,
    )
    return [mapper(by_name[name]) for name in IMAGES]


def record(name: str, settings: dict[str, Any], disturbance: float = 0.0) -> dict[str, Any]:
    model = make(settings).train()
    load_weights(model, disturbance)
    decay, without = DECAYS[name[:4]]
    groups = get_default_optimizer_params(
        model,
        base_lr=1e-4,
        weight_decay_norm=0.0,
        overrides={last: {"weight_decay": 0.0} for last in without},
    )
    optimizer = torch.optim.AdamW(groups, lr=1e-4, weight_decay=decay)
    batch = images()

    def losses() -> dict[str, torch.Tensor]:
        with EventStorage(0):
            return model(batch)

    first = losses()
    sum(first.values()).backward()
    parameters = dict(model.named_parameters())
    gradients = {name: p.grad.double().numpy() for name, p in parameters.items()}
    before = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer.step()
    with torch.no_grad():
        both = [{k: float(v) for k, v in step.items()} for step in (first, losses())]
    names = {id(p): name for name, p in parameters.items()}
    return {
        "settings": settings,
        "losses": both,
        "gradients": {
            name: [np.linalg.norm(g), float((g * direction(name, g.shape)).sum())]
            for name, g in gradients.items()
        },
        "changes": {
            name: float(torch.linalg.norm((p.detach() - before[name]).double()))
            for name, p in parameters.items()
        },
        "weight_decays": {
            names[id(p)]: group["weight_decay"]
            for group in optimizer.param_groups
            for p in group["params"]
        },
    }


def noise(found: dict[str, Any], disturbed: dict[str, Any]) -> dict[str, Any]:
    losses = [
        max(abs(b[name] / a[name] - 1) for name in a)
        for a, b in zip(found["losses"], disturbed["losses"], strict=True)
    ]
    norms = [
        abs(disturbed["gradients"][name][0] / norm - 1)
        for name, (norm, _) in found["gradients"].items()
    ]
    changes = [abs(disturbed["changes"][k] / v - 1) for k, v in found["changes"].items() if v]
    return {"losses": losses, "gradients": sorted(norms)[-5:], "changes": sorted(changes)[-5:]}


def main(output: str, *records: str) -> None:
    torch.set_num_threads(1)
    found = {}
    for entry in records:
        name, _, path = entry.partition("=")
        with np.load(path) as arrays:
            text = arrays["settings"]
        settings = adapt(json.loads(str(text) if text.dtype.kind == "U" else text.tobytes()))
        found[name] = record(name, settings)
        found[name]["noise"] = noise(found[name], record(name, settings, 1e-6))
        print(name, found[name]["losses"], found[name]["noise"])
    with gzip.GzipFile(output, "wb", mtime=0) as file:
        file.write(json.dumps(found).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
