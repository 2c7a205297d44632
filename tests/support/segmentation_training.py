"""Detectron2's records of twenty steps of semantic and panoptic FPN, and of what they predict."""

from __future__ import annotations

import gzip
import json
import pickle
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.config import disable_op_determinism

import tfdetect.cli.train
from benchmarks.seeded_weights import seeded_model, state_dict
from tests.support.paths import DATA, DEMO
from tests.support.training_variants import arrays_of
from tfdetect.checkpoint.assign import assign_state_dict
from tfdetect.checkpoint.model_dir import load_model
from tfdetect.checkpoint.names import named_variables
from tfdetect.config import load_config
from tfdetect.data.images import read_image
from tfdetect.data.registry import register_dataset, register_separated_dataset
from tfdetect.data.training.input import training_dataset
from tfdetect.detections import Detections
from tfdetect.inference.predictor import Predictor
from tfdetect.modeling.build import build_model
from tfdetect.modeling.preprocess import normalize_batch
from tfdetect.modeling.structures import Targets
from tfdetect.training.trainable import trainable_variables

FOLDER = DATA / "dense_training"
NAMES = ("semantic", "panoptic")


@cache
def record(name):
    """`steps_NAME.json.gz` or `inference_NAME.json.gz`."""
    with gzip.open(FOLDER / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        return json.load(file)


def initial_weights(name):
    """The seeded weights by Detectron2's names, in PyTorch's layout."""
    model = build_model(load_config(FOLDER / f"{name}.yaml"))
    return state_dict({named.name: named.foreign_shape for named in named_variables(model)})


def write_data(folder: Path, names) -> tuple[Path, Path, Path]:
    """Annotations, masks and images of some of the demo's images alone."""
    content = json.loads((DEMO / "annotations.json").read_text())
    content["images"] = [image for image in content["images"] if image["file_name"] in names]
    numbers = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in numbers]
    annotations, masks, images = (folder / name for name in ("one.json", "masks", "images"))
    annotations.write_text(json.dumps(content))
    masks.mkdir()
    images.mkdir()
    for name in names:
        stem = Path(name).stem
        (masks / f"{stem}.png").write_bytes((FOLDER / f"semantic_{stem}.png").read_bytes())
        (images / name).write_bytes((DEMO / "images" / name).read_bytes())
    return annotations, masks, images


@dataclass
class Run:
    """What train.py gave: losses of each step by name, and arrays in PyTorch's layout."""

    losses: list[dict[str, float]]
    initial: dict[str, np.ndarray]
    final: dict[str, np.ndarray]


def train(name: str, folder: Path) -> Run:
    """Twenty steps of a record by train.py, from a YAML, two images, masks and a checkpoint."""
    initial = initial_weights(name)
    weights = folder / "weights.pkl"
    weights.write_bytes(pickle.dumps({"model": initial, "__author__": "these tests"}))
    dataset = f"steps_{name}"
    opts = {
        **_options(name, dataset),
        "MODEL.WEIGHTS": weights,
        "OUTPUT_DIR": folder / "run",
        "SEED": 1,
        "SOLVER.LOG_PERIOD": 1,
    }
    annotations, masks, images = write_data(folder, record(dataset)["image_files"])
    command = ["--config-file", FOLDER / f"{name}.yaml"]
    if name == "semantic":
        command += ["--register", dataset, masks, images]
    else:
        command += ["--register-separated", dataset, annotations, "", masks, images]
    command += [word for pair in opts.items() for word in pair]
    try:
        assert tfdetect.cli.train.main([str(word) for word in command]) == 0
    finally:
        disable_op_determinism()
    lines = (folder / "run" / "metrics.json").read_text().splitlines()
    losses = [
        {key: value for key, value in json.loads(line).items() if key.startswith("loss_")}
        for line in lines
    ]
    _, model, _ = load_model(folder / "run" / "model_final")
    return Run(losses, initial, arrays_of(model))


def first_gradients(name: str, folder: Path) -> dict[str, float]:
    """Norms of the first step's gradients by the variables' names."""
    annotations, masks, images = write_data(folder, record(f"steps_{name}")["image_files"])
    dataset = f"gradients_{name}"
    if name == "semantic":
        register_dataset(dataset, masks, images)
    else:
        register_separated_dataset(dataset, annotations, "", masks, images)
    words = [str(word) for pair in _options(name, dataset).items() for word in pair]
    cfg = load_config(FOLDER / f"{name}.yaml", words)
    model = build_model(cfg)
    assign_state_dict(model, initial_weights(name), source="seeded")
    named = trainable_variables(model, cfg)
    batch = next(iter(training_dataset(cfg, seed=1)))
    pixels = normalize_batch(
        batch["image"],
        batch["image_size"],
        cfg.MODEL.PIXEL_MEAN,
        cfg.MODEL.PIXEL_STD,
        model.size_divisibility,
    )
    targets = Targets(**{key: batch[key] for key in batch if key in Targets._fields})
    with tf.GradientTape() as tape:
        losses = model.losses(pixels, batch["image_size"], targets, tf.constant([0, 0]))
        total = tf.add_n(list(losses.values()))
    gradients = tape.gradient(total, [n.variable for n in named])
    return {n.name: float(np.linalg.norm(g)) for n, g in zip(named, gradients, strict=True)}


def parameter_differences(name: str, run: Run) -> dict[str, float]:
    """How far the norms of the parameters have changed otherwise than in the record, relatively."""
    recorded = record(f"steps_{name}")
    found = {}
    for key, norm in recorded["parameter_norms"].items():
        # PyTorch's norms of a float32 tensor are off by up to 5e-5, before and after alike.
        ratio = np.linalg.norm(run.final[key]) / np.linalg.norm(run.initial[key])
        found[key] = abs(ratio - norm / recorded["initial_parameter_norms"][key])
    return found


IMAGES = ("000002.jpg", "000003.jpg")
MAPS = np.load(FOLDER / "segmentation_maps.npz")


def predict(name: str) -> tuple[list[Detections], list[Detections]]:
    """What the initial weights give for both images: each alone, and in one batch."""
    cfg = load_config(FOLDER / f"{name}.yaml")
    names = {"class_names": list("abcd"), "stuff_class_names": list("vwxyz")}
    predictor = Predictor.of_model(cfg, seeded_model(cfg), names)
    images = [read_image(DEMO / "images" / name) for name in IMAGES]
    return [predictor(image) for image in images], predictor(images)


def pixel_differences(name: str) -> list[int]:
    """How many pixels of both images differ in the semantic and, if there is one, panoptic maps."""
    alone, _ = predict(name)
    counts = [0, 0]
    for index, found in enumerate(alone):
        counts[0] += int((found.sem_seg != MAPS[f"{name}/{index}/sem_seg_argmax"]).sum())
        if found.panoptic is not None:
            counts[1] += int((found.panoptic.ids != MAPS[f"{name}/{index}/panoptic_seg"]).sum())
    return counts if name == "panoptic" else counts[:1]


def _options(name: str, dataset: str) -> dict[str, Any]:
    recorded = record(f"steps_{name}")
    return {
        "DATALOADER.NUM_WORKERS": 0,
        "DATASETS.TEST": (),
        "DATASETS.TRAIN": (dataset,),
        "INPUT.MIN_SIZE_TRAIN": (recorded["short_edge"],),
        "INPUT.MAX_SIZE_TRAIN": recorded["max_size"],
    }
