"""Data sets of masks, of Cityscapes, and of several files, as `EvaluationDataset`s."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tfdetect.data.cityscapes import IMAGE_SUFFIX, class_labels, image_files
from tfdetect.data.class_names import match_classes
from tfdetect.data.image_files import count_missing, missing_files
from tfdetect.data.images import read_size
from tfdetect.data.sem_seg import (
    LabelRange,
    SemSegImage,
    check_sem_seg,
    read_class_names,
    read_sem_seg_folder,
)
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.evaluation import cityscapes, coco, semantic
from tfdetect.evaluation.dataset import EvaluationDataset, Metrics
from tfdetect.evaluation.registry import EVALUATORS, ModelInfo, Report
from tfdetect.files import write_json


@EVALUATORS.register("sem_seg")
def _open_masks(
    path: Path, content: bytes, model: ModelInfo, report: Report | None
) -> EvaluationDataset | None:
    del content
    # Rotated boxes of DOTA may lie beside their images.
    if not path.is_dir() or model.rotated or next(path.glob("*.png"), None) is None:
        return None
    if model.images is None:
        raise InputError(f"{path}: masks do not say where their images are; give their folder")
    images = read_sem_seg_folder(path, model.images, report or _raise)
    return SemSegMasks(path, images, model, read_class_names(path), report=report)


@EVALUATORS.register("cityscapes_instance")
def _open_cityscapes(
    path: Path, content: bytes, model: ModelInfo, report: Report | None
) -> EvaluationDataset | None:
    del content, report  # a broken annotation is an error
    if not path.is_dir() or next(path.glob("*/*_gtFine_*"), None) is None:
        return None
    if model.images is None:
        raise InputError(
            f"{path}: Cityscapes' annotations do not say where its images are; give leftImg8bit/val"
        )
    return CityscapesInstances(path, model.images, model)


def _raise(error: InputError) -> None:
    raise error


class SemSegMasks(EvaluationDataset):
    """Images that have a mask each (Detectron2: `SemSegEvaluator`).

    Args:
        path: of the masks, for messages.
        images: with their masks.
        model: whose classes are matched with `names`.
        names: of the masks' classes; None for the model's.
        category_ids: of these classes, for the results; None for their numbers.
        report: gets the errors of broken masks; None raises them.
    """

    form = "semantic masks"
    measures = ("sem_seg",)

    def __init__(
        self,
        path: Path,
        images: Sequence[SemSegImage],
        model: ModelInfo,
        names: Sequence[str] | None,
        category_ids: Sequence[int] | None = None,
        *,
        report: Report | None = None,
    ):
        super().__init__(path, model.tasks, images)
        self._names = list(model.stuff_names if names is None else names)
        self._ids = list(category_ids or range(len(self._names)))
        match = match_classes(str(path), model.stuff_names, self._names, range(len(self._names)))
        self.notes += [] if match.note is None else [match.note]
        if None in match.indices:
            unknown = model.stuff_names[match.indices.index(None)]
            raise InputError(
                f"{path}: has no class {unknown!r}, which the model has: give masks with the"
                " classes that the model was trained on"
            )
        self._in_models_order = [self._ids[index] for index in match.indices if index is not None]
        self._labels = LabelRange(len(self._names), model.ignore_value)
        self._images = images
        sized = [(image.sem_seg, (image.height, image.width)) for image in images]
        check_sem_seg(sized, self._labels, report or _raise)

    def to_results(self, index: int, detections: Detections) -> list[dict[str, Any]]:
        assert detections.sem_seg is not None  # the model has this task
        return semantic.to_results(
            detections.sem_seg, self._images[index].id, self._in_models_order, self.path
        )

    def count_annotations(self, measured: Sequence[int]) -> tuple[int, int]:
        return len(measured), len(self._images) - len(measured)

    def evaluate(
        self, results: Sequence[Mapping[str, Any]], measured: Sequence[int] | None = None
    ) -> Metrics:
        truth: dict[int | str, Callable[[], Any]] = {}
        for index in range(len(self._images)) if measured is None else measured:
            image = self._images[index]
            size = image.height, image.width
            truth[image.id] = partial(self._labels.read, image.sem_seg, size)
        return semantic.evaluate(truth, results, self._ids, self._names, self._labels.ignore_value)

    def format_table(self, metrics: Metrics) -> str:
        return semantic.format_table(metrics)

    def write_results(self, folder: Path, results: Sequence[Mapping[str, Any]]) -> list[Path]:
        write_json(folder / "sem_seg_predictions.json", results)
        return [folder / "sem_seg_predictions.json"]


class _CityscapesImage(NamedTuple):
    id: str
    file_name: str
    height: int
    width: int
    truth: Path


class CityscapesInstances(EvaluationDataset):
    """A split of Cityscapes (Detectron2: `CityscapesInstanceEvaluator`).

    Args:
        path: such as `gtFine/val`.
        image_folder: such as `leftImg8bit/val`.
        model: whose classes are matched with Cityscapes' 8.
    """

    form = "Cityscapes"
    measures = ("segm",)

    def __init__(self, path: Path, image_folder: Path, model: ModelInfo):
        cityscapes.import_tool()
        images = []
        for file in image_files(image_folder):
            name = file.name.removesuffix(f"_{IMAGE_SUFFIX}")
            truth = path / file.parent.name / f"{name}_gtFine_instanceIds.png"
            images.append((name, f"{file.parent.name}/{file.name}", truth))
        missing = missing_files(truth for *_, truth in images)
        if missing:
            raise InputError(f"{path}: {count_missing(missing, len(images), 'masks')}; add them")
        self._images = [
            _CityscapesImage(name, file_name, *read_size(truth), truth)
            for name, file_name, truth in images
        ]
        super().__init__(path, model.tasks, self._images)
        names, labels = class_labels()
        match = match_classes(str(path), model.class_names, names, range(len(names)))
        self.notes += [] if match.note is None else [match.note]
        self._labels = [None if index is None else labels[index] for index in match.indices]

    def to_results(self, index: int, detections: Detections) -> list[dict[str, Any]]:
        return coco.to_results(detections, self._images[index].id, self._labels)

    def count_annotations(self, measured: Sequence[int]) -> tuple[int, int]:
        return len(measured), len(self._images) - len(measured)

    def evaluate(
        self, results: Sequence[Mapping[str, Any]], measured: Sequence[int] | None = None
    ) -> Metrics:
        indices = range(len(self._images)) if measured is None else measured
        truth = {self._images[index].id: self._images[index].truth for index in indices}
        return cityscapes.evaluate(truth, results)

    def format_table(self, metrics: Metrics) -> str:
        return cityscapes.format_table(metrics)

    def write_results(self, folder: Path, results: Sequence[Mapping[str, Any]]) -> list[Path]:
        cityscapes.write_results(folder / "cityscapes", self.image_ids, results)
        return [folder / "cityscapes"]


class _Listed(NamedTuple):
    id: str
    file_name: str
    height: int
    width: int


class Together(EvaluationDataset):
    """Several annotations of the same images, for a model that does all that they measure.

    Args:
        parts: with different tasks; the images are those that all of them have.
    """

    form = "COCO, separated"
    measures = ("bbox", "segm", "keypoints", "panoptic_seg", "sem_seg")

    def __init__(self, parts: Sequence[EvaluationDataset]):
        self._parts = list(parts)
        first = parts[0]
        # By the name of the file: ids of one format are not those of another.
        places = [
            {os.path.splitext(name)[0]: i for i, name in enumerate(part.file_names)}
            for part in parts
        ]
        common = [name for name in places[0] if all(name in place for place in places)]
        self._indices = [[place[name] for name in common] for place in places]
        images = [
            _Listed(first.image_ids[index], first.file_names[index], *first.image_sizes[index])
            for index in self._indices[0]
        ]
        tasks = [task for part in parts for task in part.tasks]
        super().__init__(first.path, tasks, images)
        self.notes = [note for part in parts for note in part.notes]
        beyond = max(len(part.file_names) for part in parts) - len(images)
        if beyond:
            self.notes.append(f"{beyond} images are not in both {first.path} and {parts[1].path}")
        self.broken_images = max(part.broken_images for part in parts)
        self.broken_annotations = sum(part.broken_annotations for part in parts)

    def to_results(self, index: int, detections: Detections) -> list[dict[str, Any]]:
        return [
            {"part": number, "record": record}
            for number, part in enumerate(self._parts)
            for record in part.to_results(self._indices[number][index], detections)
        ]

    def count_annotations(self, measured: Sequence[int]) -> tuple[int, int]:
        counts = [
            part.count_annotations([places[index] for index in measured])
            for part, places in zip(self._parts, self._indices, strict=True)
        ]
        return sum(used for used, _ in counts), sum(left for _, left in counts)

    def evaluate(
        self, results: Sequence[Mapping[str, Any]], measured: Sequence[int] | None = None
    ) -> Metrics:
        metrics: Metrics = {}
        for number, part in enumerate(self._parts):
            places = self._indices[number]
            if measured is not None:
                places = [places[index] for index in measured]
            metrics |= part.evaluate(_of_part(results, number), places)
        return metrics

    def format_table(self, metrics: Metrics) -> str:
        tables = []
        for part in self._parts:
            own = {task: values for task, values in metrics.items() if task in part.tasks}
            tables += [part.format_table(own)] if own else []
        return "\n\n".join(tables)

    def write_results(self, folder: Path, results: Sequence[Mapping[str, Any]]) -> list[Path]:
        return [
            path
            for number, part in enumerate(self._parts)
            for path in part.write_results(folder, _of_part(results, number))
        ]


def _of_part(results: Sequence[Mapping[str, Any]], number: int) -> list[Mapping[str, Any]]:
    return [result["record"] for result in results if result["part"] == number]
