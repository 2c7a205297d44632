"""Defaults of SOLVER, TEST and TRAIN: training steps, evaluation, and the loop's hooks."""

from __future__ import annotations

from typing import Any

SOLVER: dict[str, Any] = {
    "LR_SCHEDULER_NAME": "WarmupMultiStepLR",
    "MAX_ITER": 40000,
    "BASE_LR": 0.001,
    "BASE_LR_END": 0.0,
    # This project's own, as what Detectron2's LazyConfigs call them: SGD or AdamW; of AdamW its
    # betas; the factor on the learning rate from each layer of a ViT to the one below; weight
    # decays by the last component of a parameter's name, such as [["pos_embed", 0.0]].
    "OPTIMIZER": "SGD",
    "BETAS": (0.9, 0.999),
    "LAYER_DECAY": 1.0,
    "WEIGHT_DECAY_OVERRIDES": (),
    "MOMENTUM": 0.9,
    "NESTEROV": False,
    "WEIGHT_DECAY": 0.0001,
    # None: WEIGHT_DECAY holds for norms too.
    "WEIGHT_DECAY_NORM": 0.0,
    "GAMMA": 0.1,
    "STEPS": (30000,),
    "NUM_DECAYS": 3,
    "WARMUP_FACTOR": 0.001,
    "WARMUP_ITERS": 1000,
    "WARMUP_METHOD": "linear",
    "RESCALE_INTERVAL": False,
    "CHECKPOINT_PERIOD": 5000,
    # This project's own: the newest checkpoints that are kept; 0 keeps all.
    "CHECKPOINTS_KEPT": 5,
    # This project's own: iterations from one line of metrics.json and of the log to the next.
    "LOG_PERIOD": 20,
    "IMS_PER_BATCH": 16,
    # This project's own: in how many equal parts, one after the other, a device computes its
    # share of a batch. More take less memory; losses and gradients are averaged over them.
    "ACCUMULATION_STEPS": 1,
    # 0: no rescaling of the schedule with the number of workers.
    "REFERENCE_WORLD_SIZE": 0,
    "BIAS_LR_FACTOR": 1.0,
    # None: WEIGHT_DECAY holds for biases too.
    "WEIGHT_DECAY_BIAS": None,
    "CLIP_GRADIENTS": {
        "ENABLED": False,
        # value, norm (of each parameter) or full_model (the norm of all, as DETR's trainer).
        "CLIP_TYPE": "value",
        "CLIP_VALUE": 1.0,
        "NORM_TYPE": 2.0,
    },
    "AMP": {
        "ENABLED": False,
        # This project's own: float16, which is Detectron2's, with loss scaling; or bfloat16.
        "DTYPE": "float16",
    },
}

TEST: dict[str, Any] = {
    "EXPECTED_RESULTS": [],
    "EVAL_PERIOD": 0,
    "KEYPOINT_OKS_SIGMAS": [],
    "DETECTIONS_PER_IMAGE": 100,
    "AUG": {
        "ENABLED": False,
        "MIN_SIZES": (400, 500, 600, 700, 800, 900, 1000, 1100, 1200),
        "MAX_SIZE": 4000,
        "FLIP": True,
    },
    "PRECISE_BN": {
        "ENABLED": False,
        "NUM_ITER": 200,
    },
}

# This project's own: hooks of the training loop.
TRAIN: dict[str, Any] = {
    # Names of registered hooks of the user's (`tfdetect.training.HOOKS`), in order.
    "HOOKS": [],
    # Where metrics go beside metrics.json and TensorBoard: wandb, mlflow.
    "WRITERS": [],
    # Keep the model of the best evaluation by a metric such as bbox/AP; '' keeps none.
    "BEST": {
        "METRIC": "",
        "MODE": "max",
    },
    # End after PATIENCE evaluations in which METRIC did not improve; '' never does.
    "EARLY_STOP": {
        "METRIC": "",
        "MODE": "max",
        "PATIENCE": 5,
    },
    # Average the weights over the iterations; evaluate and save the averages.
    "EMA": {
        "ENABLED": False,
        "DECAY": 0.999,
    },
}
