"""Data sets of instances, COCO, LVIS, DOTA and Pascal VOC, as `EvaluationDataset`s."""

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
from tfdetect.data.voc import is_list, read_voc
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.evaluation import coco, lvis, proposals, voc
from tfdetect.evaluation.dataset import EvaluationDataset, Metrics, part_of, used_and_left
from tfdetect.evaluation.registry import EVALUATORS, ModelInfo, Report, has_field
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
        return Coco.for_model(read_coco(path, count), model, count)

    return counting_broken(path, report, make)


@EVALUATORS.register("lvis")
def _open_lvis(
    path: Path, content: bytes, model: ModelInfo, report: Report | None
) -> EvaluationDataset | None:
    if not has_field(content, "neg_category_ids"):
        return None

    def make(count: Report) -> EvaluationDataset:
        return _Lvis(read_lvis(path, count), model.tasks, model.class_names)

    return counting_broken(path, report, make)


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

    return counting_broken(path, report, make)


@EVALUATORS.register("pascal_voc")
def _open_voc(
    path: Path, content: bytes, model: ModelInfo, report: Report | None
) -> EvaluationDataset | None:
    del content, report  # a broken annotation is an error
    is_folder = path.is_dir()
    if (is_folder and (path / "ImageSets").is_dir()) or (is_list(path) and not is_folder):
        return _Voc(path, model.tasks, model.class_names)
    return None


def counting_broken(
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


class Coco(_Instances):
    """COCO's annotations, and those of other formats in its form."""

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

    @staticmethod
    def for_model(dataset: CocoDataset, model: ModelInfo, report: Report) -> Coco:
        """What a model is measured with on a data set; `report` gets what is broken in it."""
        return Coco(
            dataset,
            model.tasks,
            model.class_names,
            model.keypoint_oks_sigmas,
            model.num_keypoints,
            report,
            rotated=model.rotated,
        )

    def evaluate(
        self, results: Sequence[Mapping[str, Any]], measured: Sequence[int] | None = None
    ) -> Metrics:
        if self.tasks == ["box_proposals"]:
            return self._evaluate_proposals(results, measured)
        dataset = part_of(self._dataset, measured)
        images = {image.id for image in dataset.images}
        known = tuple(entry for entry in self._annotations if entry["image_id"] in images)
        dataset = dataclasses.replace(dataset, annotations=known)
        return coco.evaluate(dataset, results, self.tasks, self._sigmas, rotated=self._rotated)

    def format_table(self, metrics: Metrics) -> str:
        return (proposals if "box_proposals" in metrics else coco).format_table(metrics)


class _Dota(Coco):
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
        return lvis.evaluate(part_of(self._dataset, measured), results, self.tasks)

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
        return used_and_left([len(image.objects) for image in self._dataset.images], measured)

    def evaluate(
        self, results: Sequence[Mapping[str, Any]], measured: Sequence[int] | None = None
    ) -> Metrics:
        return voc.evaluate(part_of(self._dataset, measured), results)

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
