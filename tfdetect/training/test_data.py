"""The data sets that a model in training is evaluated on: DATASETS.TEST."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from tfdetect.data.registry import dataset_files
from tfdetect.data.training.records import BrokenData
from tfdetect.errors import InputError
from tfdetect.evaluation.dataset import EvaluationDataset
from tfdetect.evaluation.predict import missing_images
from tfdetect.evaluation.registered import open_files


@dataclass(frozen=True)
class EvaluationData:
    """One of DATASETS.TEST: its name, what is in it, where its images are and which are missing."""

    name: str
    dataset: EvaluationDataset
    folder: Path
    missing: frozenset[int]


def open_test_data(cfg: CfgNode, metadata: Mapping[str, Any]) -> list[EvaluationData]:
    """Open DATASETS.TEST, and report any problem with it before anything else is done.

    Args:
        cfg: DATASETS.TEST, DATALOADER.ON_ERROR, and the model's.
        metadata: of the model's directory.

    Raises:
        InputError: a data set is unknown or missing, has nothing that the model gives, or cannot be
            measured on; an annotation is broken or an image is missing, and DATALOADER.ON_ERROR is
            "stop".
    """
    found = []
    for name in cfg.DATASETS.TEST:
        files = dataset_files(name, "DATASETS.TEST")
        broken = BrokenData(cfg.DATALOADER.ON_ERROR)
        dataset = open_files(files, cfg, metadata, broken)
        missing = missing_images(dataset, files.images_dir)
        if missing:
            broken(
                InputError(
                    f"DATASETS.TEST: {name}: {files.images_dir} lacks {len(missing)} of"
                    f" {len(dataset.file_names)} images, such as {dataset.file_names[missing[0]]};"
                    " add them"
                )
            )
        found.append(EvaluationData(name, dataset, files.images_dir, frozenset(missing)))
    return found
