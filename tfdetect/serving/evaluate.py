"""`predict.py --evaluate`: predict the images of a data set, and measure."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from tfdetect.data.files import write_json
from tfdetect.errors import InputError
from tfdetect.evaluation.dataset import model_tasks, open_dataset
from tfdetect.serving.loop import find_proposals, predict_files
from tfdetect.serving.records import Records

if TYPE_CHECKING:
    from tfdetect.serving.predictor import Predictor

METRICS = "metrics.json"


def evaluate(args: argparse.Namespace, load: Callable[[argparse.Namespace], Predictor]) -> int:
    """Returns 1 if some of the images could not be read, else 0."""
    predictor = load(args)
    if predictor.cfg.MODEL.META_ARCHITECTURE == "ProposalNetwork":
        raise InputError(f"{args.model}: proposes boxes without classes; --evaluate needs classes")
    dataset = open_dataset(
        args.evaluate,
        model_tasks(predictor.cfg),
        predictor.class_names,
        predictor.cfg.TEST.KEYPOINT_OKS_SIGMAS,
    )
    folder = dataset.image_folder if args.images is None else Path(args.images)
    if folder is None:
        raise InputError(f"{args.evaluate}: does not say where its images are; give --images")
    if not folder.is_dir():
        raise InputError(f"--images {folder}: is not a folder; give the folder of the images")
    files = [folder / name for name in dataset.file_names]
    proposals = find_proposals(args.proposals, [[name] for name in dataset.image_ids])
    results: list[dict[str, Any]] = []
    records = None if args.json is None else Records(args.json)
    unread: list[Path] = []
    with tqdm(total=len(files), desc="Evaluating", unit="image") as progress:
        for index, _, detections in predict_files(
            predictor, files, proposals, args.batch_size, unread
        ):
            results += dataset.to_results(index, detections)
            if records is not None:
                records.add(dataset.file_names[index], detections)
            progress.update()
    metrics = dataset.evaluate(results)
    output = Path(args.output)
    written = dataset.write_results(output, results)
    write_json(output / METRICS, _without_nan(metrics))
    if records is not None:
        records.write()
    print(dataset.format_table(metrics))
    print(f"results: {', '.join(str(path) for path in written)}")
    return 1 if unread else 0


def _without_nan(metrics: dict[str, dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """JSON has no NaN: what could not be measured is null."""
    return {
        task: {name: None if math.isnan(value) else value for name, value in values.items()}
        for task, values in metrics.items()
    }
