"""How often images come in an epoch, and the samplers of DATALOADER.SAMPLER_TRAIN."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from yacs.config import CfgNode

from tfdetect.config.training_checks import SAMPLERS
from tfdetect.data.training.record import Record
from tfdetect.data.training.sampler import (
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    Sampler,
    TrainingSampler,
)
from tfdetect.errors import InputError


def build_sampler(cfg: CfgNode, records: Sequence[Record], seed: int) -> Sampler:
    """What DATALOADER.SAMPLER_TRAIN names.

    Args:
        cfg: DATALOADER, and DATASETS.TRAIN_REPEAT_FACTOR of weighted samplers.
        records: of `training_records`.
        seed: not negative.

    Raises:
        InputError: there is no such sampler, or a value that it reads cannot be used.
    """
    keys = cfg.DATALOADER
    threshold, sqrt = keys.REPEAT_THRESHOLD, keys.REPEAT_SQRT
    name = keys.SAMPLER_TRAIN
    if name == "TrainingSampler":
        return TrainingSampler(len(records), seed)
    if name == "RandomSubsetTrainingSampler":
        ratio = keys.RANDOM_SUBSET_RATIO
        if int(len(records) * ratio) < 1:
            raise InputError(
                f"DATALOADER.RANDOM_SUBSET_RATIO: {ratio} of {len(records)} images is none; give "
                "more"
            )
        return RandomSubsetTrainingSampler(len(records), ratio, seed)
    if name == "RepeatFactorTrainingSampler":
        factors = repeat_factors(records, threshold, sqrt)
    elif name == "WeightedTrainingSampler":
        factors = dataset_factors(records, dict(cfg.DATASETS.TRAIN_REPEAT_FACTOR))
    elif name == "WeightedCategoryTrainingSampler":
        factors = weighted_category_factors(
            records, dict(cfg.DATASETS.TRAIN_REPEAT_FACTOR), threshold, sqrt
        )
    else:
        raise InputError(
            f"DATALOADER.SAMPLER_TRAIN: {name!r} is not supported; use {' or '.join(SAMPLERS)}"
        )
    return RepeatFactorTrainingSampler(factors, seed)


def repeat_factors(records: Sequence[Record], threshold: float, sqrt: bool) -> np.ndarray:
    """The repeat factor of each image per epoch, to oversample rare classes.

    Image I comes max over its classes c of max(1, sqrt(threshold / f(c))) times, where f(c) is the
    share of images that have class c (LVIS, appendix B.2; Detectron2:
    `repeat_factors_from_category_frequency`).

    Args:
        records: the N images.
        threshold: DATALOADER.REPEAT_THRESHOLD.
        sqrt: DATALOADER.REPEAT_SQRT; False leaves the square root out.

    Returns:
        float32 [N], at least 1.
    """
    classes = [{a.class_index for a in record.annotations} for record in records]
    counts = Counter(index for found in classes for index in found)
    factors = {}
    for index, count in counts.items():
        ratio = threshold / (count / len(records))
        factors[index] = max(1.0, ratio**0.5 if sqrt else ratio)
    return np.array(
        [max((factors[index] for index in found), default=1.0) for found in classes], np.float32
    )


def dataset_factors(records: Sequence[Record], by_name: Mapping[str, float]) -> np.ndarray:
    """The repeat factor of each image's data set.

    Args:
        records: the N images.
        by_name: DATASETS.TRAIN_REPEAT_FACTOR; a data set that it does not name has 1.

    Returns:
        float32 [N].
    """
    return np.array([by_name.get(record.dataset, 1.0) for record in records], np.float32)


def weighted_category_factors(
    records: Sequence[Record], by_name: Mapping[str, float], threshold: float, sqrt: bool
) -> np.ndarray:
    """The products of `dataset_factors` and of `repeat_factors` within each data set.

    Returns:
        float32 [N], divided by the smallest of them.

    Detectron2: `_build_weighted_sampler` with `enable_category_balance`.
    """
    factors = dataset_factors(records, by_name)
    names = np.array([record.dataset for record in records])
    for name in np.unique(names):
        here = np.flatnonzero(names == name).tolist()
        factors[here] *= repeat_factors([records[index] for index in here], threshold, sqrt)
    return factors / factors.min()
