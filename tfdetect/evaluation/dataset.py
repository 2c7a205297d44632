"""One interface to the data sets of all formats: what to predict on, and how good it was."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from yacs.config import CfgNode

from tfdetect.data.coco import read_coco
from tfdetect.data.files import write_json, write_text_atomically
from tfdetect.data.lvis import read_lvis
from tfdetect.data.panoptic import read_panoptic
from tfdetect.data.voc import read_voc
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.evaluation import coco, lvis, panoptic, semantic, voc

Metrics = dict[str, dict[str, float]]
"""By task, each metric in percent; NaN where it cannot be computed."""


class EvaluationDataset(ABC):
    """A data set with ground truth, in one of the formats of Detectron2's model zoo.

    Attributes:
        form: the format's name.
        measures: the tasks that the format has ground truth for, by Detectron2's names.
        path: the annotations, for messages.
        tasks: those of `measures` that the model does.
        file_names: of the images, below the folder of images; `index` below counts these.
        image_ids: of the images, as text.
        image_folder: where the images are, if the format says so, else None.
    """

    form: ClassVar[str]
    measures: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        path: Path,
        tasks: Collection[str],
        images: Sequence[Any],
        image_folder: Path | None = None,
    ):
        self.path = path
        self.tasks = [task for task in self.measures if task in tasks]
        self.file_names = tuple(image.file_name for image in images)
        self.image_ids = tuple(str(image.id) for image in images)
        self.image_folder = image_folder
        if not images:
            raise InputError(f"{path}: lists no images")
        if not self.tasks:
            raise InputError(
                f"{path}: {self.form} annotations measure {', '.join(self.measures)}, the model"
                f" gives {', '.join(tasks)}: name annotations of these"
            )

    @abstractmethod
    def to_results(self, index: int, detections: Detections) -> list[dict[str, Any]]:
        """What the model found in image `index`, as records in the format's own terms.

        Raises:
            InputError: the model has classes that the data set has not.
        """

    @abstractmethod
    def evaluate(self, results: Sequence[Mapping[str, Any]]) -> Metrics:
        """The metrics of the tasks, from the records of all images.

        Raises:
            InputError: the ground truth cannot be used.
        """

    @abstractmethod
    def format_table(self, metrics: Metrics) -> str:
        """What `evaluate` returned, in plain text."""

    @abstractmethod
    def write_results(self, folder: Path, results: Sequence[Mapping[str, Any]]) -> list[Path]:
        """Write the records as the format's own tools read them.

        Returns:
            The files that a person would name to these tools.

        Raises:
            InputError: the folder cannot be written.
        """


def model_tasks(cfg: CfgNode) -> list[str]:
    """What a model of this configuration gives, by the names of Detectron2's evaluators."""
    architecture = cfg.MODEL.META_ARCHITECTURE
    if architecture == "SemanticSegmentor":
        return ["sem_seg"]
    tasks = ["bbox"]
    tasks += ["segm"] if cfg.MODEL.MASK_ON else []
    tasks += ["keypoints"] if cfg.MODEL.KEYPOINT_ON else []
    tasks += ["panoptic_seg", "sem_seg"] if architecture == "PanopticFPN" else []
    return tasks


def open_dataset(
    path: str | Path,
    tasks: Collection[str],
    class_names: Sequence[str],
    keypoint_oks_sigmas: Sequence[float] = (),
) -> EvaluationDataset:
    """Open annotations of any of the formats, which their content tells.

    A JSON file is COCO panoptic if it has `segments_info`, LVIS if it has `neg_category_ids`,
    else COCO; a list of images in a folder `ImageSets/Main`, or the folder above, is Pascal VOC.

    Args:
        path: the annotations.
        tasks: what the model gives, `model_tasks`.
        class_names: the model's classes (Pascal VOC's annotations name them).
        keypoint_oks_sigmas: the configuration's TEST.KEYPOINT_OKS_SIGMAS.

    Raises:
        InputError: it is of none of these formats, cannot be read, or has nothing that the model
            gives.
    """
    path = Path(path)
    if path.is_dir():
        if (path / "ImageSets").is_dir():
            return _Voc(path, tasks, class_names)
        if any(path.glob("**/*_gtFine_*")):
            raise InputError(
                f"{path}: Cityscapes is measured by its own tool, cityscapesscripts, only"
            )
        raise InputError(f"{path}: is a folder, but not of Pascal VOC; name an annotation file")
    if path.suffix == ".txt" and path.absolute().parent.parent.name == "ImageSets":
        return _Voc(path, tasks, class_names)
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read ({reason}), check the name") from error
    if b'"segments_info"' in content:
        return _Panoptic(path, tasks)
    if b'"neg_category_ids"' in content:
        return _Lvis(path, tasks)
    return _Coco(path, tasks, class_names, keypoint_oks_sigmas)


class _Coco(EvaluationDataset):
    form = "COCO"
    measures = ("bbox", "segm", "keypoints")

    def __init__(
        self,
        path: Path,
        tasks: Collection[str],
        class_names: Sequence[str],
        keypoint_oks_sigmas: Sequence[float],
    ):
        self._dataset = read_coco(path)
        self._category_ids = self._dataset.category_ids
        names = self._dataset.category_names
        if len(class_names) > len(names) and set(names) <= set(class_names):
            # torchvision's models have classes that no image of COCO shows; their id is no other's.
            ids = dict(zip(names, self._category_ids, strict=True))
            self._category_ids = tuple(ids.get(name, -1) for name in class_names)
        self._sigmas = keypoint_oks_sigmas
        super().__init__(path, tasks, self._dataset.images)

    def to_results(self, index: int, detections: Detections) -> list[dict[str, Any]]:
        image = self._dataset.images[index]
        return coco.to_results(detections, image.id, self._category_ids)

    def evaluate(self, results: Sequence[Mapping[str, Any]]) -> Metrics:
        return coco.evaluate(self._dataset, results, self.tasks, self._sigmas)

    def format_table(self, metrics: Metrics) -> str:
        return coco.format_table(metrics)

    def write_results(self, folder: Path, results: Sequence[Mapping[str, Any]]) -> list[Path]:
        write_json(folder / "coco_instances_results.json", results)
        return [folder / "coco_instances_results.json"]


class _Lvis(EvaluationDataset):
    form = "LVIS"
    measures = ("bbox", "segm")

    def __init__(self, path: Path, tasks: Collection[str]):
        self._dataset = read_lvis(path)
        super().__init__(path, tasks, self._dataset.images)

    def to_results(self, index: int, detections: Detections) -> list[dict[str, Any]]:
        image = self._dataset.images[index]
        return coco.to_results(detections, image.id, self._dataset.category_ids)

    def evaluate(self, results: Sequence[Mapping[str, Any]]) -> Metrics:
        return lvis.evaluate(self._dataset, results, self.tasks)

    def format_table(self, metrics: Metrics) -> str:
        return lvis.format_table(metrics)

    def write_results(self, folder: Path, results: Sequence[Mapping[str, Any]]) -> list[Path]:
        write_json(folder / "lvis_instances_results.json", results)
        return [folder / "lvis_instances_results.json"]


class _Voc(EvaluationDataset):
    form = "Pascal VOC"
    measures = ("bbox",)

    def __init__(self, path: Path, tasks: Collection[str], class_names: Sequence[str]):
        self._dataset = read_voc(path, class_names)
        super().__init__(path, tasks, self._dataset.images, self._dataset.image_folder)

    def to_results(self, index: int, detections: Detections) -> list[dict[str, Any]]:
        return voc.to_results(detections, self._dataset.images[index].id)

    def evaluate(self, results: Sequence[Mapping[str, Any]]) -> Metrics:
        return voc.evaluate(self._dataset, results)

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


class _Panoptic(EvaluationDataset):
    form = "COCO panoptic"
    measures = ("panoptic_seg", "sem_seg")

    def __init__(self, path: Path, tasks: Collection[str]):
        self._dataset = read_panoptic(path)
        super().__init__(path, tasks, self._dataset.images)

    def to_results(self, index: int, detections: Detections) -> list[dict[str, Any]]:
        image = self._dataset.images[index]
        records = []
        if detections.panoptic is not None:
            records.append(panoptic.to_result(detections.panoptic, self._dataset, image))
        if detections.sem_seg is not None:
            records += semantic.to_results(
                detections.sem_seg, image.id, self._dataset.stuff_ids, self.path
            )
        return records

    def evaluate(self, results: Sequence[Mapping[str, Any]]) -> Metrics:
        of_segments, of_classes = _split(results)
        metrics: Metrics = {}
        if "panoptic_seg" in self.tasks:
            metrics |= panoptic.evaluate(self._dataset, of_segments)
        if "sem_seg" in self.tasks:
            metrics |= semantic.evaluate(self._dataset, of_classes)
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


def _split(
    results: Sequence[Mapping[str, Any]],
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Records of panoptic and of semantic segmentation."""
    of_segments = [result for result in results if "segments_info" in result]
    return of_segments, [result for result in results if "segments_info" not in result]
