"""Detect objects in images and videos."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfdetect.cli.arguments import FILES, CommandParser, parse_with_opts
from tfdetect.cli.drawing import add_drawing_arguments, check_font, draw, summary
from tfdetect.cli.evaluate import add_evaluation_arguments, evaluate
from tfdetect.cli.imports import import_user_modules
from tfdetect.cli.loop import find_proposals, predict_files
from tfdetect.cli.model import add_model_arguments, check_configuration, load_predictor
from tfdetect.cli.prediction_file import PredictionFile
from tfdetect.cli.video import counted, frame_fields, predict_frames, say_after, silence_ffmpeg
from tfdetect.data.images import (
    IMAGE_SUFFIXES,
    describe_passed_over,
    find_images,
    read_image,
    write_image,
)
from tfdetect.data.proposal_files import image_names
from tfdetect.data.video import VIDEO_SUFFIXES, Frame, VideoFrames, is_video
from tfdetect.data.video_writer import CODECS, VideoWriter, check_video_output
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.files import check_writable, check_writable_file
from tfdetect.interrupts import hold_interrupts
from tfdetect.visualize.fonts import load_font

if TYPE_CHECKING:
    from tfdetect.inference.predictor import Predictor

_PROFILED_BATCHES = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict or evaluate. Returns 1 if some of the images could not be read, else 0."""
    args = _parse(arguments)
    silence_ffmpeg()
    import_user_modules(args.imports)
    precision = check_configuration(args)
    if args.evaluate is not None:
        return evaluate(args, precision)
    return _predict(args, precision)


def _predict(args: argparse.Namespace, float32_precision: str) -> int:
    passed_over: list[Path] = []
    files = find_images(args.input, passed_over, IMAGE_SUFFIXES | VIDEO_SUFFIXES)
    if passed_over:
        print(f"note: skipped {describe_passed_over(passed_over)}", file=sys.stderr)
    names = _record_names(files)
    videos = {index for index, path in enumerate(files) if is_video(path)}
    for option in ("proposals", "profile"):
        if videos and getattr(args, option) is not None:
            raise InputError(f"--{option}: works with images, but {files[min(videos)]} is a video")
    if args.font is not None:
        load_font(args.font, 20)
    proposals = find_proposals(args.proposals, [image_names(path) for path in files])
    for folder in (args.output, args.profile):
        if folder is not None:
            check_writable(folder)
    if args.json is not None:
        check_writable_file(args.json)
    pictures = None if args.output is None else _picture_paths(files, Path(args.output))
    errors: dict[int, InputError] = {}

    def skip(index: int, error: InputError) -> None:
        errors[index] = error
        if len(files) > 1:
            print(f"error: {error}", file=sys.stderr)
        if len(errors) == len(files):
            raise InputError(f"none of {len(files)} files is usable") if len(files) > 1 else error

    for index in sorted(videos):
        if pictures is not None:
            check_video_output(pictures[index])
        try:
            VideoFrames(files[index]).close()
        except InputError as error:
            skip(index, error)
    predictor = load_predictor(args, float32_precision)
    if pictures is not None:
        check_font(predictor, args.font)
    done = 0
    with contextlib.ExitStack() as open_files:
        records = None
        if args.json is not None:
            records = open_files.enter_context(PredictionFile(args.json))
        run = _Run(args, predictor, files, names, proposals, pictures, records, skip)
        readable = [index for index in range(len(files)) if index not in errors]
        try:
            for of_videos, group in itertools.groupby(readable, key=videos.__contains__):
                for index, found in run.videos(group) if of_videos else run.images(group):
                    target = "" if pictures is None else f" -> {pictures[index]}"
                    print(f"{files[index]}: {found}{target}", flush=True)
                    done += 1
        except KeyboardInterrupt as interrupt:
            kind = "files" if videos else "images"
            parts = [str(interrupt), f"{done} of {len(files)} {kind} are done"]
            if args.json is not None:
                parts.append(f"{args.json} is not written")
            interrupt.args = ("; ".join(filter(None, parts)),)
            raise
        if records is not None:
            with hold_interrupts():
                records.finish()
    if args.profile is not None:
        readable = [index for index in readable if index not in errors]
        _profile(args, predictor, files, readable, proposals, pictures)
    return 1 if errors or run.incomplete else 0


class _Run:
    """Predicts files, and writes what it finds.

    Args:
        args: of the command.
        predictor: the model.
        files: images and videos.
        names: of the files in the records.
        proposals: of each file, for a model that needs them.
        pictures: where the pictures of each file go; None for no pictures.
        records: where the numbers go.
        skip: gets the index and the error of a file that cannot be read.

    Attributes:
        incomplete: whether a video ended before its end.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        predictor: Predictor,
        files: Sequence[Path],
        names: Sequence[str],
        proposals: Sequence[np.ndarray] | None,
        pictures: Sequence[Path] | None,
        records: PredictionFile | None,
        skip: Callable[[int, InputError], None],
    ):
        self._args = args
        self._predictor = predictor
        self._files = files
        self._names = names
        self._proposals = proposals
        self._pictures = pictures
        self._records = records
        self._skip = skip
        self.incomplete = False

    def images(self, indices: Iterable[int]) -> Iterator[tuple[int, str]]:
        """Yield the index of each image that can be read, and what is found in it, in words."""
        threshold = self._args.confidence_threshold
        size = self._args.batch_size
        for index, image, detections in predict_files(
            self._predictor, self._files, indices, self._proposals, size, self._skip
        ):
            if self._records is not None:
                self._records.add(self._names[index], detections)
            if self._pictures is not None:
                drawn = draw(image, detections, self._predictor, threshold, self._args.font)
                write_image(self._pictures[index], drawn)
                del drawn
            # Large images are not in memory while the next ones are read.
            del image
            yield index, summary(detections, self._predictor, threshold)

    def videos(self, indices: Iterable[int]) -> Iterator[tuple[int, str]]:
        """Yield the index of each video that can be read, and how many frames it has, in words."""
        for index in indices:
            try:
                count = self._video(index)
            except InputError as error:
                self._skip(index, error)
            else:
                yield index, counted(count, "frame")

    def _video(self, index: int) -> int:
        """Predict a video's frames; after an error or an interruption its picture ends there."""
        frames = VideoFrames(self._files[index])
        picture = None if self._pictures is None else self._pictures[index]
        done = 0
        with contextlib.ExitStack() as open_files:
            video = None
            if picture is not None:
                writer = VideoWriter(picture, frames.frames_per_second)
                video = open_files.enter_context(writer)
            try:
                for frame, detections in predict_frames(
                    self._predictor, frames, self._args.batch_size
                ):
                    with hold_interrupts():
                        self._add(index, frame, detections, video)
                        done += 1
            except (KeyboardInterrupt, InputError) as error:
                if video is not None and done:
                    with hold_interrupts():
                        video.finish()
                    ends = f"{picture} ends after {counted(done, 'frame')}"
                    error.args = ("; ".join(filter(None, [str(error), ends])),)
                raise
            if video is not None:
                with hold_interrupts():
                    video.finish()
        self.incomplete |= say_after(frames)
        return done

    def _add(
        self, index: int, frame: Frame, detections: Detections, video: VideoWriter | None
    ) -> None:
        if self._records is not None:
            self._records.add(self._names[index], detections, frame_fields(frame))
        if video is not None:
            threshold, font = self._args.confidence_threshold, self._args.font
            video.write(draw(frame.image, detections, self._predictor, threshold, font))


def _profile(
    args: argparse.Namespace,
    predictor: Predictor,
    files: Sequence[Path],
    indices: Sequence[int],
    proposals: Sequence[np.ndarray] | None,
    pictures: Sequence[Path] | None,
) -> None:
    """Rerun the first images under the profiler, and print the table."""
    from tfdetect.inference.profile import format_table, profile, python_scope

    size = min(args.batch_size, len(indices))
    # Whole batches: the time of one is compared with that of another.
    batches = [indices[start : start + size] for start in range(0, len(indices) - size + 1, size)]

    def run(number: int) -> None:
        batch = batches[number % len(batches)]
        with python_scope("decode"):
            images = [read_image(files[index]) for index in batch]
        given = None if proposals is None else [proposals[index] for index in batch]
        found = predictor.predict_batch(images, given)
        if pictures is not None:
            with python_scope("draw"):
                for index, image, detections in zip(batch, images, found, strict=True):
                    drawn = draw(image, detections, predictor, args.confidence_threshold, args.font)
                    write_image(pictures[index], drawn)

    times = profile(Path(args.profile), run, _PROFILED_BATCHES)
    print(format_table(times, size))
    print(f"trace: tensorboard --logdir {args.profile}")


def _record_names(files: Sequence[Path]) -> list[str]:
    """A unique name for each file in --json: its name, else its path.

    The path is then every file's, from the folder that they have in common.
    """
    if len({path.name for path in files}) == len(files):
        names = [path.name for path in files]
    else:
        absolute = [os.path.abspath(path) for path in files]
        common = os.path.commonpath([os.path.dirname(path) for path in absolute])
        names = [os.path.relpath(path, common) for path in absolute]
    # The same in every locale.
    return [os.fsencode(name).decode("utf-8", "surrogateescape") for name in names]


def _picture_paths(files: Sequence[Path], folder: Path) -> list[Path]:
    """A picture's path for each file, all different and none of them an input."""
    inputs = {path.resolve() for path in files}
    taken: set[Path] = set()
    result = []
    for path in files:
        kept, other = (CODECS, ".mp4") if is_video(path) else ((".jpg", ".jpeg", ".png"), ".png")
        suffix = path.suffix if path.suffix.lower() in kept else other
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


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser(
        "predict",
        "Detect objects in images and videos with a converted model.",
        (
            "--model models/mask_rcnn --input photos/ --output pictures/",
            "--model models/mask_rcnn --input 'photos/*.jpg' --json found.json \\\n"
            "      --opts MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.3",
        ),
    )
    files = parser.group(FILES)
    files.add_argument(
        "--input",
        nargs="+",
        metavar="PATH",
        help="images, videos, folders of them, or glob patterns",
    )
    files.add_argument("--output", metavar="DIR", help="folder for the pictures or the results")
    add_model_arguments(parser)
    add_drawing_arguments(
        parser,
        "draw and count detections from this score on (default 0.5); what a panoptic model "
        "combines is in its configuration, MODEL.PANOPTIC_FPN.COMBINE",
    )
    add_evaluation_arguments(parser, "--evaluate")
    files.add_argument(
        "--profile",
        metavar="DIR",
        help="afterwards run the first batches again, ten in all, print the time of each stage, "
        "and write TensorFlow's trace of them to this folder for TensorBoard",
    )
    args = parse_with_opts(parser, arguments)
    if args.evaluate is not None:
        if args.output is None:
            parser.error("--evaluate needs --output")
        if args.input is not None:
            parser.error("--evaluate takes its images from --images, not --input")
        if args.profile is not None:
            parser.error("--profile works with --input, not --evaluate")
    elif args.input is None:
        parser.error("give --input, or --evaluate")
    elif args.output is None and args.json is None and args.profile is None:
        parser.error("give --output for pictures, --json for numbers, --profile, or several")
    return args
