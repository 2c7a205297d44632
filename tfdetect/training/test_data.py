"""The data sets that a model in training is evaluated on: DATASETS.TEST."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities
from tfdetect.data.proposal_files import read_proposals
from tfdetect.data.registry import dataset_files
from tfdetect.data.training.record import BrokenData
from tfdetect.errors import InputError
from tfdetect.evaluation.dataset import EvaluationDataset
from tfdetect.evaluation.predict import missing_images
from tfdetect.evaluation.registered import open_files


@dataclass(frozen=True)
class EvaluationData:
    """One of DATASETS.TEST.

    Attributes:
        name: as there.
        dataset: what is in it.
        folder: where its images are.
        missing: the indices of those that are not there.
        proposals: of each image; None for a model that generates its own.
    """

    name: str
    dataset: EvaluationDataset
    folder: Path
    missing: frozenset[int]
    proposals: list[np.ndarray] | None = None


def open_test_data(cfg: CfgNode, metadata: Mapping[str, Any]) -> list[EvaluationData]:
    """Open DATASETS.TEST, and report any problem with it before anything else is done.

    Args:
        cfg: DATASETS.TEST and PROPOSAL_FILES_TEST, DATALOADER.ON_ERROR, and the model's.
        metadata: of the model's directory.

    Raises:
        InputError: a data set is unknown or missing, has nothing that the model gives, or cannot be
            measured on; an annotation is broken or an image is missing, and DATALOADER.ON_ERROR is
            "stop"; an image has no proposals.
    """
    found = []
    for index, name in enumerate(cfg.DATASETS.TEST):
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
        proposals = None
        if capabilities(cfg).takes_proposals:
            proposals = _proposals(cfg.DATASETS.PROPOSAL_FILES_TEST[index], dataset)
        found.append(EvaluationData(name, dataset, files.images_dir, frozenset(missing), proposals))
    return found


def _proposals(path: str, dataset: EvaluationDataset) -> list[np.ndarray]:
    try:
        given = read_proposals(path)
        return [given.find([name]) for name in dataset.image_ids]
    except InputError as error:
        raise InputError(f"DATASETS.PROPOSAL_FILES_TEST: {error}") from error
