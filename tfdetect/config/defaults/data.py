"""Defaults of INPUT, DATASETS and DATALOADER: which images there are, and what is done to them."""

from __future__ import annotations

from typing import Any

INPUT: dict[str, Any] = {
    # Pixels: the short edge aimed at, and what the long edge may be at most.
    "MIN_SIZE_TRAIN": (800,),
    "MIN_SIZE_TRAIN_SAMPLING": "choice",
    "MAX_SIZE_TRAIN": 1333,
    "MIN_SIZE_TEST": 800,
    "MAX_SIZE_TEST": 1333,
    "RANDOM_FLIP": "horizontal",
    "FORMAT": "BGR",
    "MASK_FORMAT": "polygon",
    "CROP": {
        "ENABLED": False,
        "TYPE": "relative_range",
        "SIZE": [0.9, 0.9],
        # PointRend's, as COLOR_AUG_SSD, for semantic segmentation: crops are drawn again until
        # no class has more than this share of one.
        "SINGLE_CATEGORY_MAX_AREA": 1.0,
    },
    "COLOR_AUG_SSD": False,
    # This project's own: names of registered augmentations, or pairs [name, {argument: value}],
    # in their order, in place of everything that INPUT says otherwise of what is done to images
    # in training.
    "AUGMENTATIONS": [],
    # This project's own: whether boxes are drawn again around what augmentations that crop
    # leave of masks. Without, they are cut off.
    "RECOMPUTE_BOXES": True,
    # This project's own: Detectron2 has it in Python configs only (its new_baselines). It
    # takes the place of MIN_SIZE_TRAIN, MAX_SIZE_TRAIN and CROP.
    "LARGE_SCALE_JITTER": {
        "ENABLED": False,
        # The image is fitted into a square of SIZE times a random scale of this range, and
        # cropped or padded to SIZE x SIZE pixels.
        "SCALE": [0.1, 2.0],
        "SIZE": 1024,
    },
}

DATASETS: dict[str, Any] = {
    "TRAIN": (),
    # Pairs of a data set and a factor, for weighted samplers; 1 for what is not named.
    # Detectron2 reads this key, but its schema does not have it.
    "TRAIN_REPEAT_FACTOR": [],
    "PROPOSAL_FILES_TRAIN": (),
    "PRECOMPUTED_PROPOSAL_TOPK_TRAIN": 2000,
    "TEST": (),
    "PROPOSAL_FILES_TEST": (),
    "PRECOMPUTED_PROPOSAL_TOPK_TEST": 1000,
}

DATALOADER: dict[str, Any] = {
    "NUM_WORKERS": 4,
    "ASPECT_RATIO_GROUPING": True,
    "SAMPLER_TRAIN": "TrainingSampler",
    # Of RandomSubsetTrainingSampler. Detectron2 reads this key, but its schema does not have
    # it.
    "RANDOM_SUBSET_RATIO": 1.0,
    "REPEAT_THRESHOLD": 0.0,
    "REPEAT_SQRT": True,
    "FILTER_EMPTY_ANNOTATIONS": True,
    # This project's own: what to do about a broken annotation, or an image that cannot be
    # read, in training: "stop", or "skip" it, name it and go on.
    "ON_ERROR": "stop",
}
