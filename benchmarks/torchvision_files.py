"""torchvision's Mask R-CNN R50-FPN with seeded weights, in the files that its rivals read.

The Python that has PyTorch, torchvision and onnx writes them to output/rivals, once: the
checkpoint, which `tfdetect convert` takes; what torchvision's own export (`torch.onnx.export`
through TorchScript) makes of the whole model for images of 400 x 600, and of its backbone, FPN and
RPN head for 800 x 1216; and the image. The weights are those of seeded_weights.py under
Detectron2's names, so that there are as many proposals and detections as of a trained model.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import warnings
import zlib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import ROOT, Skip, python

if TYPE_CHECKING:
    import torch

FOLDER = ROOT / "output" / "rivals"
CHECKPOINT = FOLDER / "mask_rcnn.pth"
WHOLE = FOLDER / "mask_rcnn.onnx"
HEADS = FOLDER / "heads.onnx"
# uint8 [400, 600, 3] RGB.
PIXELS = FOLDER / "pixels.npy"
_IMAGE = ROOT / "tests" / "arrays" / "full" / "coffee.png"
_STAMP = FOLDER / "written.json"
# With the background.
_CLASSES = 81
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The newest that `torch.onnx.export` through TorchScript knows.
_OPSET = 17


def write_files() -> dict[str, str]:
    """See that the files are there, of these weights and of the reference's versions.

    Returns:
        The versions of what wrote them.

    Raises:
        Skip: the reference's Python lacks PyTorch, torchvision or onnx.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the other side of a row wants them too
        command = [python("reference"), __file__]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    if "skipped" in answer:
        raise Skip(f"torchvision's model cannot be written: {answer['skipped']}")
    return answer["versions"]


def image() -> np.ndarray:
    """What torchvision's whole model takes: float32 [3, 400, 600], RGB in 0..1."""
    return (np.load(PIXELS).astype(np.float32) / 255).transpose(2, 0, 1).copy()


def heads_input() -> np.ndarray:
    """What the backbone takes: float32 [1, 3, 800, 1216], normalised and padded from 800 x 1200."""
    normalised = (np.load(PIXELS).astype(np.float32) / 255 - _MEAN) / _STD
    large = normalised.repeat(2, axis=0).repeat(2, axis=1).astype(np.float32)
    return np.pad(large, [(0, 0), (0, 16), (0, 0)]).transpose(2, 0, 1)[None].copy()


def build() -> Any:
    """The model as torchvision builds it for its published weights, with frozen norms."""
    import torch
    from torchvision.models import resnet50
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
    from torchvision.ops.misc import FrozenBatchNorm2d

    body = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    model = MaskRCNN(_resnet_fpn_extractor(body, 3), num_classes=_CLASSES).eval()
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = 0.0
    arrays = {name: _seeded(name, value.numpy()) for name, value in model.state_dict().items()}
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return model


def _seeded(name: str, value: np.ndarray) -> np.ndarray:
    """The array of a name of torchvision's, in its shape."""
    from seeded_weights import array

    from convert_d2.libraries.torchvision import from_torchvision

    ((renamed, kept),) = from_torchvision({name: value}).items()
    seeded = array(renamed, kept.shape)
    if renamed.endswith("stem.conv1.weight"):
        seeded *= 255 * np.mean(_STD)  # those are for pixels in 0..255
    if "cls_score" in name:
        seeded = np.roll(seeded, 1, axis=0)  # the background is the first class here
    # The background's boxes and mask, which nothing reads and Detectron2 does not have.
    background = np.zeros([len(value) - len(kept), *kept.shape[1:]], np.float32)
    return np.concatenate([background, seeded])


def _write() -> dict[str, Any]:
    """In the reference's Python: write what is missing; what `write_files` reads."""
    packages = {"PyTorch": "torch", "torchvision": "torchvision", "onnx": "onnx"}
    try:
        versions = {name: metadata.version(package) for name, package in packages.items()}
    except metadata.PackageNotFoundError as error:
        return {"skipped": f"{error.name} is not installed"}
    sources = (Path(__file__), Path(__file__).with_name("seeded_weights.py"))
    written = versions | {"source": str([zlib.crc32(source.read_bytes()) for source in sources])}
    if not _STAMP.exists() or json.loads(_STAMP.read_text()) != written:
        import cv2
        import torch

        _STAMP.unlink(missing_ok=True)
        np.save(PIXELS, cv2.imread(str(_IMAGE))[:, :, ::-1])
        model = build()
        torch.save(model.state_dict(), CHECKPOINT)
        _export(model, [torch.from_numpy(image())], WHOLE, ["boxes", "labels", "scores", "masks"])
        _export(_heads(model), torch.from_numpy(heads_input()), HEADS, None)
        _STAMP.write_text(json.dumps(written))
    return {"versions": versions}


def _heads(model: Any) -> torch.nn.Module:
    import torch

    class Heads(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = model.backbone, model.rpn.head

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            features = list(self.backbone(x).values())
            logits, deltas = self.head(features)
            return [*features, *logits, *deltas]

    return Heads()


def _export(model: Any, argument: Any, path: Path, outputs: list[str] | None) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of this exporter being the older one, and of its tracing
        torch.onnx.export(
            model,
            (argument,),
            path,
            dynamo=False,
            opset_version=_OPSET,
            input_names=["image"],
            output_names=outputs,
        )
    _fill_empty_constants(path)


def _fill_empty_constants(path: Path) -> None:
    """Have the masks, of which the loop that pastes them starts with none, filled, not constant.

    OpenVINO 2026.4 reads an empty constant as a scalar and rejects the model.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    nodes = []
    for node in model.graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Constant" and value and len(value.dims) > 1 and 0 in value.dims:
            (name,) = node.output
            dims = numpy_helper.from_array(np.array(value.dims, np.int64))
            zero = numpy_helper.from_array(np.zeros([1], np.float32))
            nodes.append(helper.make_node("Constant", [], [f"{name}_shape"], value=dims))
            node = helper.make_node("ConstantOfShape", [f"{name}_shape"], [name], value=zero)
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    with contextlib.redirect_stdout(sys.stderr):
        print(json.dumps(_write()), file=answers, flush=True)
