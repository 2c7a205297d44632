"""Check, draw and convert the annotations of a data set."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pycocotools.mask as coco_mask
from tqdm import tqdm

from tfdetect.cli.arguments import CommandParser
from tfdetect.cli.model import positive
from tfdetect.data.catalog import DatasetMetadata
from tfdetect.data.dataset_files import DatasetFiles
from tfdetect.data.dota import images_of_dota
from tfdetect.data.image_files import missing_files
from tfdetect.data.images import read_image, write_image
from tfdetect.data.other_formats.reading import OTHER_FORMS, images_of, other_form
from tfdetect.data.registry import dataset_metadata, describe_files, other_content
from tfdetect.data.training.dataset_check import Findings, check_dataset, format_check
from tfdetect.data.training.record import Annotation, Record
from tfdetect.data.training.records import read_records
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.files import check_writable_file, write_json
from tfdetect.masks.polygons import rasterize_polygons
from tfdetect.visualize.pictures import draw_detections, draw_semantic

_SHOWN_ERRORS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand. Returns 1 if something was wrong with the data, else 0."""
    args = _parse(arguments)
    annotations = Path(args.annotations)
    if not annotations.exists():
        raise InputError(f"{annotations}: is missing, correct --annotations")
    images = _images(annotations, args.images)
    files = describe_files("", annotations, images)
    run = {"check": _check, "convert": _convert, "show": _show}[args.subcommand]
    return run(args, files)


def _images(annotations: Path, given: str | None) -> Path:
    """The folder of the images."""
    if given is not None:
        folder = Path(given)
        if not folder.is_dir():
            raise InputError(f"--images {folder}: is not a folder; give the folder of the images")
        return folder
    form = other_form(annotations)
    folder_of = images_of(form, annotations) if form else None
    if form is None and annotations.is_dir():
        folder_of = images_of_dota(annotations)
    if folder_of is None or not folder_of.is_dir():
        raise InputError(f"{annotations}: does not say where its images are; give --images")
    return folder_of


def _check(args: argparse.Namespace, files: DatasetFiles) -> int:
    if args.json is not None:
        check_writable_file(args.json)
    found = check_dataset(files, decode=args.decode)
    print(format_check(found))
    if args.json is not None:
        write_json(args.json, found.as_json())
    return 1 if found.errors.by_kind else 0


def _convert(args: argparse.Namespace, files: DatasetFiles) -> int:
    """Write COCO's JSON; what is broken is left out and said."""
    output = Path(args.output)
    if files.form not in OTHER_FORMS:
        raise InputError(
            f"{files.annotations}: is {files.form}, which needs none; YOLO, Pascal VOC and "
            "labelme are converted"
        )
    check_writable_file(output)
    content = other_content(files, difficult=args.difficult_as_crowds)
    if not content.images or not content.class_names:
        raise content.nothing(files.annotations)
    write_json(output, content.as_coco())
    print(
        f"{output}: {len(content.images)} images, {len(content.annotations)} objects of "
        f"{len(content.class_names)} classes"
    )
    for error in content.errors[:_SHOWN_ERRORS]:
        print(f"left out: {error}")
    if len(content.errors) > _SHOWN_ERRORS:
        print(f"left out: {len(content.errors) - _SHOWN_ERRORS} more; tfdetect dataset check")
    return 1 if content.errors else 0


def _show(args: argparse.Namespace, files: DatasetFiles) -> int:
    """Draw ground truth; images that cannot be drawn are said."""
    output = Path(args.output)
    check_writable_file(output / "x")
    metadata = dataset_metadata(files)
    errors = Findings()
    keypoints = len(metadata.keypoint_names) if metadata.keypoint_names else None
    records = read_records(files, "optional", keypoints, files.form == "DOTA", errors)
    missing = set(missing_files(Path(record.file_name) for record in records))
    drawn = 0
    for record in tqdm(records[: args.count], "Drawing", unit="image", disable=None):
        path = Path(record.file_name)
        try:
            if path in missing:
                raise InputError(f"{path}: is missing")
            picture = _draw(read_image(path), record, metadata)
        except InputError as error:
            errors(error)
            continue
        write_image(output / _name(path, files.images_dir), picture)
        drawn += 1
    print(f"{output}: {drawn} pictures of {len(records)} images")
    for message in itertools.chain(*errors.by_kind.values()):
        print(f"left out: {message}", file=sys.stderr)
    return 1 if errors.by_kind else 0


def _name(path: Path, images_dir: Path) -> Path:
    """Of a picture: as the image, and as a PNG."""
    inside = path.is_relative_to(images_dir)
    return (path.relative_to(images_dir) if inside else Path(path.name)).with_suffix(".png")


def _draw(image: np.ndarray, record: Record, metadata: DatasetMetadata) -> np.ndarray:
    """The ground truth of an image, as detections are drawn."""
    height, width = image.shape[:2]
    if (height, width) != (record.height, record.width):
        raise InputError(
            f"{record.file_name}: has {width} x {height} pixels, in the annotations it has "
            f"{record.width} x {record.height}"
        )
    if not record.annotations and record.sem_seg is not None:
        labels = record.sem_seg.read()
        return draw_semantic(image, labels, metadata.stuff_classes or [], metadata.stuff_colors)
    objects = record.annotations
    size = 5 if any(len(annotation.box) == 5 for annotation in objects) else 4
    keypoints = [annotation.keypoints for annotation in objects if annotation.keypoints is not None]
    masks = [_mask(annotation, height, width) for annotation in objects]
    truth = Detections(
        height=height,
        width=width,
        boxes=np.array([a.box for a in objects], np.float32).reshape(-1, size),
        scores=np.ones(len(objects), np.float32),
        classes=np.array([annotation.class_index for annotation in objects], np.int64),
        masks=np.array(masks, bool).reshape(-1, height, width) if np.any(masks) else None,
        keypoints=np.array(keypoints, np.float32) if keypoints else None,
    )
    return draw_detections(
        image,
        truth,
        metadata.thing_classes,
        metadata.keypoint_connections,
        keypoint_classes=metadata.keypoint_classes,
        with_scores=False,
    )


def _mask(annotation: Annotation, height: int, width: int) -> np.ndarray:
    """bool [height, width]; nothing where the object has no mask."""
    if annotation.rle is not None:
        return coco_mask.decode(annotation.rle).astype(bool)
    return rasterize_polygons(annotation.polygons or (), height, width)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser(
        "dataset",
        "Check, draw or convert annotations: JSON of COCO or COCO panoptic, YOLO (data.yaml, or "
        "the folder of labels), Pascal VOC (a folder of XML files, or a list in ImageSets/Main), "
        "labelme (the folder), DOTA, semantic masks.",
        [
            "check --annotations annotations.json --images images/",
            "show --annotations data.yaml --output pictures/ --count 20",
            "convert --annotations VOC2007/ImageSets/Main/trainval.txt --output voc.json",
        ],
    )
    commands = parser.add_subparsers(
        dest="subcommand",
        required=True,
        metavar="COMMAND",
        parser_class=argparse.ArgumentParser,
    )
    check = commands.add_parser(
        "check",
        help="everything that is wrong, in one report",
        description="Report everything that training or evaluation would stop at, and what is "
        "unusual, with counts and the first five of each kind. The exit status is 1 if there are "
        "errors.",
    )
    check.add_argument(
        "--decode", action="store_true", help="decode every image, and not only its header"
    )
    check.add_argument("--json", metavar="FILE", help="write every finding to this file")
    convert = commands.add_parser(
        "convert",
        help="write annotations of YOLO, Pascal VOC or labelme as COCO's JSON",
        description="Write annotations of YOLO, Pascal VOC or labelme as COCO's JSON. The exit "
        "status is 1 if something had to be left out.",
    )
    convert.add_argument(
        "--difficult-as-crowds",
        action="store_true",
        help="Pascal VOC's difficult objects get iscrowd 1, for evaluation: they do not count",
    )
    show = commands.add_parser(
        "show", help="draw ground truth", description="Draw the ground truth of images."
    )
    show.add_argument(
        "--count", type=positive, metavar="N", help="images to draw, from the first (default: all)"
    )
    for command in (check, convert, show):
        command.add_argument("--annotations", required=True, metavar="PATH", help="the annotations")
        command.add_argument(
            "--images", metavar="DIR", help="the folder of the images, if it cannot be told"
        )
    convert.add_argument("--output", required=True, metavar="JSON", help="the file to write")
    show.add_argument("--output", required=True, metavar="DIR", help="folder for the pictures")
    return parser.parse_args(arguments)
