"""The command `predict.py`."""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from tfdetect.data.coco import read_coco
from tfdetect.data.files import check_writable, write_json
from tfdetect.data.images import find_images, read_image
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.evaluation.coco import evaluate, format_table, prediction_record, to_results
from tfdetect.quiet import import_tensorflow, without_startup_remarks
from tfdetect.visualize import draw_detections, write_image

if TYPE_CHECKING:
    from tfdetect.serving.predictor import Predictor

RESULTS = "coco_instances_results.json"
METRICS = "metrics.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict or evaluate. Returns 1 if some of the images could not be read, else 0."""
    args = _parse(arguments)
    if args.evaluate is not None:
        return _evaluate(args)
    return _predict(args)


def _predict(args: argparse.Namespace) -> int:
    files = find_images(args.input)
    predictor = _load(args)
    pictures = None if args.output is None else _picture_paths(files, Path(args.output))
    records = []
    unread: list[Path] = []
    for index, image, detections in _run(predictor, files, args.batch_size, unread):
        if args.json is not None:
            records.append(prediction_record(files[index].name, detections))
        if pictures is not None:
            drawn = draw_detections(
                image,
                detections,
                predictor.class_names,
                predictor.keypoint_connections,
                args.confidence_threshold,
                predictor.keypoint_classes,
            )
            write_image(pictures[index], drawn)
        target = "" if pictures is None else f" -> {pictures[index]}"
        found = _summary(detections, predictor.class_names, args.confidence_threshold)
        print(f"{files[index]}: {found}{target}", flush=True)
    if args.json is not None:
        write_json(args.json, records)
    return 1 if unread else 0


def _evaluate(args: argparse.Namespace) -> int:
    dataset = read_coco(args.evaluate)
    folder = Path(args.images)
    if not folder.is_dir():
        raise InputError(f"--images {folder}: is not a folder; give the folder of the images")
    files = [folder / image.file_name for image in dataset.images]
    if not files:
        raise InputError(f"{args.evaluate}: lists no images")
    predictor = _load(args)
    results: list[dict[str, Any]] = []
    records = []
    unread: list[Path] = []
    with tqdm(total=len(files), desc="Evaluating", unit="image") as progress:
        for index, _, detections in _run(predictor, files, args.batch_size, unread):
            results += to_results(detections, dataset.images[index].id, dataset.category_ids)
            if args.json is not None:
                records.append(prediction_record(dataset.images[index].file_name, detections))
            progress.update()
    tasks = ["bbox"]
    tasks += ["segm"] if predictor.cfg.MODEL.MASK_ON else []
    tasks += ["keypoints"] if predictor.cfg.MODEL.KEYPOINT_ON else []
    metrics = evaluate(dataset, results, tasks, predictor.cfg.TEST.KEYPOINT_OKS_SIGMAS)
    output = Path(args.output)
    write_json(output / RESULTS, results)
    write_json(output / METRICS, _without_nan(metrics))
    if args.json is not None:
        write_json(args.json, records)
    print(format_table(metrics))
    print(f"results: {output / RESULTS}")
    return 1 if unread else 0


def _without_nan(metrics: dict[str, dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """JSON has no NaN: what could not be measured is null."""
    return {
        task: {name: None if math.isnan(value) else value for name, value in values.items()}
        for task, values in metrics.items()
    }


def _run(
    predictor: Predictor, files: Sequence[Path], batch_size: int, unread: list[Path]
) -> Iterator[tuple[int, np.ndarray, Detections]]:
    """Yield (index into `files`, image, detections); name what cannot be read and go on.

    Raises:
        InputError: none of the files can be read.
    """
    last_error = None
    batch: list[tuple[int, np.ndarray]] = []
    for index, path in enumerate(files):
        try:
            batch.append((index, read_image(path)))
        except InputError as error:
            unread.append(path)
            last_error = error
            if len(files) > 1:
                print(f"error: {error}", file=sys.stderr)
        if batch and (len(batch) == batch_size or index == len(files) - 1):
            found = predictor.predict_batch([image for _, image in batch])
            for (position, image), detections in zip(batch, found, strict=True):
                yield position, image, detections
            batch = []
    if last_error is not None and len(unread) == len(files):
        raise last_error if len(files) == 1 else InputError(f"none of {len(files)} files is usable")


def _load(args: argparse.Namespace) -> Predictor:
    if args.output is not None:
        check_writable(args.output)
    import_tensorflow()
    with without_startup_remarks():
        from tfdetect.serving.predictor import Predictor

        return Predictor(args.model, args.device)


def _picture_paths(files: Sequence[Path], folder: Path) -> list[Path]:
    """A picture's path for each file, all different and none of them an input."""
    inputs = {path.resolve() for path in files}
    taken: set[Path] = set()
    result = []
    for path in files:
        suffix = path.suffix if path.suffix.lower() in (".jpg", ".jpeg", ".png") else ".png"
        name = f"{path.stem}{suffix}"
        number = 1
        while folder / name in taken:
            number += 1
            name = f"{path.stem}_{number}{suffix}"
        picture = folder / name
        if picture.resolve() in inputs:
            raise InputError(f"--output {folder}: would overwrite {picture}; give another folder")
        taken.add(picture)
        result.append(picture)
    return result


def _summary(detections: Detections, class_names: Sequence[str], threshold: float) -> str:
    """Such as "2 person, 1 circle"."""
    shown = detections.classes[detections.scores >= threshold].tolist()
    if not shown:
        return f"nothing above {threshold:g}"
    counts = Counter(class_names[label] for label in shown)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="predict.py", description="Detect objects in images with a converted model."
    )
    parser.add_argument(
        "--model", required=True, metavar="DIR", help="the directory that convert_d2.py wrote"
    )
    parser.add_argument(
        "--input", nargs="+", metavar="PATH", help="images, folders of images or glob patterns"
    )
    parser.add_argument("--output", metavar="DIR", help="folder for the pictures or the results")
    parser.add_argument(
        "--json", metavar="FILE", help="write every detection of the model to this file"
    )
    parser.add_argument(
        "--confidence-threshold",
        type=_unit_interval,
        default=0.5,
        metavar="SCORE",
        help="draw and count detections from this score on (default 0.5)",
    )
    parser.add_argument(
        "--batch-size",
        type=_positive,
        default=1,
        metavar="N",
        help="images that go through the network together (default 1)",
    )
    parser.add_argument(
        "--device", metavar="NAME", help="cpu, gpu or gpu:N (default: as TensorFlow chooses)"
    )
    parser.add_argument(
        "--evaluate", metavar="JSON", help="COCO annotations to measure average precision against"
    )
    parser.add_argument("--images", metavar="DIR", help="the folder of the annotations' images")
    args = parser.parse_args(arguments)
    if args.evaluate is not None:
        if args.images is None or args.output is None:
            parser.error("--evaluate needs --images and --output")
        if args.input is not None:
            parser.error("--evaluate takes its images from --images, not --input")
    elif args.input is None:
        parser.error("give --input, or --evaluate")
    elif args.output is None and args.json is None:
        parser.error("give --output for pictures, --json for numbers, or both")
    return args


def _unit_interval(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value
