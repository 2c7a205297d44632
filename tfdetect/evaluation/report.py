"""What evaluation and training do with the results of a data set: write, then measure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfdetect.errors import InputError
from tfdetect.evaluation.dataset import EvaluationDataset, Metrics
from tfdetect.files import write_json

METRICS = "metrics.json"


@dataclass
class Evaluated:
    """The outcome of an evaluation.

    Attributes:
        metrics: by task, in percent; empty where there is no ground truth or measuring failed.
        counts: of images and annotations: measured, and left out.
        text: the tables of the metrics, and a line on what was left out, if anything was.
        written: the files that others read.
        errors: of writing and of measuring.
    """

    metrics: Metrics
    counts: dict[str, int]
    text: str = ""
    written: list[Path] = field(default_factory=list)
    errors: list[InputError] = field(default_factory=list)


def write_and_measure(
    dataset: EvaluationDataset,
    results: Sequence[Mapping[str, Any]],
    measured: Sequence[int],
    folder: Path | None,
) -> Evaluated:
    """Write the results, measure them, and write the metrics.

    An error in one of these steps does not prevent the others. Images that could not be read are
    not evaluated; skipped images and annotations are counted.

    Args:
        dataset: that was predicted.
        results: of its `to_results`.
        measured: the indices of the images that were predicted.
        folder: gets the format's result files and `metrics.json`: the metrics by task, null where
            they cannot be computed, and `counts` where anything was left out. None writes nothing.
    """
    total = len(dataset.file_names) + dataset.broken_images
    used, left_out = dataset.count_annotations(measured)
    counts = {
        "images": len(measured),
        "images_skipped": total - len(measured),
        "annotations": used,
        "annotations_skipped": left_out,
    }
    done = Evaluated({}, counts)
    if folder is not None:
        try:
            done.written += dataset.write_results(folder, results)
        except InputError as error:
            done.errors.append(error)
    try:
        done.metrics = _measure(dataset, results, measured)
    except InputError as error:
        done.errors.append(error)
    tables = [dataset.format_table(done.metrics)] if done.metrics else []
    done.text = "\n\n".join(tables + _left_out(counts))
    if folder is not None:
        try:
            skipped = {"counts": counts} if _left_out(counts) else {}
            write_json(folder / METRICS, {**_without_nan(done.metrics), **skipped})
        except InputError as error:
            done.errors.append(error)
    return done


def _measure(
    dataset: EvaluationDataset, results: Sequence[Mapping[str, Any]], measured: Sequence[int]
) -> Metrics:
    if not dataset.has_ground_truth:
        return {}
    try:
        return dataset.evaluate(results, measured)
    except InputError:
        raise
    except Exception as error:  # pycocotools may raise almost anything
        raise InputError(
            f"{dataset.path}: cannot be evaluated ({type(error).__name__}: {error}), correct the"
            " annotations"
        ) from error


def _left_out(counts: Mapping[str, int]) -> list[str]:
    parts = [
        f"{counts[kind]} of {counts[kind] + skipped} {kind} ({skipped} skipped)"
        for kind in ("images", "annotations")
        if (skipped := counts[f"{kind}_skipped"])
    ]
    return [f"evaluated on {' and '.join(parts)}"] if parts else []


def _without_nan(metrics: Metrics) -> dict[str, dict[str, float | None]]:
    """JSON has no NaN: metrics that could not be computed are null."""
    return {
        task: {name: None if math.isnan(value) else value for name, value in values.items()}
        for task, values in metrics.items()
    }
