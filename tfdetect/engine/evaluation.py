"""Evaluation of a model in training on DATASETS.TEST."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tqdm import tqdm
from yacs.config import CfgNode

from tfdetect.data.images import read_image
from tfdetect.data.registry import dataset_files
from tfdetect.engine.devices import Workers
from tfdetect.errors import InputError
from tfdetect.evaluation.dataset import EvaluationDataset, model_tasks, open_dataset
from tfdetect.serving.predictor import Predictor

_logger = logging.getLogger("tfdetect.train")

INFERENCE = "inference"


def expected_results(cfg: CfgNode) -> list[tuple[str, float, float]]:
    """(metric, value, tolerance) of the entries [task, metric, value, tolerance] of the key.

    Raises:
        InputError: an entry of TEST.EXPECTED_RESULTS is something else.
    """
    found = []
    for entry in cfg.TEST.EXPECTED_RESULTS:
        try:
            task, metric, value, tolerance = entry
            found.append((f"{task}/{metric}", float(value), float(tolerance)))
        except (TypeError, ValueError):
            raise InputError(
                f"TEST.EXPECTED_RESULTS: {entry!r} is not understood; give lists such as "
                "['bbox', 'AP', 38.5, 0.2]"
            ) from None
    return found


class Evaluation:
    """Measures a model as `predict.py --evaluate` does, each worker on a part of the images.

    The data sets are opened, and what is wrong with them is said, when it is made.
    """

    def __init__(self, cfg: CfgNode, model: tf.Module, metadata: dict[str, Any], workers: Workers):
        """Open the data sets.

        Args:
            cfg: DATASETS.TEST, TEST and OUTPUT_DIR.
            model: whose weights may go on changing.
            metadata: of the model's directory.
            workers: that share the images.

        Raises:
            InputError: a data set is unknown or missing, or has nothing that the model gives;
                TEST.EXPECTED_RESULTS is not understood.
        """
        self._expected = expected_results(cfg)
        self._output = Path(cfg.OUTPUT_DIR) / INFERENCE
        self._workers = workers
        self._predictor = Predictor.of_model(cfg, model, metadata)
        self._datasets: dict[str, tuple[EvaluationDataset, Path]] = {}
        for name in cfg.DATASETS.TEST:
            files = dataset_files(name, "DATASETS.TEST")
            dataset = open_dataset(
                files.annotations,
                model_tasks(cfg),
                metadata["class_names"],
                cfg.TEST.KEYPOINT_OKS_SIGMAS,
            )
            self._datasets[name] = dataset, files.images_dir

    def __call__(self) -> dict[str, float]:
        """Predict and measure; results are written to OUTPUT_DIR/inference and a data set's name.

        Returns:
            The metrics, in percent, as `bbox/AP`; with several data sets as `NAME/bbox/AP`.

        Raises:
            InputError: an image cannot be read, or results cannot be written.
        """
        found: dict[str, float] = {}
        for name, (dataset, folder) in self._datasets.items():
            results = self._predict(name, dataset, folder)
            metrics = dataset.evaluate(results)
            if self._workers.index == 0:
                dataset.write_results(self._output / name, results)
                _logger.info("%s:\n%s", name, dataset.format_table(metrics))
            prefix = f"{name}/" if len(self._datasets) > 1 else ""
            for task, values in metrics.items():
                found |= {f"{prefix}{task}/{metric}": v for metric, v in values.items()}
        return found

    def holds(self, metrics: Mapping[str, float]) -> bool:
        """Whether metrics are what TEST.EXPECTED_RESULTS says; the log names each that is not.

        Detectron2: `verify_results`.
        """
        wrong = [
            f"{name} is {metrics.get(name, math.nan):.4g} instead of {value:g} +- {tolerance:g}"
            for name, value, tolerance in self._expected
            # Written so that NaN does not pass.
            if not abs(metrics.get(name, math.nan) - value) <= tolerance
        ]
        for message in wrong:
            _logger.error("TEST.EXPECTED_RESULTS: %s", message)
        return not wrong

    def _predict(self, name: str, dataset: EvaluationDataset, folder: Path) -> list[dict[str, Any]]:
        """The results of all images, in the order of the images."""
        workers = self._workers
        mine = range(workers.index, len(dataset.file_names), workers.count)
        lines = []
        for index in tqdm(mine, desc=f"Evaluating {name}", unit="image", disable=None):
            try:
                image = read_image(folder / dataset.file_names[index])
            except InputError as error:
                raise InputError(f"DATASETS.TEST: {name}: {error}") from error
            (detections,) = self._predictor.predict_batch([image])
            lines.append(json.dumps([index, dataset.to_results(index, detections)]))
        parts = sorted((json.loads(line) for line in workers.gather(lines)), key=lambda p: p[0])
        return [result for _, results in parts for result in results]
