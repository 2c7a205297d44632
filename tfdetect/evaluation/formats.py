"""The data sets of each format, behind the interface of `EvaluationDataset`."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tfdetect.data.class_names import match_classes
from tfdetect.data.coco import CocoDataset, read_coco
from tfdetect.data.dota import dota_as_coco, images_of_dota, is_dota, read_dota_files
from tfdetect.data.lvis import LvisDataset, read_lvis
from tfdetect.data.panoptic import PanopticDataset, read_panoptic
from tfdetect.data.sem_seg import SemSegFile
from tfdetect.data.voc import read_voc
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.evaluation import coco, lvis, panoptic, proposals, semantic, voc
from tfdetect.evaluation.dataset import EvaluationDataset, Metrics
from tfdetect.evaluation.registry import EVALUATORS, ModelInfo, Report
from tfdetect.files import write_json, write_text_atomically


@EVALUATORS.register("coco")
def _open_coco(
    path: Path, content: bytes, model: ModelInfo, report: Report | None
) -> EvaluationDataset | None:
    """What no other format takes, if it is a file: errors are then those of COCO's reader."""
    if path.is_dir():
        return None
    del content

    def make(count: Report) -> EvaluationDataset:
        return _Coco(
            read_coco(path, count),
            model.tasks,
            model.class_names,
            model.keypoint_oks_sigmas,
            model.num_keypoints,
            count,
            rotated=model.rotated,
        )

    return _counting_broken(path, report, make)


@EVALUATORS.register("lvis")
def _open_lvis(
    path: Path, content: bytes, model: ModelInfo, report: Report | None
) -> EvaluationDataset | None:
    if b'"neg_category_ids"' not in _ascii(content):
        return None

    def make(count: Report) -> EvaluationDataset:
        return _Lvis(read_lvis(path, count), model.tasks, model.class_names)

    return _counting_broken(path, report, make)


@EVALUATORS.register("coco_panoptic")
def _open_panoptic(
    path: Path, content: bytes, model: ModelInfo, report: Report | None
) -> EvaluationDataset | None:
    del report  # a broken annotation is an error
    if b'"segments_info"' not in _ascii(content):
        return None
    return CocoPanoptic(read_panoptic(path), model)


@EVALUATORS.register("dota")
def _open_dota(
    path: Path, content: bytes, model: ModelInfo, report: Report | None
) -> EvaluationDataset | None:
    del content
    if not is_dota(path):
        return None
    if not model.rotated:
        raise InputError(
            f"{path}: is a folder of DOTA, whose boxes are rotated: give a model with RRPN"
        )

    def make(count: Report) -> EvaluationDataset:
        images = model.images or images_of_dota(path)
        files = read_dota_files(path)
        dataset = dota_as_coco(path, files, images, count, difficult_as_crowds=True)
        return _Dota(dataset, model.tasks, model.class_names, images, count)

    return _counting_broken(path, report, make)


@EVALUATORS.register("pascal_voc")
def _open_voc(
    path: Path, content: bytes, model: ModelInfo, report: Report | None
) -> EvaluationDataset | None:
    del content, report  # a broken annotation is an error
    is_folder = path.is_dir()
    is_list = path.suffix == ".txt" and path.absolute().parent.parent.name == "ImageSets"
    if (is_folder and (path / "ImageSets").is_dir()) or (is_list and not is_folder):
        return _Voc(path, model.tasks, model.class_names)
    return None


def _ascii(content: bytes) -> bytes:
    """Of a file in UTF-16, only the ASCII."""
    return content.replace(b"\0", b"") if b"\0" in content[:4] else content


def _counting_broken(
    path: Path, report: Report | None, make: Callable[[Report], EvaluationDataset]
) -> EvaluationDataset:
    """What `make` returns, which counts the broken images and annotations that it reports."""
    broken: list[InputError] = []

    def count(error: InputError) -> None:
        if report is None:
            raise error
        report(error)
        broken.append(error)

    dataset = make(count)
    dataset.broken_images = sum(str(error).startswith(f"{path}: images[") for error in broken)
    dataset.broken_annotations += len(broken) - dataset.broken_images
    return dataset


class _Instances(EvaluationDataset):
    """Shared by COCO and LVIS."""

    results_name: str

    def __init__(
        self,
        dataset: CocoDataset | LvisDataset,
        tasks: Collection[str],
        class_names: Sequence[str],
    ):
        super().__init__(dataset.path, tasks, dataset.images)
        annotations = dataset.annotations
        self.has_ground_truth = annotations is not None
        if annotations is None:
            self.notes.append(f"{self.path}: has no 'annotations': predicting without evaluation")
        listed = {image.id for image in dataset.images}
        self._annotations: Sequence[Mapping[str, Any]] = [
            entry for entry in annotations or () if entry["image_id"] in listed
        ]
        self.broken_annotations = len(annotations or ()) - len(self._annotations)
        if self.broken_annotations:
            self.notes.append(
                f"{self.path}: {self.broken_annotations} annotations belong to images that it does"
                " not list; ignored"
            )
        self._category_ids: list[int | None] = list(dataset.category_ids)
        if self.tasks != ["box_proposals"]:
            positions = {category: index for index, category in enumerate(dataset.category_ids)}
            match = match_classes(
                str(self.path),
                class_names,
                dataset.category_names,
                {positions[entry["category_id"]] for entry in self._annotations},
            )
            self.notes += [] if match.note is None else [match.note]
            self._category_ids = [
                None if index is None else dataset.category_ids[index] for index in match.indices
            ]
        self._image_ids = [image.id for image in dataset.images]

    def to_results(self, index: int, detections: Detections) -> list[dict[str, Any]]:
        if self.tasks == ["box_proposals"]:
            return [proposals.to_result(detections, self._image_ids[index])]
        return coco.to_results(detections, self._image_ids[index], self._category_ids)

    def count_annotations(self, measured: Sequence[int]) -> tuple[int, int]:
        images = {self._image_ids[index] for index in measured}
        used = sum(entry["image_id"] in images for entry in self._annotations)
        return used, len(self._annotations) - used + self.broken_annotations

    def _evaluate_proposals(
        self, results: Sequence[Mapping[str, Any]], measured: Sequence[int] | None
    ) -> Metrics:
        indices = range(len(self._image_ids)) if measured is None else measured
        images = [self._image_ids[index] for index in indices]
        return proposals.evaluate(proposals.ground_truth(self._annotations, images), results)

    def write_results(self, folder: Path, results: Sequence[Mapping[str, Any]]) -> list[Path]:
        if self.tasks == ["box_proposals"]:
            return [proposals.write_results(folder, results)]
        write_json(folder / self.results_name, results)
        return [folder / self.results_name]


class _Coco(_Instances):
    form = "COCO"
    measures: ClassVar[tuple[str, ...]] = ("bbox", "segm", "keypoints", "box_proposals")
    takes_rotated = True
    results_name = "coco_instances_results.json"

    def __init__(
        self,
        dataset: CocoDataset,
        tasks: Collection[str],
        class_names: Sequence[str],
        keypoint_oks_sigmas: Sequence[float],
        num_keypoints: int | None,
        report: Report,
        *,
        rotated: bool = False,
    ):
        super().__init__(dataset, tasks, class_names)
        self._sigmas = keypoint_oks_sigmas
        self._rotated = rotated
        if self.has_ground_truth:
            dataset = dataclasses.replace(dataset, annotations=tuple(self._annotations))
            for task, field in coco.missing_ground_truth(dataset, self.tasks).items():
                self.tasks.remove(task)
                self.notes.append(
                    f"{self.path}: no annotation has '{field}': {task} is not evaluated"
                )
            if "keypoints" in self.tasks:
                coco.check_oks_sigmas(keypoint_oks_sigmas)
            expected = len(keypoint_oks_sigmas) or 17
            checked = coco.check(
                dataset, self.tasks, expected, num_keypoints, report, rotated=rotated
            )
            self._annotations = checked
        self._dataset = dataclasses.replace(dataset, annotations=tuple(self._annotations))

    def evaluate(
        self, results: Sequence[Mapping[str, Any]], measured: Sequence[int] | None = None
    ) -> Metrics:
        if self.tasks == ["box_proposals"]:
            return self._evaluate_proposals(results, measured)
        dataset = _part(self._dataset, measured)
        images = {image.id for image in dataset.images}
        known = tuple(entry for entry in self._annotations if entry["image_id"] in images)
        dataset = dataclasses.replace(dataset, annotations=known)
        return coco.evaluate(dataset, results, self.tasks, self._sigmas, rotated=self._rotated)

    def format_table(self, metrics: Metrics) -> str:
        return (proposals if "box_proposals" in metrics else coco).format_table(metrics)


class _Dota(_Coco):
    """As COCO's average precision: Detectron2's of rotated boxes, not DOTA's own."""

    form = "DOTA"
    measures = ("bbox",)

    def __init__(
        self,
        dataset: CocoDataset,
        tasks: Collection[str],
        class_names: Sequence[str],
        image_folder: Path,
        report: Report,
    ):
        super().__init__(dataset, tasks, class_names, (), None, report, rotated=True)
        self.image_folder = image_folder


class _Lvis(_Instances):
    form = "LVIS"
    measures = ("bbox", "segm", "box_proposals")
    results_name = "lvis_instances_results.json"

    def __init__(self, dataset: LvisDataset, tasks: Collection[str], class_names: Sequence[str]):
        super().__init__(dataset, tasks, class_names)
        self._dataset = dataset
        if self.has_ground_truth and self.tasks != ["box_proposals"]:
            lvis.check(dataset)

    def evaluate(
        self, results: Sequence[Mapping[str, Any]], measured: Sequence[int] | None = None
    ) -> Metrics:
        if self.tasks == ["box_proposals"]:
            return self._evaluate_proposals(results, measured)
        return lvis.evaluate(_part(self._dataset, measured), results, self.tasks)

    def format_table(self, metrics: Metrics) -> str:
        return (proposals if "box_proposals" in metrics else lvis).format_table(metrics)


class _Voc(EvaluationDataset):
    form = "Pascal VOC"
    measures = ("bbox",)

    def __init__(self, path: Path, tasks: Collection[str], class_names: Sequence[str]):
        self._dataset = read_voc(path, class_names)
        super().__init__(path, tasks, self._dataset.images, self._dataset.image_folder)

    def to_results(self, index: int, detections: Detections) -> list[dict[str, Any]]:
        return voc.to_results(detections, self._dataset.images[index].id)

    def count_annotations(self, measured: Sequence[int]) -> tuple[int, int]:
        return _used_and_left([len(image.objects) for image in self._dataset.images], measured)

    def evaluate(
        self, results: Sequence[Mapping[str, Any]], measured: Sequence[int] | None = None
    ) -> Metrics:
        return voc.evaluate(_part(self._dataset, measured), results)

    def format_table(self, metrics: Metrics) -> str:
        return voc.format_table(metrics)

    def write_results(self, folder: Path, results: Sequence[Mapping[str, Any]]) -> list[Path]:
        lines = defaultdict(list)
        for result in results:
            numbers = [f"{result['score']:.3f}", *(f"{value:.1f}" for value in result["bbox"])]
            lines[result["category_id"]].append(" ".join([result["image_id"], *numbers]) + "\n")
        paths = []
        # A file of every class, empty where nothing was found: the development kit asks for it.
        for index, name in enumerate(self._dataset.class_names):
            paths.append(folder / f"comp4_det_{self._dataset.path.stem}_{name}.txt")
            write_text_atomically(paths[-1], "".join(lines[index]))
        return paths


class CocoPanoptic(EvaluationDataset):
    """COCO panoptic annotations (Detectron2: `COCOPanopticEvaluator`, and `SemSegEvaluator`).

    Args:
        dataset: the annotations.
        model: whose classes are matched with theirs.
    """

    form = "COCO panoptic"
    measures = ("panoptic_seg", "sem_seg")

    def __init__(self, dataset: PanopticDataset, model: ModelInfo):
        self._dataset = dataset
        super().__init__(dataset.path, model.tasks, dataset.images)
        class_names, stuff_names = model.class_names, model.stuff_names
        names = self._dataset.category_names
        things = self._dataset.thing_ids
        if "panoptic_seg" not in self.tasks:
            class_names = ()  # the model has nothing but stuff
        # Of the data set's ids, those of the model's classes in its order.
        self._in_models_order = dataclasses.replace(
            self._dataset,
            thing_ids=self._match(class_names, [names[index] for index in things], things),
            stuff_ids=self._match(stuff_names, self._dataset.stuff_names, self._dataset.stuff_ids),
        )

    def _match(
        self, model: Sequence[str], names: Sequence[str], ids: Sequence[int]
    ) -> tuple[int, ...]:
        match = match_classes(str(self.path), model, names, range(len(names)))
        found = [ids[index] for index in match.indices if index is not None]
        if len(found) < len(match.indices):
            # Every pixel has a class, so there is nothing that could be left out.
            unknown = [
                name for name, index in zip(model, match.indices, strict=True) if index is None
            ]
            raise InputError(
                f"{self.path}: has no category {unknown[0]!r}, which the model has: give"
                " annotations with the classes that the model was trained on"
            )
        self.notes += [] if match.note is None else [match.note]
        return tuple(found)

    def to_results(self, index: int, detections: Detections) -> list[dict[str, Any]]:
        image = self._dataset.images[index]
        records = []
        if detections.panoptic is not None:
            records.append(panoptic.to_result(detections.panoptic, self._in_models_order, image))
        if detections.sem_seg is not None:
            stuff_ids = self._in_models_order.stuff_ids
            records += semantic.to_results(detections.sem_seg, image.id, stuff_ids, self.path)
        return records

    def count_annotations(self, measured: Sequence[int]) -> tuple[int, int]:
        return _used_and_left([len(image.segments) for image in self._dataset.images], measured)

    def evaluate(
        self, results: Sequence[Mapping[str, Any]], measured: Sequence[int] | None = None
    ) -> Metrics:
        dataset = _part(self._dataset, measured)
        of_segments, of_classes = _split(results)
        metrics: Metrics = {}
        if "panoptic_seg" in self.tasks:
            metrics |= panoptic.evaluate(dataset, of_segments)
        if "sem_seg" in self.tasks:
            ids = dataset.stuff_ids
            truth = {
                image.id: SemSegFile(image.label_file, segments=image, stuff_ids=ids).read
                for image in dataset.images
            }
            metrics |= semantic.evaluate(truth, of_classes, ids, dataset.stuff_names)
        return metrics

    def format_table(self, metrics: Metrics) -> str:
        formats = {"panoptic_seg": panoptic.format_table, "sem_seg": semantic.format_table}
        return "\n\n".join(formats[task]({task: values}) for task, values in metrics.items())

    def write_results(self, folder: Path, results: Sequence[Mapping[str, Any]]) -> list[Path]:
        of_segments, of_classes = _split(results)
        paths = []
        if "panoptic_seg" in self.tasks:
            paths.append(panoptic.write_results(folder, of_segments))
        if "sem_seg" in self.tasks:
            write_json(folder / "sem_seg_predictions.json", of_classes)
            paths.append(folder / "sem_seg_predictions.json")
        return paths


def _used_and_left(counts: Sequence[int], measured: Sequence[int]) -> tuple[int, int]:
    """Annotations of the images that are measured, and of the others; `counts` has each image's."""
    used = sum(counts[index] for index in measured)
    return used, sum(counts) - used


def _part(dataset: Any, measured: Sequence[int] | None) -> Any:
    """A data set with only some of its images."""
    if measured is None:
        return dataset
    return dataclasses.replace(dataset, images=tuple(dataset.images[index] for index in measured))


def _split(
    results: Sequence[Mapping[str, Any]],
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Records of panoptic and of semantic segmentation."""
    of_segments = [result for result in results if "segments_info" in result]
    return of_segments, [result for result in results if "segments_info" not in result]
