"""Download a model of Detectron2's zoo, evaluate it, and compare with the published AP."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from yacs.config import CfgNode

from tfdetect.checkpoint.description import check_output, read_description
from tfdetect.checkpoint.remote.addresses import check_address
from tfdetect.cli.arguments import CommandParser
from tfdetect.cli.evaluate import measure
from tfdetect.cli.heap import keep_freed_memory
from tfdetect.cli.model import positive
from tfdetect.cli.quiet import import_tensorflow
from tfdetect.config import load_config
from tfdetect.config.capabilities import capabilities
from tfdetect.config.zoo import PublishedModel, find_published
from tfdetect.data.builtin import builtin_files
from tfdetect.data.catalog import metadata
from tfdetect.data.dataset_files import DatasetFiles
from tfdetect.errors import InputError
from tfdetect.evaluation.dataset import EvaluationDataset, Metrics
from tfdetect.evaluation.evaluate import EvaluationRun
from tfdetect.evaluation.registered import open_files
from tfdetect.evaluation.report import METRICS
from tfdetect.evaluation.table import format_metrics
from tfdetect.files import check_writable_file, write_json
from tfdetect.plugins import plugins

# What the zoo's pages call a metric: its task and its name here.
_METRICS = {
    "box": ("bbox", "AP"),
    "box50": ("bbox", "AP50"),
    "mask": ("segm", "AP"),
    "keypoint": ("keypoints", "AP"),
    "PQ": ("panoptic_seg", "PQ"),
    "mIoU": ("sem_seg", "mIoU"),
    "AR@1000": ("box_proposals", "AR@1000"),
}
_TOLERANCE = 0.1
"""Published values have one decimal."""
_REPORT = "reproduced.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Reproduce. Returns 0 if every published value is measured to within 0.1, else 1."""
    args = _parse(arguments)
    published = find_published(args.name, "NAME")
    check_address(published.address, "NAME")
    output = Path(args.output or f"reproduced/{published.name}")
    model_dir, results, report = output / "model", output / "results", output / _REPORT
    cfg = load_config(published.config)
    files = _find_data(cfg, published.name, args.coco)
    # All that can be wrong here is said before anything is downloaded.
    check_output(model_dir)
    check_writable_file(results / METRICS)
    check_writable_file(report)
    dataset = _open(files, cfg)
    proposals = None
    if capabilities(cfg).takes_proposals:
        (proposals,) = cfg.DATASETS.PROPOSAL_FILES_TEST
    run = EvaluationRun(dataset, cfg, {}, files.images_dir, proposals=proposals, source="--coco")

    convert = plugins("tfdetect.commands")["convert"].load()
    convert(["--zoo", published.name, "--output", str(model_dir)])
    converted, _ = read_description(model_dir)
    import_tensorflow(converted.FLOAT32_PRECISION)
    from tfdetect.inference.predictor import Predictor

    predictor = Predictor(model_dir, args.device)
    keep_freed_memory()
    done = measure(run, predictor, results, batch_size=args.batch_size)
    rows = _compare(published, done.metrics)
    print(_table(rows))
    values = {
        name: {"published": stated, "measured": None if math.isnan(found) else found}
        for name, stated, found in rows
    }
    write_json(report, {"model": published.name, "data": files.name, "metrics": values})
    print(f"results: {report}")
    missing = len(dataset.file_names) - len(run.measured)
    if missing:
        print(f"note: {missing} of {len(dataset.file_names)} images were missing", file=sys.stderr)
    agree = all(abs(found - stated) <= _TOLERANCE + 1e-9 for _, stated, found in rows)
    return 0 if agree and not missing else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser(
        "reproduce",
        "Download a model of Detectron2's zoo, convert it, evaluate it on the data set of its "
        "configuration, and print the published AP beside the measured one. The exit status is 1 "
        "if they differ by more than 0.1.",
        ["COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x --coco coco/"],
    )
    parser.add_argument(
        "name", metavar="NAME", help="such as COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"
    )
    parser.add_argument(
        "--coco",
        metavar="DIR",
        help="the folder with COCO's annotations/ and val2017/ (default: coco/ in the folder that "
        "the environment variable DETECTRON2_DATASETS names, or in ./datasets, where other data "
        "sets are looked for too)",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="folder for model/, results/ and reproduced.json (default: reproduced/NAME)",
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=1,
        metavar="N",
        help="images that go through the network together (default 1)",
    )
    parser.add_argument(
        "--device", metavar="NAME", help="cpu, gpu or gpu:N (default: as TensorFlow chooses)"
    )
    return parser.parse_args(arguments)


def _find_data(cfg: CfgNode, name: str, coco: str | None) -> DatasetFiles:
    """Where the data set of a configuration is, whose published AP it is."""
    test = cfg.DATASETS.TEST[0]
    folder = None if coco is None else Path(coco)
    if folder is not None and not folder.is_dir():
        raise InputError(f"--coco {coco}: is not a folder; give the one with COCO's annotations/")
    files = builtin_files(test, folder)
    if files is None:
        raise InputError(
            f"{name}: is evaluated on {test}, which has no place here; use tfdetect convert --zoo "
            f"{name} and tfdetect evaluate --annotations"
        )
    for path in (files.annotations, files.panoptic, files.images_dir):
        if path is not None and not path.exists():
            where = "--coco to" if folder is None and "coco" in test else "DETECTRON2_DATASETS to"
            if folder is not None and folder in path.parents:
                raise InputError(f"--coco {coco}: lacks {path.relative_to(folder)} of {test}")
            raise InputError(f"{test}: {path} is missing; set {where} the folder that has it")
    return files


def _open(files: DatasetFiles, cfg: CfgNode) -> EvaluationDataset:
    """The data set, for the model that is going to be converted."""
    able, names = capabilities(cfg), metadata(files.name)
    assert names is not None, files.name
    if able.proposes:
        names = dataclasses.replace(names, thing_classes=["object"], category_ids=None)
    elif not able.has_boxes:
        names = dataclasses.replace(names, thing_classes=[], category_ids=None)

    def reject(error: InputError) -> None:
        raise error

    return open_files(files, cfg, names.for_model(), reject)


def _compare(published: PublishedModel, metrics: Metrics) -> list[tuple[str, float, float]]:
    """(name, published, measured), NaN for what could not be measured."""
    rows = []
    for name, stated in published.ap.items():
        task, metric = _METRICS[name]
        rows.append((name, stated, _of(metrics, task, metric)))
    return rows


def _of(metrics: Mapping[str, Mapping[str, float]], task: str, metric: str) -> float:
    return metrics.get(task, {}).get(metric, math.nan)


def _table(rows: Sequence[tuple[str, float, float]]) -> str:
    columns = "published", "measured", "difference"
    values = {
        name: dict(zip(columns, (stated, found, found - stated), strict=True))
        for name, stated, found in rows
    }
    return format_metrics(values, columns, "AP")
