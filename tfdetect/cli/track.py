"""Track the objects in a video."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm
from yacs.config import CfgNode

from tfdetect.checkpoint.description import CONFIG, read_description
from tfdetect.cli.arguments import FILES, MODEL, CommandParser, parse_with_opts
from tfdetect.cli.drawing import add_drawing_arguments, check_font
from tfdetect.cli.imports import import_user_modules
from tfdetect.cli.model import add_model_arguments, check_configuration, load_predictor
from tfdetect.cli.prediction_file import PredictionFile
from tfdetect.cli.video import counted, frame_fields, predict_frames, say_after, silence_ffmpeg
from tfdetect.config.capabilities import capabilities
from tfdetect.config.ignored import ignored_in_tracking
from tfdetect.config.loader import load_config
from tfdetect.data.video import FolderFrames, Frame, Frames, VideoFrames
from tfdetect.data.video_writer import CODECS, VideoWriter, check_video_output
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.files import check_writable_file
from tfdetect.interrupts import hold_interrupts
from tfdetect.tracking.mot_file import MotFile
from tfdetect.tracking.registry import TRACKER_HEADS, Tracker, build_tracker_head
from tfdetect.tracking.tracks import Tracks
from tfdetect.visualize.fonts import load_font
from tfdetect.visualize.pictures import draw_detections

if TYPE_CHECKING:
    from tfdetect.inference.predictor import Predictor

_SECTION = "TRACKER_HEADS"

_THRESHOLDS = {"bytetrack": 0.1}
"""Of scores, by tracker, where it is not 0.5: ByteTrack is made for low ones."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Track. Returns 1 if some of the frames could not be read, else 0."""
    args = _parse(arguments)
    silence_ffmpeg()
    import_user_modules(args.imports)
    cfg = _configuration(args)
    _check_outputs(args)
    unread: list[InputError] = []
    frames = _open(args.input, unread)
    rate = args.fps or frames.frames_per_second
    for line in ignored_in_tracking(cfg):
        print(f"note: {line}", file=sys.stderr)
    cfg.TRACKER_HEADS.BYTETRACK.FRAME_RATE = cfg.TRACKER_HEADS.BYTETRACK.FRAME_RATE or rate
    tracker = build_tracker_head(cfg)
    precision = check_configuration(args)
    predictor = load_predictor(args, precision)
    if args.output is not None:
        check_font(predictor, args.font)
    print(_track(args, predictor, tracker, frames, rate))
    incomplete = say_after(frames)
    return 1 if unread or incomplete else 0


def _open(name: str, unread: list[InputError]) -> Frames:
    """The frames of --input; `unread` collects the errors of images, which are printed."""

    def skip(error: InputError) -> None:
        unread.append(error)
        print(f"error: {error}", file=sys.stderr)

    return FolderFrames(name, skip) if os.path.isdir(name) else VideoFrames(name)


def _configuration(args: argparse.Namespace) -> CfgNode:
    """The model's configuration with the tracker's settings; leaves in `args.opts` the others.

    Raises:
        InputError: a setting or the tracker's name is not known, or the model gives no boxes.
    """
    read_description(args.model)
    cfg = load_config(Path(args.model) / CONFIG, args.opts, "--opts")
    pairs = list(zip(args.opts[::2], args.opts[1::2], strict=True))
    args.opts = [word for pair in pairs if not pair[0].startswith(_SECTION) for word in pair]
    cfg = cfg.clone()
    cfg.defrost()
    if args.tracker is not None:
        TRACKER_HEADS.get("--tracker", args.tracker)
        cfg.TRACKER_HEADS.TRACKER_NAME = args.tracker
    if args.confidence_threshold is None:
        args.confidence_threshold = _THRESHOLDS.get(cfg.TRACKER_HEADS.TRACKER_NAME, 0.5)
    able = capabilities(cfg)
    if able.takes_proposals:
        raise InputError(f"{args.model}: needs proposals of each image; give a model with an RPN")
    if able.rotated:
        raise InputError(f"{args.model}: has rotated boxes, which cannot be tracked; give another")
    if not able.has_boxes and not able.proposes:
        raise InputError(f"{args.model}: gives no boxes, which is what is tracked; give a detector")
    return cfg


def _check_outputs(args: argparse.Namespace) -> None:
    """Raise InputError if an output cannot be written, or is another output or the input."""
    if args.output is not None:
        check_video_output(args.output)
    taken = {os.path.realpath(args.input): "--input"}
    for option in ("output", "json", "mot"):
        path = getattr(args, option)
        if path is None:
            continue
        check_writable_file(path)
        real = os.path.realpath(path)
        if real in taken:
            raise InputError(f"--{option} {path}: is {taken[real]}, too; give another file")
        taken[real] = f"--{option}"
    if args.font is not None:
        load_font(args.font, 20)


class _Outputs:
    """The files of a run, which appear together when they are finished.

    Args:
        args: of the command.
        predictor: the model, for the names in pictures.
        frames_per_second: of the video that is written.
        open_files: closes them, and removes what is not finished.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        predictor: Predictor,
        frames_per_second: float,
        open_files: contextlib.ExitStack,
    ):
        self._predictor = predictor
        self._font = args.font
        self._video = self._records = self._lines = None
        if args.output is not None:
            self._video = open_files.enter_context(VideoWriter(args.output, frames_per_second))
        if args.json is not None:
            self._records = open_files.enter_context(PredictionFile(args.json))
        if args.mot is not None:
            self._lines = open_files.enter_context(MotFile(args.mot))
        self.names = ", ".join(path for path in (args.output, args.json, args.mot) if path)

    def add(self, frame: Frame, tracks: Tracks) -> None:
        """Write a frame to all of them.

        Raises:
            InputError: one of them cannot be written.
        """
        if self._records is not None:
            more: dict[str, Any] = {
                **frame_fields(frame),
                "ID": tracks.ids.tolist(),
                "ID_period": tracks.periods.tolist(),
                "lost_frame_count": tracks.lost_frame_counts.tolist(),
            }
            self._records.add(frame.file_name, tracks.detections, more)
        if self._lines is not None:
            self._lines.add(frame.number, tracks)
        if self._video is not None:
            self._video.write(self._draw(frame, tracks.found()))

    def finish(self) -> None:
        """Give the files their names.

        Raises:
            InputError: one of them cannot be written.
        """
        with hold_interrupts():
            for file in (self._video, self._records, self._lines):
                if file is not None:
                    file.finish()

    def _draw(self, frame: Frame, found: Tracks) -> np.ndarray:
        return draw_detections(
            frame.image,
            found.detections,
            self._predictor.class_names,
            self._predictor.keypoint_connections,
            -math.inf,
            self._predictor.keypoint_classes,
            self._font,
            ids=found.ids,
        )


def _track(
    args: argparse.Namespace,
    predictor: Predictor,
    tracker: Tracker,
    frames: Frames,
    frames_per_second: float,
) -> str:
    """Write the outputs. After an error or an interruption they have the frames until then.

    Returns:
        A line that says what was done.

    Raises:
        InputError: no frame can be read, their size changes, or an output cannot be written.
    """
    done = objects = 0
    with contextlib.ExitStack() as open_files:
        outputs = _Outputs(args, predictor, frames_per_second, open_files)
        predicted = predict_frames(predictor, frames, args.batch_size)
        try:
            for frame, detections in tqdm(
                predicted, "Tracking", total=frames.count, unit="frame", disable=None
            ):
                try:
                    tracks = tracker.update(_tracked(detections, args.confidence_threshold))
                except InputError as error:
                    raise InputError(f"{frames.path}: frame {frame.number}: {error}") from error
                with hold_interrupts():
                    outputs.add(frame, tracks)
                    done += 1
                objects = max(objects, int(tracks.ids.max(initial=-1)) + 1)
            if not done:
                raise InputError(f"{frames.path}: none of {frames.count} images is usable")
        except (KeyboardInterrupt, InputError) as error:
            if done:
                outputs.finish()
            written = f"what is written ends after {counted(done, 'frame')}"
            if not done:
                written = "nothing is written"
            error.args = ("; ".join(filter(None, [str(error), written])),)
            raise
        outputs.finish()
    what = f"{counted(done, 'frame')}, {counted(objects, 'object')}"
    return f"{frames.path}: {what} -> {outputs.names}"


def _tracked(detections: Detections, threshold: float) -> Detections:
    """The detections that a tracker is given; without segmentations, which no output has."""
    detections = detections.replace(sem_seg=None, panoptic=None)
    return detections.select(detections.scores >= threshold)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser(
        "track",
        "Track the objects in a video with a converted model. --opts takes the keys of "
        "TRACKER_HEADS too (docs/tracking.md).",
        ("--model models/mask_rcnn --input street.mp4 --output tracked.mp4 --mot tracks.txt",),
    )
    files = parser.group(FILES)
    add_model_arguments(parser, proposals=False)
    files.add_argument(
        "--input",
        required=True,
        metavar="PATH",
        help="a video, or a folder of images, which are the frames in the order of their names",
    )
    files.add_argument(
        "--output",
        metavar="FILE",
        help=f"the video with boxes, masks and ids: a file that ends in {', '.join(CODECS)}",
    )
    files.add_argument("--mot", metavar="FILE", help="write the tracks as MOTChallenge's text")
    parser.group(MODEL).add_argument(
        "--tracker",
        metavar="NAME",
        help="BBoxIOUTracker (default), VanillaHungarianBBoxIOUTracker, "
        "IOUWeightedHungarianBBoxIOUTracker, bytetrack, or a registered one",
    )
    files.add_argument(
        "--fps",
        type=_rate,
        metavar="N",
        help="frames per second of --output (default: the video's; 30 for images)",
    )
    add_drawing_arguments(
        parser, "track detections from this score on (default 0.5; 0.1 for bytetrack)"
    )
    parser.set_defaults(confidence_threshold=None)
    args = parse_with_opts(parser, arguments)
    if args.output is None and args.json is None and args.mot is None:
        parser.error("give --output for a video, --json or --mot for numbers, or several")
    return args


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1000")
    return value
