"""Recognises a model's source library by its array names, including any prefix."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from convert_d2.libraries import detectron, maskrcnn_benchmark, tensorpack, torchvision
from tfdetect.checkpoint.formats.find_weights import AVERAGE

Value = TypeVar("Value")

# Detectors that can be converted, by names that only they have. Detectron2's are recognised by
# their parts, any of which may be missing.
_LIBRARIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("torchvision", torchvision.MARKERS),
    ("maskrcnn-benchmark", maskrcnn_benchmark.MARKERS),
    ("Detectron", detectron.MARKERS),
    ("Detectron", detectron.RPN_MARKERS),
    ("tensorpack", tensorpack.MARKERS),
)
_DETECTRON2 = re.compile(
    r"((?:[^.]+\.)*?)(?:"
    r"backbone\.(?:bottom_up\.|fpn_(?:lateral|output)|top_block\.|stem\.conv1\.|res[2-5]\.\d"
    r"|net\.patch_embed\.|net\.blocks\.|simfp_\d\.)"
    r"|proposal_generator\."
    r"|roi_heads\.(?:box_head\.|box_predictor\.|mask_head\.|keypoint_head\.|res5\.)"
    r"|sem_seg_head\.|head\.(?:cls_subnet|bbox_subnet|cls_score|bbox_pred)\.)"
)

# What a model of Detectron2's begins with; parts within parts are not wrapped models.
_PARTS = ("backbone.", "proposal_generator.", "roi_heads.", "sem_seg_head.", "head.")

# Models that can be identified by name but not converted. The first match wins.
_NOT_CONVERTED: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "torchvision's FCOS",
        ("head.classification_head.cls_logits.weight", "head.regression_head.bbox_ctrness.weight"),
    ),
    (
        "torchvision's RetinaNet",
        ("head.classification_head.cls_logits.weight", "head.regression_head.bbox_reg.weight"),
    ),
    (
        "torchvision's SSD",
        (
            "head.classification_head.module_list.0.weight",
            "head.regression_head.module_list.0.weight",
        ),
    ),
    (
        "torchvision's SSDlite",
        (
            "head.classification_head.module_list.0.1.weight",
            "head.regression_head.module_list.0.1.weight",
        ),
    ),
    (
        "an R-CNN of torchvision's with another backbone than ResNet-FPN",
        ("rpn.head.cls_logits.weight", "roi_heads.box_predictor.cls_score.weight"),
    ),
    ("torchvision's FCN or DeepLab", ("backbone.conv1.weight", "classifier.0.weight")),
    ("torchvision's DeepLab", ("backbone.conv1.weight", "classifier.0.convs.0.0.weight")),
    ("a Deformable DETR or a relative", ("transformer.level_embed", "class_embed.0.weight")),
    ("a DETR", ("query_embed.weight", "class_embed.weight", "bbox_embed.layers.0.weight")),
    (
        "a DETR of the library transformers",
        ("model.query_position_embeddings.weight", "class_labels_classifier.weight"),
    ),
    ("a YOLOX", ("backbone.backbone.stem.conv.conv.weight", "head.cls_preds.0.weight")),
    ("a detector of MMDetection", ("roi_head.bbox_head.fc_cls.weight", "rpn_head.rpn_conv.weight")),
    (
        "a detector of MMDetection",
        ("roi_head.bbox_head.0.fc_cls.weight", "rpn_head.rpn_conv.weight"),
    ),
    ("a detector of MMDetection", ("bbox_head.fc_cls.weight", "rpn_head.rpn_conv.weight")),
    ("a detector of MMDetection", ("backbone.conv1.weight", "neck.lateral_convs.0.conv.weight")),
    (
        "a Segment Anything model",
        ("image_encoder.patch_embed.proj.weight", "mask_decoder.iou_token.weight"),
    ),
)
# Ultralytics' layers are numbered, and the last one differs from model to model.
_YOLO = re.compile(
    r"(?:[^.]+\.)*?model\.\d+\.(?:dfl\.conv\.weight|anchors|cv2\.0\.2\.weight|m\.0\.weight)"
)

MVIT = "an MViT (a backbone)"
_BACKBONES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Caffe2 (a backbone)", ("conv1_w",)),
    ("torchvision (a backbone)", ("conv1.weight", "layer1.0.conv1.weight")),
    ("Detectron2 (a backbone)", ("stem.conv1.weight",)),
    ("Detectron2 (a backbone)", ("stem.conv.weight", "s1.b1.f.a.weight")),
    (
        "a Swin Transformer (a backbone)",
        ("patch_embed.proj.weight", "layers.0.blocks.0.attn.relative_position_bias_table"),
    ),
    (MVIT, ("patch_embed.proj.weight", "blocks.0.attn.pool_q.weight")),
    ("a vision transformer (a backbone)", ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight")),
)


@dataclass(frozen=True)
class Recognition:
    """The model that arrays belong to.

    Attributes:
        library: "Detectron2", "torchvision", ... of a detector that is converted; else None.
        description: a description for the user: the library, a backbone, "torchvision's SSD", or
            "unknown".
        prefix: the prefix of the names, such as "module."; "" for none.
        others: further prefixes under which the same library's names are, such as "ema.".
        outside: how many names are not under the prefix.
        converted: False where it is certain that no model here fits.
    """

    library: str | None
    description: str
    prefix: str
    others: tuple[str, ...]
    outside: int
    converted: bool = True

    def select(self, arrays: Mapping[str, Value]) -> dict[str, Value]:
        """The arrays under the prefix, and not under any of the others, by their names without
        it."""
        inner = tuple(prefix for prefix in self.others if prefix.startswith(self.prefix))
        return {
            name.removeprefix(self.prefix): array
            for name, array in arrays.items()
            if name.startswith(self.prefix) and not name.startswith(inner)
        }


def recognize(names: Iterable[str]) -> Recognition:
    """Recognise the library by the names, under any prefix.

    Trainers wrap models: DataParallel puts "module." before all names, torch.compile "_orig_mod.",
    Lightning the attribute that holds the model. Of several prefixes, the shortest that does not
    belong to averaged weights is used.
    """
    names = {name.removesuffix(":0") for name in names}
    for library, markers in _LIBRARIES:
        if prefixes := _prefixes(names, markers):
            return _recognition(library, library, prefixes, names)
    for description, markers in _NOT_CONVERTED:
        if prefixes := _prefixes(names, markers):
            return _recognition(None, description, prefixes, names, converted=False)
    if any(_YOLO.fullmatch(name) for name in names) and _prefixes(names, ("model.0.conv.weight",)):
        return _recognition(None, "a YOLO of Ultralytics or a relative", {""}, names, False)
    matches = (_DETECTRON2.match(name) for name in names)
    prefixes = {match[1] for match in matches if match and not match[1].startswith(_PARTS)}
    if prefixes:
        return _recognition("Detectron2", "Detectron2", prefixes, names)
    for description, markers in _BACKBONES:
        if prefixes := _prefixes(names, markers):
            return _recognition(None, description, prefixes, names)
    return Recognition(None, "unknown", "", (), 0)


def _prefixes(names: set[str], markers: tuple[str, ...]) -> set[str]:
    """What stands before the first marker and, in the same form, before all the others."""
    first = markers[0]
    found = (name.removesuffix(first) for name in names if name.endswith(first))
    return {
        prefix
        for prefix in found
        if (not prefix or prefix.endswith("."))
        and all(prefix + marker in names for marker in markers[1:])
    }


def _recognition(
    library: str | None,
    description: str,
    prefixes: set[str],
    names: set[str],
    converted: bool = True,
) -> Recognition:
    prefix, *others = sorted(prefixes, key=_rank)
    outside = sum(not name.startswith(prefix) for name in names)
    return Recognition(library, description, prefix, tuple(others), outside, converted)


def _rank(prefix: str) -> tuple[bool, int, str]:
    return bool(AVERAGE.search(prefix)), prefix.count("."), prefix


def describe_place(container: str, others: Iterable[str], found: Recognition) -> Iterator[str]:
    """Where the weights were taken from, if that is not obvious: one sentence for each unusual
    fact."""
    others = [*others, *(f"{prefix}*" for prefix in found.others)]
    if container not in ("", "model", "blobs"):
        yield f"the weights under '{container}' are used"
    if found.prefix:
        yield f"'{found.prefix[:100]}' before the names is stripped"
        if found.outside:
            yield f"names without it are ignored ({found.outside} arrays)"
    if others:
        taken = f"{found.prefix}*" if found.others and found.prefix else container or "the top"
        yield (
            f"the file has other weights too, which are not used: {', '.join(others)[:200]} "
            f"(taken: {taken})"
        )


def not_converted(found: Recognition) -> str:
    """The message for a known but unsupported model."""
    return (
        f"is {found.description}, which this project does not support; give a checkpoint of "
        "Detectron2, Detectron, tensorpack, or an R-CNN of torchvision or "
        "maskrcnn-benchmark"
    )
