"""A model with the detectors' interface that trains in no time."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfdetect.config import get_cfg
from tfdetect.layers.activation_checkpoint import activation_checkpoint
from tfdetect.layers.drop_path import drop_path, drop_paths
from tfdetect.layers.norm import BatchNorm, GroupNorm, batch_statistics
from tfdetect.modeling.dense.losses import LossNormalizer
from tfdetect.modeling.replicas import image_seeds
from tfdetect.training.trainer import Trainer


class Toy(tf.Module):
    """Tells the mean of the ground truth's classes from the mean of the image."""

    size_divisibility = 4

    def __init__(self):
        super().__init__()
        start = np.random.default_rng(0).normal(size=[3, 32]).astype(np.float32)
        self.weight = tf.Variable(start)
        self.bias = tf.Variable(tf.zeros([32]))
        self.norm = GroupNorm(32, 4)
        self.unused = tf.Variable(tf.ones([2]))

    def losses(self, images, image_sizes, targets, seed):
        seeds = image_seeds(seed, tf.shape(images)[0])
        noise = tf.map_fn(
            lambda s: tf.random.stateless_normal([32], s), seeds, fn_output_signature=tf.float32
        )
        x = tf.reduce_mean(images, [1, 2]) @ tf.cast(self.weight, images.dtype)
        x = tf.cast(x, tf.float32) * 0.01 + self.bias
        x = self.norm(x[:, None, None, :])[:, 0, 0, :]
        wanted = tf.reduce_mean(tf.cast(targets.gt_classes, tf.float32), 1, keepdims=True)
        return {
            "loss_a": tf.reduce_mean(tf.square(x - wanted)),
            "loss_b": tf.reduce_mean(x * (1 + noise)),
        }


class WithState(Toy):
    """The toy with losses that are divided by a running mean of the number of objects."""

    def __init__(self):
        super().__init__()
        self.normalizer = LossNormalizer(10.0)

    @property
    def training_state(self):
        return {"normalizer": self.normalizer.value}

    def losses(self, images, image_sizes, targets, seed):
        divisor = self.normalizer(tf.size(targets.gt_classes))
        losses = super().losses(images, image_sizes, targets, seed)
        return {name: loss / divisor for name, loss in losses.items()}


class WithBatchNorms(Toy):
    """The toy with a batch norm that sees the pixels, one that is frozen and one of no region."""

    def __init__(self):
        super().__init__()
        self.seen = BatchNorm(3, "BN")
        self.frozen = BatchNorm(3)
        self.no_region = BatchNorm(3, "BN")

    def losses(self, images, image_sizes, targets, seed):
        with batch_statistics():
            images = self.frozen(self.seen(images)) + tf.reduce_sum(self.no_region(images[:0]))
        return super().losses(images, image_sizes, targets, seed)


class WithDropPath(Toy):
    """The toy behind a residual branch that is dropped for some images, and computed twice."""

    def __init__(self):
        super().__init__()
        self.branch = tf.Variable(tf.eye(3))

    def losses(self, images, image_sizes, targets, seed):
        def block(x):
            return x + drop_path(x @ self.branch, 0.5)

        with drop_paths(image_seeds(seed, tf.shape(images)[0])):
            images = activation_checkpoint(block, images)
        return super().losses(images, image_sizes, targets, seed)


def config(**solver):
    cfg = get_cfg()
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.SOLVER.BASE_LR = 0.05
    cfg.SOLVER.WARMUP_ITERS = 3
    for key, value in solver.items():
        cfg.SOLVER[key] = value
    return cfg


SPEC = {
    "record": tf.TensorSpec([4], tf.int64),
    "image": tf.TensorSpec([4, None, None, 3], tf.uint8),
    "image_size": tf.TensorSpec([4, 2], tf.int32),
    "gt_boxes": tf.TensorSpec([4, None, 4]),
    "gt_classes": tf.TensorSpec([4, None], tf.int32),
    "gt_valid": tf.TensorSpec([4, None], tf.bool),
}


def batch(number):
    random = np.random.default_rng(number)
    height, width, objects = random.integers([5, 5, 1], [12, 12, 4])
    sizes = np.stack([random.integers(3, height + 1, 4), random.integers(3, width + 1, 4)], 1)
    return {
        "record": np.arange(4, dtype=np.int64),
        "image": random.integers(0, 256, [4, height, width, 3], np.uint8),
        "image_size": sizes.astype(np.int32),
        "gt_boxes": np.zeros([4, objects, 4], np.float32),
        "gt_classes": random.integers(0, 3, [4, objects], np.int32),
        "gt_valid": np.ones([4, objects], bool),
    }


def trainer(cfg, model=None, **options):
    model = model or Toy()
    return Trainer(cfg, model, model.trainable_variables, SPEC, seed=7, **options), model


def train(cfg, steps=6, **options):
    """The losses of each step, and the model's variables after the last."""
    step, model = trainer(cfg, **options)
    losses = [step(batch(number), number) for number in range(steps)]
    return losses, [variable.numpy() for variable in model.variables]
