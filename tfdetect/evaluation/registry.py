"""Opening annotations to measure a model on, whatever their format."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities
from tfdetect.errors import InputError
from tfdetect.evaluation.dataset import EvaluationDataset, model_tasks
from tfdetect.registry import Registry

Report = Callable[[InputError], None]


@dataclass(frozen=True)
class ModelInfo:
    """What a model predicts, as far as annotations have to fit it.

    Attributes:
        tasks: see `model_tasks`.
        class_names: the model's classes, which are matched with the annotations' by
            `match_classes`; empty where they have the annotations' order.
        keypoint_oks_sigmas: the configuration's TEST.KEYPOINT_OKS_SIGMAS.
        stuff_names: the model's classes of stuff, empty as above.
        num_keypoints: how many the model predicts; None for as many as it is measured on.
        rotated: whether its boxes are.
        ignore_value: of pixels of masks that do not count.
        images: the folder of the images, where it is known.
    """

    tasks: Collection[str]
    class_names: Sequence[str]
    keypoint_oks_sigmas: Sequence[float] = ()
    stuff_names: Sequence[str] = ()
    num_keypoints: int | None = None
    rotated: bool = False
    ignore_value: int = 255
    images: Path | None = None


Opener = Callable[[Path, bytes, ModelInfo, Report | None], EvaluationDataset | None]

EVALUATORS: Registry[Opener] = Registry(
    "evaluator",
    [
        "tfdetect.evaluation.formats",
        "tfdetect.evaluation.panoptic_format",
        "tfdetect.evaluation.segmentation_formats",
        "tfdetect.evaluation.other_formats",
    ],
)
"""By format. Called with (path, content, model, report): the content of the file, empty for a
folder, and as for `open_dataset` what the model predicts and who hears of broken annotations. An
evaluator returns None if the annotations are not of its format; the one that was registered last is
asked first, and COCO's, which takes every file, after all others.
"""


def has_field(content: bytes, name: str) -> bool:
    """Whether a file of JSON has a field of this name, of ASCII; it may be in UTF-16."""
    text = content.replace(b"\0", b"") if b"\0" in content[:4] else content
    return f'"{name}"'.encode() in text


def model_info(cfg: CfgNode, metadata: Mapping[str, Any], images: Path | None = None) -> ModelInfo:
    """What a model predicts.

    Args:
        cfg: its configuration.
        metadata: of its directory.
        images: the folder of the images that it is measured on, where that is known.
    """
    return ModelInfo(
        model_tasks(cfg),
        metadata["class_names"],
        cfg.TEST.KEYPOINT_OKS_SIGMAS or (),
        metadata.get("stuff_class_names") or (),
        capabilities(cfg).num_keypoints or None,
        rotated=capabilities(cfg).rotated,
        ignore_value=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        images=images,
    )


def open_for_model(
    path: str | Path,
    cfg: CfgNode,
    metadata: Mapping[str, Any],
    report: Report | None = None,
    images: Path | None = None,
) -> EvaluationDataset:
    """`open_dataset` for a model.

    Args:
        path: the annotations.
        cfg, metadata, images: see `model_info`.
        report: as of `open_dataset`.
    """
    return _open(path, model_info(cfg, metadata, images), report)


def open_dataset(
    path: str | Path,
    tasks: Collection[str],
    class_names: Sequence[str],
    keypoint_oks_sigmas: Sequence[float] = (),
    *,
    stuff_names: Sequence[str] = (),
    num_keypoints: int | None = None,
    rotated: bool = False,
    report: Report | None = None,
) -> EvaluationDataset:
    """Open annotations of any of the formats in `EVALUATORS`, which their content tells.

    A JSON file is COCO panoptic if it has `segments_info`, LVIS if it has `neg_category_ids`,
    else COCO; a list of images in a folder `ImageSets/Main`, or the folder above, is Pascal VOC. A
    folder of XML files (Pascal VOC's), of labelme's JSON or of YOLO's text files, or YOLO's
    data.yaml, is measured as COCO; another folder of text files is DOTA, one of folders with
    `*_gtFine_*` Cityscapes, and another one with PNGs has masks.

    Args:
        path: the annotations.
        tasks, class_names, keypoint_oks_sigmas, stuff_names, num_keypoints, rotated: see
            `ModelInfo`.
        report: gets the error of each broken annotation, which is then left out and counted; None
            raises it.

    Raises:
        InputError: it is in none of these formats, cannot be read, has none of the model's tasks,
            lacks what evaluation needs, or its classes do not match the model's.
    """
    model = ModelInfo(tasks, class_names, keypoint_oks_sigmas, stuff_names, num_keypoints, rotated)
    return _open(path, model, report)


def _open(path: str | Path, model: ModelInfo, report: Report | None) -> EvaluationDataset:
    path = Path(path)
    content = b""
    if not path.is_dir():
        try:
            content = path.read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(f"{path}: cannot be read ({reason}), check the name") from error
    others = [name for name in EVALUATORS if name != "coco"]
    for name in (*reversed(others), "coco"):
        dataset = EVALUATORS.get("format", name)(path, content, model, report)
        if dataset is None:
            continue
        if model.rotated and not dataset.takes_rotated:
            raise InputError(
                f"{path}: {dataset.form} has no rotated boxes, which the model predicts: give"
                " annotations of COCO or DOTA"
            )
        return dataset
    raise InputError(
        f"{path}: is a folder, but not one of Pascal VOC, YOLO, labelme, DOTA, Cityscapes or masks;"
        " give an annotation file"
    )
