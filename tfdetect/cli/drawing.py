"""What the commands that draw have in common: their options, and what they show of detections.

What draws is imported when something is drawn: its libraries take longer to load than what is wrong
with the arguments takes to be said.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from tfdetect.cli.arguments import FILES, CommandParser
from tfdetect.detections import Detections
from tfdetect.visualize.fonts import missing_characters

if TYPE_CHECKING:
    from tfdetect.inference.predictor import Predictor


def add_drawing_arguments(parser: CommandParser, threshold: str) -> None:
    """The options of the commands that draw; `threshold` is the help of the score's."""
    group = parser.group(FILES)
    group.add_argument(
        "--confidence-threshold", type=unit_interval, default=0.5, metavar="SCORE", help=threshold
    )
    group.add_argument(
        "--font",
        metavar="FILE",
        help="TrueType or OpenType font of the labels, for scripts that DejaVu Sans, the default, "
        "does not have",
    )


def unit_interval(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def check_font(predictor: Predictor, font: str | None) -> None:
    """Report the characters of the names that the font does not have."""
    from tfdetect.visualize.pictures import label_name

    names = [*predictor.class_names, *predictor.stuff_class_names]
    shown = [label_name(names, index) for index in range(len(names))]
    if missing := missing_characters(shown, font):
        more = "..." if len(missing) > 10 else ""
        print(
            f"note: the label font lacks {missing[:10]}{more}, which class names "
            "use; give another with --font FILE",
            file=sys.stderr,
        )


def draw(
    image: np.ndarray,
    detections: Detections,
    predictor: Predictor,
    threshold: float,
    font: str | None,
) -> np.ndarray:
    """Draw the model's results: segments, pixel classes, or detections."""
    from tfdetect.visualize.pictures import draw_detections, draw_panoptic, draw_semantic

    if detections.panoptic is not None:
        return draw_panoptic(
            image,
            detections.panoptic,
            predictor.class_names,
            predictor.stuff_class_names,
            predictor.stuff_colors,
            font,
        )
    if detections.sem_seg is not None:
        names, colors = predictor.stuff_class_names, predictor.stuff_colors
        return draw_semantic(image, detections.sem_seg, names, colors, font)
    return draw_detections(
        image,
        detections,
        predictor.class_names,
        predictor.keypoint_connections,
        threshold,
        predictor.keypoint_classes,
        font,
    )


def summary(detections: Detections, predictor: Predictor, threshold: float) -> str:
    """Such as "2 person, 1 circle", and the stuff by descending area: "2 person, sky, grass"."""
    from tfdetect.visualize.pictures import label_name

    shown = detections.classes[detections.scores >= threshold].tolist()
    areas: dict[int, int] = {}
    if detections.panoptic is not None:
        segments = detections.panoptic.segments
        shown = [segment.category_id for segment in segments if segment.isthing]
        areas = {s.category_id: s.area for s in segments if not s.isthing}
    elif detections.sem_seg is not None:
        labels, pixels = np.unique(detections.sem_seg, return_counts=True)
        areas = dict(zip(labels.tolist(), pixels.tolist(), strict=True))
    counts = Counter(label_name(predictor.class_names, label) for label in shown)
    parts = [f"{count} {name}" for name, count in counts.most_common()]
    largest_first = sorted(areas, key=areas.__getitem__, reverse=True)
    parts += [label_name(predictor.stuff_class_names, label) for label in largest_first]
    return ", ".join(parts) or f"nothing above {threshold:g}"
