"""Normalisation layers, with Detectron2's names and epsilons."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import tensorflow as tf

from tfdetect.config.choices import BATCH_NORMS, NORMS
from tfdetect.errors import InputError
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.ops.backend import current_backend
from tfdetect.ops.batch_norm import batch_norm
from tfdetect.ops.layer_norm import layer_norm

EPSILON = 1e-5
_LN_EPSILON = 1e-6
_GROUPS = 32
_FROZEN = "FrozenBN"
# PyTorch's: the share of a batch in the running statistics.
_MOMENTUM = 0.1

# Set within what is traced: replicas of tf.distribute are traced in threads of their own.
_uses_batches: ContextVar[bool] = ContextVar("tfdetect_batch_statistics", default=False)
_moments: ContextVar[dict[RunningStatistics, list[tf.Tensor]] | None] = ContextVar(
    "tfdetect_moments", default=None
)


@contextlib.contextmanager
def batch_statistics() -> Iterator[None]:
    """A context in which `BatchNorm` normalises by batch statistics and updates its running ones.

    It applies to the thread that enters it: under a strategy, to that replica. FrozenBN is not
    affected.
    """
    token = _uses_batches.set(True)
    try:
        yield
    finally:
        _uses_batches.reset(token)


@contextlib.contextmanager
def collected_moments() -> Iterator[dict[RunningStatistics, list[tf.Tensor]]]:
    """A context in which `BatchNorm` returns the moments of its batches instead of storing them.

    It applies to the thread that enters it, like `batch_statistics`, which enables batch statistics
    in the first place. Nothing else that a training step stores may be stored within it either:
    see `stores_state`.

    Yields:
        By layer, of each batch that it normalised, float64 [3, channels]: the number of elements,
        their sum, and the sum of their squares. Moments of several batches add up.
    """
    moments: dict[RunningStatistics, list[tf.Tensor]] = {}
    token = _moments.set(moments)
    try:
        yield moments
    finally:
        _moments.reset(token)


def stores_state() -> bool:
    """Whether what is computed is a training step, not only observed by `collected_moments`."""
    return _moments.get() is None


class RunningStatistics(tf.Module):
    """Mean and variance of each channel over the training, and normalisation by them or a batch's.

    Variables are `running_mean` and `running_var`, each float32 [channels]. In training the batch's
    variance is biased, the one that goes into `running_var` unbiased, as PyTorch has it; replicas
    store the mean of theirs.

    Args:
        channels: of the input.
        kind: as of `BatchNorm`.
    """

    def __init__(self, channels: int, kind: str):
        super().__init__()
        self._kind = kind
        self._add_parameters(channels)
        # Replicas of BN see different batches; averaging makes the checkpoint match what all of
        # them continue with.
        mean = tf.VariableAggregation.MEAN
        self.running_mean = tf.Variable(tf.zeros([channels]), trainable=False, aggregation=mean)
        self.running_var = tf.Variable(tf.ones([channels]), trainable=False, aggregation=mean)

    def _add_parameters(self, channels: int) -> None:
        """Create what state dicts have before the statistics: nothing."""

    @property
    def trains(self) -> bool:
        """Whether statistics are the batch's within `batch_statistics`."""
        return self._kind != _FROZEN

    @property
    def uses_stored_statistics(self) -> bool:
        """Whether the layer is currently a scale and a shift that do not depend on the input."""
        return not self.trains or not _uses_batches.get()

    def normalize(self, x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        """x: [..., channels], where statistics are the batch's [N, H, W, channels]; scaled by
        float32 `weight` and shifted by `bias`, [channels]."""
        if self.uses_stored_statistics:
            scale, shift = self._scale_and_shift(weight, bias, tf.float32)
            return x * tf.cast(scale, x.dtype) + tf.cast(shift, x.dtype)
        context = tf.distribute.get_replica_context()
        if self._kind == "BN" or context is None or context.num_replicas_in_sync == 1:
            return self._normalize_by_replica(x, weight, bias)
        return self._normalize_by_all(x, weight, bias, context)

    def _scale_and_shift(
        self, weight: tf.Tensor, bias: tf.Tensor, dtype: tf.DType
    ) -> tuple[tf.Tensor, tf.Tensor]:
        variables = (weight, bias, self.running_mean, self.running_var)
        weight, bias, mean, variance = (tf.cast(variable, dtype) for variable in variables)
        scale = weight * tf.math.rsqrt(variance + EPSILON)
        return scale, bias - mean * scale

    def _normalize_by_replica(self, x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        count = tf.cast(tf.reduce_prod(tf.shape(x)[:3]), tf.float64)
        if current_backend().device == "gpu":  # cuDNN's sums are exact to float32
            y, mean, unbiased, *_ = tf.raw_ops.FusedBatchNormV3(
                x=x,
                scale=weight,
                offset=bias,
                mean=tf.zeros([0]),
                variance=tf.zeros([0]),
                epsilon=EPSILON,
                exponential_avg_factor=1.0,
                is_training=True,
            )
            mean = tf.cast(mean, tf.float64)
            variance = tf.cast(unbiased, tf.float64) * tf.math.divide_no_nan(count - 1.0, count)
        else:
            y, mean, variance = batch_norm(x, weight, bias, EPSILON)
        if not self._collect(mean, variance, count):
            self._store(mean, variance * _bessel(count), count)
        return y

    def _normalize_by_all(
        self,
        x: tf.Tensor,
        weight: tf.Tensor,
        bias: tf.Tensor,
        context: tf.distribute.ReplicaContext,
    ) -> tf.Tensor:
        def over_replicas(value: tf.Tensor) -> tf.Tensor:
            return context.all_reduce(tf.distribute.ReduceOp.SUM, value)

        shape = tf.cast(tf.shape(x), tf.float64)
        count = shape[0] * shape[1] * shape[2]
        part = {"naiveSyncBN": tf.ones_like(count), "naiveSyncBN_N": shape[0]}.get(
            self._kind, count
        )
        total, total_count = tf.unstack(over_replicas(tf.stack([part, count])))
        share = tf.math.divide_no_nan(part, total)
        y, mean, variance = batch_norm(x, weight, bias, EPSILON, share, over_replicas)
        if not self._collect(mean, variance, count):
            biased = self._kind.startswith("naive")
            self._store(mean, variance if biased else variance * _bessel(total_count), total_count)
        return y

    def _collect(self, mean: tf.Tensor, variance: tf.Tensor, count: tf.Tensor) -> bool:
        """Hand over float64 moments of `count` elements, if they are collected at the moment."""
        moments = _moments.get()
        if moments is None:
            return False
        of_one = tf.stack([tf.ones_like(mean), mean, variance + tf.square(mean)])
        moments.setdefault(self, []).append(tf.where(count > 0, of_one * count, 0.0))
        return True

    def _store(self, mean: tf.Tensor, variance: tf.Tensor, count: tf.Tensor) -> None:
        """A batch without elements (no foreground proposals) has no statistics."""
        for running, value in ((self.running_mean, mean), (self.running_var, variance)):
            value = tf.where(count > 0, tf.cast(value, tf.float32), running)
            running.assign(running + _MOMENTUM * (value - running))


class BatchNorm(RunningStatistics):
    """Batch normalisation: by stored statistics, or within `batch_statistics` by the batch's.

    Variables are `weight` and `bias`, float32 [channels], and those of `RunningStatistics`.
    FrozenBN always uses the stored statistics and has no trainable variables.

    Args:
        channels: of the input.
        kind: as Detectron2 names it. BN uses each replica's own statistics. SyncBN and nnSyncBN use
            those of all elements on all replicas; naiveSyncBN and naiveSyncBN_N
            average the replicas' statistics, the latter by number of images (or regions), and both
            store the biased variance (Detectron2: `NaiveSyncBatchNorm`).
    """

    def __init__(self, channels: int, kind: str = _FROZEN):
        super().__init__(channels, kind)

    def _add_parameters(self, channels: int) -> None:
        self.weight = tf.Variable(tf.ones([channels]), trainable=self.trains)
        self.bias = tf.Variable(tf.zeros([channels]), trainable=self.trains)

    def scale_and_shift(self, dtype: tf.DType = tf.float32) -> tuple[tf.Tensor, tf.Tensor]:
        """The layer of stored statistics as y = x * scale + shift, both `dtype` [channels]."""
        return self._scale_and_shift(self.weight, self.bias, dtype)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """x: [..., channels]; where statistics are the batch's, [N, H, W, channels]."""
        return self.normalize(x, self.weight, self.bias)


class LevelBatchNorm(tf.Module):
    """Batch normalisation for a layer shared by several feature maps, each with its statistics.

    Detectron2's `CycleBatchNormList`, which cycles through the levels. Variables are `weight` and
    `bias`, float32 [channels], which all levels share, and of level i those of `RunningStatistics`,
    `i.running_mean` and `i.running_var`.

    Args:
        channels: of the input.
        kind: BN or SyncBN, see `BatchNorm`.
        levels: how many.
    """

    def __init__(self, channels: int, kind: str, levels: int):
        super().__init__()
        self.weight = tf.Variable(tf.ones([channels]))
        self.bias = tf.Variable(tf.zeros([channels]))
        self._statistics = [RunningStatistics(channels, kind) for _ in range(levels)]
        for level, statistics in enumerate(self._statistics):
            setattr(self, str(level), statistics)

    def __call__(self, x: tf.Tensor, level: int) -> tf.Tensor:
        """x: [..., channels], a feature of the level of this index; see `BatchNorm`."""
        return self._statistics[level].normalize(x, self.weight, self.bias)


class GroupNorm(tf.Module):
    """Group normalisation (Wu and He, 2018) over contiguous channels: `torch.nn.GroupNorm(32, C)`.

    Variables are `weight` and `bias`, float32 [channels].
    """

    takes_valid_sizes = True

    def __init__(self, channels: int, groups: int = _GROUPS):
        super().__init__()
        self.groups = groups
        self.weight = tf.Variable(tf.ones([channels]))
        self.bias = tf.Variable(tf.zeros([channels]))

    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> tf.Tensor:
        """x: [N, H, W, channels]; statistics are float32 whatever the type of x.

        They are computed over each image's valid part; its padding is normalised with them too.
        """
        shape = tf.shape(x)
        channels = x.shape[-1]
        grouped = tf.reshape(
            tf.cast(x, tf.float32),
            tf.concat([shape[:3], [self.groups, channels // self.groups]], 0),
        )
        centred = grouped - _group_mean(grouped, valid_sizes)
        variance = _group_mean(tf.square(centred), valid_sizes)
        y = tf.reshape(centred * tf.math.rsqrt(variance + EPSILON), shape)
        return tf.cast(y * self.weight + self.bias, x.dtype)


class LayerNorm(tf.Module):
    """Normalisation of each location over its channels (Ba et al., 2016): torch's `layer_norm` of
    the last axis, and what Detectron2's `LayerNorm` of NCHW does over its second.

    Variables are `weight` and `bias`, float32 [channels].

    Args:
        channels: of the input.
        eps: added to the variance. The published models have three values, so there is no
            default: 1e-6 in ViT, MViT and as the norm "LN", 1e-5 in Swin.
    """

    def __init__(self, channels: int, eps: float):
        super().__init__()
        self._epsilon = eps
        self.weight = tf.Variable(tf.ones([channels]))
        self.bias = tf.Variable(tf.zeros([channels]))

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """x: [..., channels]; statistics are float32 whatever the type of x."""
        weight, bias = (tf.convert_to_tensor(value) for value in (self.weight, self.bias))
        return layer_norm(x, weight, bias, self._epsilon)


class MapLayerNorm(LayerNorm):
    """The norm "LN": Detectron2's `LayerNorm` of maps, as opposed to torch's.

    The result is the same, with eps 1e-6. But Detectron2's optimizers do not count it among the
    norms: its weights decay by SOLVER.WEIGHT_DECAY whatever WEIGHT_DECAY_NORM is.

    Args:
        channels: of the input.
    """

    def __init__(self, channels: int):
        super().__init__(channels, _LN_EPSILON)


class Shift(tf.Module):
    """y = x + shift: what `optimize` leaves of a norm whose scale went into the weights.

    Args:
        shift: float32 [channels].
    """

    def __init__(self, shift: tf.Tensor):
        super().__init__()
        self.negative = tf.Variable(-shift, trainable=False)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """x: [..., channels]."""
        # A subtraction, since TensorFlow fuses an addition with the convolution before it, and its
        # fused kernel on the CPU knows no groups.
        return x - tf.cast(self.negative, x.dtype)


def _group_mean(x: tf.Tensor, valid_sizes: ValidSizes) -> tf.Tensor:
    """The mean over height, width and channels of [N, H, W, groups, C]: [N, 1, 1, groups, 1]."""
    return valid_sizes.mean(tf.reduce_mean(x, 4))[..., None]


def _bessel(count: tf.Tensor) -> tf.Tensor:
    """Bessel's correction, from biased to unbiased variance, for float64 `count` elements."""
    return count / tf.maximum(count - 1.0, 1.0)


def apply_norm(norm: tf.Module | None, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> tf.Tensor:
    """x [N, H, W, channels] after `norm`, if there is one; `valid_sizes` are those of x."""
    if norm is None:
        return x
    return norm(x, valid_sizes) if getattr(norm, "takes_valid_sizes", False) else norm(x)


def batch_norms_that_train(model: tf.Module) -> list[RunningStatistics]:
    """The layers of a model that use batch statistics within `batch_statistics`."""
    return [
        module
        for module in model.submodules
        if isinstance(module, RunningStatistics) and module.trains
    ]


def frozen(name: str) -> str:
    """The norm that replaces `name` in a frozen stage: FrozenBN for every batch norm."""
    return _FROZEN if name in BATCH_NORMS else name


def make_norm(name: str | None, channels: int) -> BatchNorm | GroupNorm | LayerNorm | None:
    """The norm layer with Detectron2's name `name`; None for "" and None.

    FrozenBN, BN, SyncBN and its variants nnSyncBN, naiveSyncBN and naiveSyncBN_N, which differ only
    in the statistics of training; GN; LN.

    Raises:
        InputError: the channels do not make 32 groups for GN.
        ValueError: there is no such layer.
    """
    if not name:
        return None
    if name in BATCH_NORMS:
        return BatchNorm(channels, name)
    if name == "GN":
        if channels % _GROUPS:
            raise InputError(f"NORM: GN has {_GROUPS} groups, into which {channels} do not divide")
        return GroupNorm(channels)
    if name == "LN":
        return MapLayerNorm(channels)
    raise ValueError(f"{name!r} is not one of {NORMS}")
