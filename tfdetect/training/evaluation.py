"""Evaluation of a model in training on DATASETS.TEST."""

from __future__ import annotations

import base64
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm
from yacs.config import CfgNode

from tfdetect.config.tta import with_tta
from tfdetect.data.training.record import BrokenData
from tfdetect.errors import InputError
from tfdetect.evaluation.predict import predict_dataset
from tfdetect.evaluation.report import write_and_measure
from tfdetect.inference.predictor import Predictor
from tfdetect.training.devices import Workers
from tfdetect.training.test_data import EvaluationData

_logger = logging.getLogger("tfdetect.train")

INFERENCE = "inference"
_SUFFIX = "_TTA"


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
                f"TEST.EXPECTED_RESULTS: {entry!r} is invalid; give lists such as "
                "['bbox', 'AP', 38.5, 0.2]"
            ) from None
    return found


@dataclass
class Outcome:
    """The results of an evaluation.

    Attributes:
        metrics: in percent, as `bbox/AP`; with several data sets as `NAME/bbox/AP`. Those with
            test-time augmentation: see `Evaluation`.
        errors: what could not be predicted, measured or written.
        iteration: the last one before it; None where that is not known.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    errors: list[InputError] = field(default_factory=list)
    iteration: int | None = None


class Evaluation:
    """Measures a model as `tfdetect evaluate` does, each worker on a part of the images."""

    def __init__(
        self,
        cfg: CfgNode,
        model: tf.Module,
        metadata: dict[str, Any],
        workers: Workers,
        test_data: Sequence[EvaluationData],
        *,
        tta: bool = False,
    ):
        """Nothing is predicted yet.

        Args:
            cfg: TEST, DATALOADER.ON_ERROR and OUTPUT_DIR.
            model: whose weights may continue to change.
            metadata: of the model's directory.
            workers: that share the images.
            test_data: of `open_test_data`.
            tta: whether with test-time augmentation, whatever TEST.AUG.ENABLED is. Metrics then
                have the names of Detectron2's tools/train_net.py (`test_with_TTA`): `bbox_TTA/AP`,
                with several data sets `NAME_TTA/bbox/AP`; results go to OUTPUT_DIR/inference_TTA.

        Raises:
            InputError: TEST.EXPECTED_RESULTS is not understood.
        """
        self._expected = expected_results(cfg)
        self._suffix = _SUFFIX if tta else ""
        self._output = Path(cfg.OUTPUT_DIR) / f"{INFERENCE}{self._suffix}"
        self._workers = workers
        self._predictor = Predictor.of_model(with_tta(cfg, tta), model, metadata)
        self._on_error = cfg.DATALOADER.ON_ERROR
        self._test_data = test_data
        for data in () if tta else test_data:  # said once, by the one without
            for note in data.dataset.notes:
                _logger.info("%s: %s", data.name, note)

    def __call__(self) -> Outcome:
        """Predict, write and measure, the results to OUTPUT_DIR/inference and a data set's name.

        Errors for one data set are logged and do not prevent the evaluation of the others.
        """
        outcome = Outcome()
        for data in self._test_data:
            name, dataset = data.name, data.dataset
            try:
                results, measured = self._predict(data)
            except InputError as error:
                outcome.errors.append(error)
                continue
            writes = self._workers.index == 0
            folder = self._output / name if writes else None
            done = write_and_measure(dataset, results, measured, folder)
            outcome.errors += done.errors
            if writes and done.text:
                _logger.info("%s:\n%s", name, done.text)
            several = len(self._test_data) > 1
            for task, values in done.metrics.items():
                of = f"{name}{self._suffix}/{task}" if several else f"{task}{self._suffix}"
                outcome.metrics |= {f"{of}/{key}": value for key, value in values.items()}
        for failure in outcome.errors:
            _logger.error("evaluation failed: %s", failure)
        return outcome

    def holds(self, metrics: Mapping[str, float]) -> bool:
        """Whether the metrics match TEST.EXPECTED_RESULTS; each mismatch is logged.

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

    def _predict(self, data: EvaluationData) -> tuple[list[dict[str, Any]], list[int]]:
        """The results of all images in their order, and the indices of the images."""
        workers, dataset = self._workers, data.dataset
        wanted = [i for i in range(len(dataset.file_names)) if i not in data.missing]
        mine = wanted[workers.index :: workers.count]
        broken = BrokenData(self._on_error)
        errors: dict[int, str] = {}
        results: dict[int, list[dict[str, Any]]] = {}

        def skip(index: int, error: InputError) -> None:
            errors[index] = f"DATASETS.TEST: {data.name}: {error}"
            if workers.count == 1:
                broken(InputError(errors[index]))

        predicted = predict_dataset(
            self._predictor, dataset, data.folder, mine, skip, proposals=data.proposals
        )
        progress = tqdm(
            predicted,
            f"Evaluating {data.name}{self._suffix}",
            total=len(mine),
            unit="image",
            disable=None,
        )
        for index, detections in progress:
            results[index] = dataset.to_results(index, detections)
        # All workers receive every error, so that either all of them stop or none.
        everything = self._gather(results, errors)
        for index in sorted(everything):
            if isinstance(everything[index], str) and workers.count > 1:
                broken(InputError(everything[index]))
        measured = [index for index in sorted(everything) if not isinstance(everything[index], str)]
        if not measured:
            raise InputError(f"DATASETS.TEST: {data.name}: none of its images is usable")
        return [result for index in measured for result in everything[index]], measured

    def _gather(
        self, results: Mapping[int, list[dict[str, Any]]], errors: Mapping[int, str]
    ) -> dict[int, Any]:
        """By image, the results or the error, of all workers."""
        mine = {**results, **errors}
        if self._workers.count == 1:
            return mine
        lines = [json.dumps(pair, default=_as_json) for pair in mine.items()]
        gathered = self._workers.gather(lines)
        return dict(json.loads(line, object_hook=_from_json) for line in gathered)


def _as_json(value: Any) -> Any:
    """An array, or the bytes of a PNG."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    return np.ndarray.tolist(value)


def _from_json(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["base64"]) if value.keys() == {"base64"} else value
