"""A training step, on one device or on all replicas of a strategy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.norm import batch_norms_that_train, collected_moments
from tfdetect.modeling.preprocess import normalize_batch
from tfdetect.modeling.structures import Proposals, Targets
from tfdetect.ops.backend import Backend
from tfdetect.training.optimizer import Gradients, build_optimizer, gradient_clipping
from tfdetect.training.precision import LossScale, compute_dtype
from tfdetect.training.schedule import learning_rate

Batch = Mapping[str, tf.Tensor]


class Trainer:
    """Takes steps of training with a model.

    Losses and gradients are means over the replicas, as under PyTorch's DistributedDataParallel,
    and over SOLVER.ACCUMULATION_STEPS parts of each replica's images.

    Attributes:
        optimizer: SOLVER.OPTIMIZER, with its state.
        state: what a checkpoint needs in addition to the model's variables.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: Any,
        parameters: Sequence[tf.Variable],
        element_spec: Mapping[str, tf.TensorSpec],
        *,
        seed: int,
        strategy: tf.distribute.Strategy | None = None,
        local_replicas: int = 1,
        backend: Backend | None = None,
    ):
        """Create the variables of training.

        Args:
            cfg: SOLVER and MODEL's PIXEL_MEAN and PIXEL_STD.
            model: has `size_divisibility` and `losses(images, image_sizes, targets, seed)`, with
                `proposals` for one that takes them, which returns scalars by name; created within
                the strategy's scope. May have `training_state`, see `Detector`.
            parameters: its variables that are trained.
            element_spec: of the batches of `training_dataset`, this worker's part of them.
            seed: what the model chooses at random in an image depends on it, on the iteration, and
                on the number of the image in its batch.
            strategy: replicas that share the work; None for one device.
            local_replicas: how many of them this worker has.
            backend: of a replica; None for this machine's, `Backend.for_device()`.

        Raises:
            InputError: SOLVER has a value that is not supported, or SOLVER.IMS_PER_BATCH does not
                divide into the parts that replicas go through.
        """
        self._cfg = cfg
        self._model = model
        self._parameters = list(parameters)
        self._backend = backend or Backend.for_device()
        self._strategy = strategy or tf.distribute.get_strategy()
        self._local_replicas = local_replicas
        self._parts = cfg.SOLVER.ACCUMULATION_STEPS
        self._seed = tf.constant(seed, tf.int64)
        self._dtype = compute_dtype(cfg)
        self._clip = gradient_clipping(cfg)
        images = element_spec["image"].shape[0]
        if self._parts < 1 or images % (local_replicas * self._parts):
            raise InputError(
                f"SOLVER.IMS_PER_BATCH: {cfg.SOLVER.IMS_PER_BATCH} images cannot be divided into "
                f"{self._strategy.num_replicas_in_sync} replicas with "
                f"SOLVER.ACCUMULATION_STEPS {self._parts} each"
            )
        self._part_size = images // (local_replicas * self._parts)
        learning_rate(cfg, 0)  # a schedule that is not supported is rejected here
        with self._strategy.scope():
            self.optimizer = build_optimizer(cfg, model, self._parameters)
            self._loss_scale = LossScale()
        self._scales_loss = self._dtype == tf.float16
        self.state = tf.train.Checkpoint(
            loss_scale=self._loss_scale,
            **self.optimizer.state,
            **getattr(model, "training_state", {}),
        )
        scalars = tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.float64)
        self._step = tf.function(
            self._all_replicas, input_signature=[dict(element_spec), *scalars], autograph=False
        )
        self._moments = tf.function(
            self._moments_of_all_replicas,
            input_signature=[dict(element_spec), scalars[0]],
            autograph=False,
        )

    def __call__(self, batch: Batch, iteration: int) -> dict[str, float]:
        """Take the step of an iteration.

        Args:
            batch: this worker's part of batch `iteration`, as `training_dataset` gives it.
            iteration: 0 for the first.

        Returns:
            The losses by name, of the parameters as they were before the step.
        """
        rate = tf.constant(learning_rate(self._cfg, iteration), tf.float64)
        losses = self._step(dict(batch), tf.constant(iteration, tf.int64), rate)
        return {name: float(loss) for name, loss in losses.items()}

    def batch_moments(self, batch: Batch, iteration: int) -> list[np.ndarray]:
        """The moments that batch norms see in a batch; nothing is changed.

        Args:
            batch, iteration: as for a step.

        Returns:
            For each of `batch_norms_that_train` float64 [3, channels] of the whole global batch:
            the number of elements (0 where the layer was not used), their sum, that of squares.
        """
        moments = self._moments(dict(batch), tf.constant(iteration, tf.int64))
        return [found.numpy() for found in moments]

    def _moments_of_all_replicas(self, batch: Batch, iteration: tf.Tensor) -> list[tf.Tensor]:
        observe = self._backend.active()(self._observe)
        moments = self._strategy.run(observe, args=(batch, iteration))
        total = tf.distribute.ReduceOp.SUM
        return [self._strategy.reduce(total, found, axis=None) for found in moments]

    def _all_replicas(
        self, batch: Batch, iteration: tf.Tensor, rate: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        # Within each replica, which is traced in a thread of its own.
        one_replica = self._backend.active()(self._one_replica)
        losses = self._strategy.run(one_replica, args=(batch, iteration, rate))
        mean = tf.distribute.ReduceOp.MEAN
        return {name: self._strategy.reduce(mean, loss, axis=None) for name, loss in losses.items()}

    def _one_replica(
        self, batch: Batch, iteration: tf.Tensor, rate: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        losses: list[dict[str, tf.Tensor]] = []
        gradients: list[Gradients] = []
        for part in range(self._parts):
            # Sequentially, so that they need the memory of one.
            before = [g for g in gradients[-1] if g is not None] if gradients else []
            with tf.control_dependencies(before):
                part_losses, part_gradients = self._differentiate(
                    *self._part(part, batch, iteration)
                )
                losses.append(part_losses)
                gradients.append(part_gradients)
        mean_gradients = [_mean(of_parts) for of_parts in zip(*gradients, strict=True)]
        self._apply(tf.distribute.get_replica_context(), mean_gradients, rate)
        return {name: _mean([found[name] for found in losses]) for name in losses[0]}

    def _observe(self, batch: Batch, iteration: tf.Tensor) -> list[tf.Tensor]:
        with collected_moments() as moments:
            for part in range(self._parts):
                self._losses(*self._part(part, batch, iteration))
        return [
            tf.add_n(moments.get(layer, [tf.zeros([3, *layer.running_mean.shape], tf.float64)]))
            for layer in batch_norms_that_train(self._model)
        ]

    def _part(self, part: int, batch: Batch, iteration: tf.Tensor) -> tuple[Batch, tf.Tensor]:
        """One of the parts that this replica goes through: images, and the seed of the first."""
        context = tf.distribute.get_replica_context()
        replica = tf.get_static_value(context.replica_id_in_sync_group)
        here = (replica % self._local_replicas * self._parts + part) * self._part_size
        images = {name: value[here : here + self._part_size] for name, value in batch.items()}
        # Which image of the whole training it is: the same on however many replicas.
        number = iteration * self._cfg.SOLVER.IMS_PER_BATCH
        number += (replica * self._parts + part) * self._part_size
        return images, tf.stack([self._seed, number])

    def _losses(self, batch: Batch, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        images = normalize_batch(
            batch["image"],
            batch["image_size"],
            self._cfg.MODEL.PIXEL_MEAN,
            self._cfg.MODEL.PIXEL_STD,
            self._model.size_divisibility,
        )
        targets = Targets(
            **{name: value for name, value in batch.items() if name in Targets._fields}
        )
        images = tf.cast(images, self._dtype)
        given = {}
        if "proposal_boxes" in batch:
            given["proposals"] = Proposals(batch["proposal_boxes"], batch["num_proposals"])
        return self._model.losses(images, batch["image_size"], targets, seed, **given)

    def _differentiate(
        self, batch: Batch, seed: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], Gradients]:
        """The losses of some images, and the gradients of their sum (times the loss scale)."""
        with tf.GradientTape() as tape:
            losses = self._losses(batch, seed)
            total = tf.add_n([tf.cast(loss, tf.float32) for loss in losses.values()])
            if self._scales_loss:
                total *= self._loss_scale.scale
        gradients = tape.gradient(total, self._parameters)
        return losses, [g if g is None else tf.convert_to_tensor(g) for g in gradients]

    def _apply(
        self, context: tf.distribute.ReplicaContext, gradients: Gradients, rate: tf.Tensor
    ) -> None:
        known = [index for index, gradient in enumerate(gradients) if gradient is not None]
        if context.num_replicas_in_sync > 1:
            mean = tf.distribute.ReduceOp.MEAN
            reduced = context.all_reduce(mean, [gradients[index] for index in known])
            for index, gradient in zip(known, reduced, strict=True):
                gradients[index] = gradient
        usable = None
        if self._scales_loss:
            gradients, usable = self._loss_scale.unscale(gradients)
        self.optimizer.apply_gradients(self._clip(gradients), rate, usable)
        if self._scales_loss:
            self._loss_scale.update(usable)


def _mean(values: Sequence[tf.Tensor | None]) -> tf.Tensor | None:
    if values[0] is None or len(values) == 1:
        return values[0]
    return tf.add_n(values) / len(values)
