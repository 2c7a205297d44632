"""Every key of Detectron2's configuration with its default value.

The names, the nesting, the types and the values are Detectron2's (`detectron2.config.get_cfg`),
so that its YAML files, which state only what differs from them, mean the same here. Keys that no
model of this project reads (`CUDNN_BENCHMARK`, `GLOBAL.HACK`, ...) are kept: the complete
`config.yaml` that Detectron2's trainer writes has them. `tfdetect.config.keys.OWN_KEYS` are this
project's.
"""

from __future__ import annotations

from typing import Any

from tfdetect.config.defaults.data import DATALOADER, DATASETS, INPUT
from tfdetect.config.defaults.model import MODEL
from tfdetect.config.defaults.training import SOLVER, TEST, TRAIN

DEFAULTS: dict[str, Any] = {
    # Detectron2 counts changes of the schema here; files of version 1 precede its release.
    "VERSION": 2,
    "OUTPUT_DIR": "./output",
    "SEED": -1,
    "CUDNN_BENCHMARK": False,
    "FLOAT32_PRECISION": "",
    "VIS_PERIOD": 0,
    "MODEL": MODEL,
    "INPUT": INPUT,
    "DATASETS": DATASETS,
    "DATALOADER": DATALOADER,
    "SOLVER": SOLVER,
    "TEST": TEST,
    "TRAIN": TRAIN,
    # Detectron2's `build_tracker_head` reads this section, which its `get_cfg` lacks.
    "TRACKER_HEADS": {
        "TRACKER_NAME": "BBoxIOUTracker",
        # Pixels; 0: those of the frames.
        "VIDEO_HEIGHT": 0,
        "VIDEO_WIDTH": 0,
        "MAX_NUM_INSTANCES": 200,
        # Frames.
        "MAX_LOST_FRAME_COUNT": 0,
        # A fraction of the video's width and height.
        "MIN_BOX_REL_DIM": 0.02,
        "MIN_INSTANCE_PERIOD": 1,
        "TRACK_IOU_THRESHOLD": 0.5,
        # This project's own: arguments of `trackers.ByteTrackTracker`, with its defaults.
        "BYTETRACK": {
            # Frames at 30 per second.
            "LOST_TRACK_BUFFER": 30,
            # 0: that of the video of `tfdetect track`, else 30.
            "FRAME_RATE": 0.0,
            "TRACK_ACTIVATION_THRESHOLD": 0.7,
            "MINIMUM_CONSECUTIVE_FRAMES": 2,
            "MINIMUM_IOU_THRESHOLD": 0.1,
            "HIGH_CONF_DET_THRESHOLD": 0.6,
        },
    },
    "GLOBAL": {
        "HACK": 1.0,
    },
}
