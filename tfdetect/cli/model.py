"""The model of a command: its options, what is checked before it is loaded, and loading it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from tfdetect.cli.arguments import FILES, MODEL, CommandParser, add_opts
from tfdetect.cli.heap import keep_freed_memory
from tfdetect.cli.imports import add_import_option
from tfdetect.cli.quiet import import_tensorflow
from tfdetect.config.capabilities import capabilities
from tfdetect.config.checks import check_model
from tfdetect.config.ignored import ignored_in_prediction
from tfdetect.config.prediction import load_prediction_config
from tfdetect.config.tta import check_tta, describe_tta
from tfdetect.errors import InputError
from tfdetect.inference.slices import Slices, check_slices
from tfdetect.modeling.registries import check_names

if TYPE_CHECKING:
    from tfdetect.inference.predictor import Predictor


_OVERLAP = 0.2
_MOST_PIXELS = 2**30


def add_model_arguments(
    parser: CommandParser,
    *,
    proposals: bool = True,
    json: bool = True,
    batch_size: str = "--batch-size",
    default_batch_size: int = 1,
) -> None:
    """The options of the commands that predict which say which model, and how.

    Args:
        parser: of the command.
        proposals: whether it takes models that need them.
        json: whether it writes a JSON file.
        batch_size: the option that says how many images go through the network together.
        default_batch_size: its default.
    """
    group = parser.group(MODEL)
    group.add_argument(
        "--model", required=True, metavar="DIR", help="the directory that tfdetect convert wrote"
    )
    if json:
        parser.group(FILES).add_argument(
            "--json",
            metavar="FILE",
            help="write everything that the model finds to this file (panoptic maps next to it)",
        )
    group.add_argument(
        batch_size,
        dest="batch_size",
        type=positive,
        default=default_batch_size,
        metavar="N",
        help=f"images that go through the network together (default {default_batch_size}); with "
        "--slice slices, of one image after the other",
    )
    group.add_argument(
        "--device", metavar="NAME", help="cpu, gpu or gpu:N (default: as TensorFlow chooses)"
    )
    group.add_argument(
        "--padding",
        choices=("own", "detectron2"),
        default="own",
        help="own: an image's results do not depend on the others of its batch (default); "
        "detectron2: every image sees the padding of all, as in a batch of Detectron2's",
    )
    group.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of weights and features (default float32); boxes and scores are float32. bfloat16 is "
        "faster where the processor multiplies it",
    )
    if proposals:
        group.add_argument(
            "--proposals",
            metavar="FILE",
            help="Detectron2's box_proposals.pkl, for a model with PrecomputedProposals; images "
            "are found in it by their id in the annotations, else by file name",
        )
    else:
        parser.set_defaults(proposals=None)
    group.add_argument(
        "--tta",
        action="store_true",
        help="test-time augmentation, as --opts TEST.AUG.ENABLED True: what is found in several "
        "sizes of each image (TEST.AUG.MIN_SIZES), and in their mirror images (FLIP), is merged",
    )
    group.add_argument(
        "--slice",
        type=positive,
        metavar="PIXELS",
        help="predict larger images in overlapping slices of this size, height and width, and "
        "merge what is found: for many small objects in a large image, in bounded memory",
    )
    group.add_argument(
        "--overlap",
        type=float,
        metavar="PART",
        help="of the slices, as a part of their size (default 0.2)",
    )
    add_import_option(group)
    add_opts(
        group,
        "keys of the model's configuration to change, of those that affect prediction only, such "
        "as MODEL.ROI_HEADS.SCORE_THRESH_TEST or INPUT.MIN_SIZE_TEST",
    )


def check_configuration(args: argparse.Namespace) -> str:
    """Checks on the model's configuration that can run before TensorFlow is loaded.

    Args:
        args: with the options of `add_model_arguments`; --tta becomes a part of its opts. `slices`
            is added to them, and with slices `batch_size` is of these, and 1 of images.

    Returns:
        FLOAT32_PRECISION.
    """
    if args.tta:
        args.opts += ["TEST.AUG.ENABLED", "True"]
    args.slices = _slices(args)
    path = Path(args.model) / "config.yaml"
    if not path.is_file():
        return ""  # `Predictor` says what is missing
    cfg = load_prediction_config(path, args.opts, "--opts")
    check_model(cfg)
    check_names(cfg)
    takes_proposals = capabilities(cfg).takes_proposals
    if takes_proposals and args.proposals is None:
        raise InputError(
            f"{args.model}: its MODEL.PROPOSAL_GENERATOR.NAME is PrecomputedProposals; give those "
            "of the images with --proposals, which tfdetect predict and evaluate have"
        )
    if args.proposals is not None and not takes_proposals:
        raise InputError(f"--proposals: {args.model} generates its own proposals; leave it out")
    if args.slices is not None:
        check_slices(capabilities(cfg))
    if cfg.TEST.AUG.ENABLED:
        check_tta(cfg)
        print(f"note: {describe_tta(cfg)}", file=sys.stderr)
    for line in ignored_in_prediction(cfg):
        if not (takes_proposals and line.startswith("DATASETS.PROPOSAL_FILES_TEST")):
            print(f"note: {line}", file=sys.stderr)
    return cfg.FLOAT32_PRECISION


def _slices(args: argparse.Namespace) -> Slices | None:
    if args.slice is None:
        if args.overlap is not None:
            raise InputError("--overlap: is of slices; give their size with --slice")
        return None
    overlap = _OVERLAP if args.overlap is None else args.overlap
    slices = Slices(args.slice, overlap, args.batch_size)
    args.batch_size = 1
    # Images to be sliced are large; Pillow rejects what has more than twice as many.
    Image.MAX_IMAGE_PIXELS = _MOST_PIXELS
    return slices


def load_predictor(
    args: argparse.Namespace, float32_precision: str, threads: int | None = None
) -> Predictor:
    """Import TensorFlow and load the model.

    Args:
        args: with the options of `add_model_arguments`.
        float32_precision: of `check_configuration`.
        threads: on the CPU; None for one on each core.
    """
    import_tensorflow(float32_precision, threads)
    from tfdetect.inference.predictor import Predictor

    predictor = Predictor(args.model, args.device, args.padding, args.dtype, args.opts, args.slices)
    keep_freed_memory()
    return predictor


def positive(text: str) -> int:
    """An option's value that is a whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value
