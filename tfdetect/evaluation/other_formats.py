"""YOLO's, Pascal VOC's and labelme's annotations, measured as COCO's are."""

from __future__ import annotations

from pathlib import Path

from tfdetect.data.dataset_files import DatasetFiles
from tfdetect.data.other_formats.reading import images_of, other_as_coco, other_form
from tfdetect.data.registry import other_content
from tfdetect.errors import InputError
from tfdetect.evaluation.dataset import EvaluationDataset
from tfdetect.evaluation.formats import Coco, counting_broken
from tfdetect.evaluation.registry import EVALUATORS, ModelInfo, Report


@EVALUATORS.register("other_formats")
def _open_other(
    path: Path, content: bytes, model: ModelInfo, report: Report | None
) -> EvaluationDataset | None:
    del content
    form = other_form(path)
    # A list of Pascal VOC has the metrics of its development kit (`formats`).
    if form is None or (form == "VOC" and path.is_file()):
        return None
    images = model.images or images_of(form, path)
    if images is None or not images.is_dir():
        raise InputError(f"{path}: does not say where its images are; give --images")

    def make(count: Report) -> EvaluationDataset:
        files = DatasetFiles("", form, path, images)
        # Difficult objects do not count, as in Pascal VOC's own evaluation.
        dataset = other_as_coco(path, other_content(files, difficult=True), count)
        opened = Coco.for_model(dataset, model, count)
        opened.image_folder = images
        return opened

    return counting_broken(path, report, make)
