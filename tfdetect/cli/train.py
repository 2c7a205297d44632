"""Train a detector."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from tfdetect.cli.arguments import CommandParser, parse_with_opts
from tfdetect.cli.heap import keep_freed_memory
from tfdetect.cli.imports import add_import_option, import_user_modules
from tfdetect.cli.quiet import import_tensorflow
from tfdetect.config import load_config
from tfdetect.config.ignored import ignored_in_prediction
from tfdetect.data.registry import register_dataset, register_separated_dataset
from tfdetect.training import train
from tfdetect.training.preparation import prepare, scale_to_replicas

_logger = logging.getLogger("tfdetect.train")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, or evaluate.

    Returns:
        0; 1 if metrics are not TEST.EXPECTED_RESULTS, or an evaluation during training failed.
    """
    args = _parse(arguments)
    import_user_modules(args.imports)
    cfg = load_config(args.config_file, args.opts, "command line")
    for registered in args.register:
        register_dataset(*registered)
    for registered in args.register_separated:
        register_separated_dataset(*registered)
    preparation = prepare(cfg, resume=args.resume, eval_only=args.eval_only)
    import_tensorflow(cfg.FLOAT32_PRECISION)
    from tfdetect.training.devices import set_up_devices
    from tfdetect.training.events import logging_to
    from tfdetect.training.run import evaluate

    keep_freed_memory()
    # What it logs about how processes start and end is for its direct users.
    logging.getLogger("tensorpack").setLevel(logging.ERROR)
    workers = set_up_devices(args.num_gpus, cfg.MODEL.DEVICE)
    if args.eval_only:
        cfg = scale_to_replicas(cfg, workers.count * workers.replicas)
        with logging_to(Path(cfg.OUTPUT_DIR) if workers.index == 0 else None):
            for line in ignored_in_prediction(cfg):
                _logger.warning(line)
            metadata, test_data = preparation.metadata, preparation.test_data
            return 0 if evaluate(cfg, metadata, workers, test_data, resume=args.resume) else 1
    try:
        expected = train(cfg, resume=args.resume, workers=workers, preparation=preparation)
    except KeyboardInterrupt as interrupt:
        from tfdetect.training.checkpoints import what_is_kept

        interrupt.args = (what_is_kept(Path(cfg.OUTPUT_DIR)),)
        raise
    return 0 if expected else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser(
        "train",
        "Train a detector, step for step as Detectron2 does.",
        (
            "--config-file COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x \\\n"
            "      --register mine annotations.json images/ DATASETS.TRAIN \"('mine',)\" \\\n"
            "      DATASETS.TEST \"('mine',)\" MODEL.ROI_HEADS.NUM_CLASSES 4 \\\n"
            "      MODEL.WEIGHTS models/mask_rcnn OUTPUT_DIR output/mine",
        ),
        "Several machines: set TF_CONFIG as for tf.distribute's MultiWorkerMirroredStrategy, with "
        "one OUTPUT_DIR that all of them see.",
    )
    parser.add_argument(
        "--config-file",
        required=True,
        metavar="YAML",
        help="the model and its training: a file, or a model of the zoo such as "
        "COCO-Detection/faster_rcnn_R_50_FPN_1x",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue from the last checkpoint in OUTPUT_DIR"
    )
    parser.add_argument(
        "--eval-only",
        action="store_true",
        help="only evaluate MODEL.WEIGHTS (with --resume: the last checkpoint) on DATASETS.TEST",
    )
    parser.add_argument(
        "--num-gpus",
        type=int,
        metavar="N",
        help="GPUs of this machine (default: one, or the CPU if there is none)",
    )
    parser.add_argument(
        "--register",
        nargs=3,
        action="append",
        default=[],
        metavar=("NAME", "ANNOTATIONS", "IMAGES_DIR"),
        help="make a data set known under NAME, for DATASETS.TRAIN and DATASETS.TEST: JSON of COCO "
        "or COCO panoptic, YOLO's data.yaml or labels, Pascal VOC's lists or XML files, labelme's "
        "JSON files, DOTA's text files, or a folder of semantic masks",
    )
    parser.add_argument(
        "--register-separated",
        nargs=5,
        action="append",
        default=[],
        metavar=("NAME", "INSTANCES", "PANOPTIC", "MASKS_DIR", "IMAGES_DIR"),
        help="the same for panoptic segmentation: COCO's JSON of objects, that of COCO panoptic "
        "('' for none), and semantic masks ('' for those of COCO panoptic)",
    )
    add_import_option(parser)
    parser.add_argument(
        "opts",
        nargs="*",
        metavar="KEY VALUE",
        help="configuration keys to change",
    )
    return parse_with_opts(parser, arguments)
