"""Stochastic depth: in training, whole residual branches of single images are left out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar
from dataclasses import dataclass, field, replace

import tensorflow as tf

# Apart from what else is drawn with the same seeds (the `_STREAM`s of modeling).
_STREAM = 1000
# How many branches are drawn for at once.
_CHUNK = 256


@dataclass(frozen=True, eq=False)
class _Draws:
    """Uniform numbers: for the k-th branch that is traced, column k of `chunks`.

    Attributes:
        seeds: int [B, 2], of each image.
        branch: the number of the next branch.
        chunks: float32 [B, _CHUNK] each, those that were needed so far.
    """

    seeds: tf.Tensor
    branch: int = 0
    chunks: list[tf.Tensor] = field(default_factory=list)

    def of_branch(self) -> tf.Tensor:
        """float32 [B]."""
        chunk, column = divmod(self.branch, _CHUNK)
        if chunk == len(self.chunks):
            self.chunks.append(_uniform(self.seeds, _STREAM + chunk))
        return self.chunks[chunk][:, column]


def _uniform(seeds: tf.Tensor, stream: int) -> tf.Tensor:
    """float32 [B, _CHUNK], each row of its seed."""

    def of_image(seed: tf.Tensor) -> tf.Tensor:
        seed = tf.random.experimental.stateless_fold_in(seed, stream)
        return tf.random.stateless_uniform([_CHUNK], seed)

    numbers = tf.map_fn(of_image, seeds, fn_output_signature=tf.float32)
    return tf.reshape(numbers, [tf.shape(seeds)[0], _CHUNK])  # of no images, too


# Set within what is traced: replicas of tf.distribute are traced in threads of their own. What it
# holds never changes but is replaced, so that a copied context has it as it was.
_draws: ContextVar[_Draws | None] = ContextVar("tfdetect_drop_path", default=None)


@contextlib.contextmanager
def drop_paths(seeds: tf.Tensor) -> Iterator[None]:
    """A context in which `drop_path` drops; outside it nothing is dropped.

    What is dropped depends on an image's seed and on the order in which the branches of a model are
    traced, on nothing else: not on the rest of the batch, nor on the steps before. It applies to
    the thread that enters it: under a strategy, to that replica.

    Args:
        seeds: int [B, 2], of each image.
    """
    token = _draws.set(_Draws(seeds))
    try:
        yield
    finally:
        _draws.reset(token)


def drops_paths() -> bool:
    """Whether it is within `drop_paths`, that is, whether a step of training is being traced."""
    return _draws.get() is not None


def count_branches_of(context: Context) -> None:
    """Go on with the branch that comes after those traced in a copy of the current context."""
    _draws.set(context[_draws])


def drop_path(x: tf.Tensor, rate: float) -> tf.Tensor:
    """A residual branch, left out with a probability for each image on its own.

    Within `drop_paths`, images of x are zero with the probability `rate` and otherwise divided by
    1 - rate; elsewhere (at inference) x is what it was. timm's `DropPath`.

    Args:
        x: [B, ...], the branch before it is added; B as of the seeds.
        rate: from 0 to 1.

    Raises:
        ValueError: another rate.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"a drop path rate of {rate}: must be from 0 to 1")
    draws = _draws.get()
    if draws is None or rate == 0:
        return x
    kept = tf.cast(draws.of_branch() >= rate, x.dtype)
    _draws.set(replace(draws, branch=draws.branch + 1))
    if rate < 1:  # at 1 nothing is kept
        kept /= tf.cast(1 - rate, x.dtype)
    return x * tf.reshape(kept, [-1] + [1] * (x.shape.rank - 1))


def add_branch(
    x: tf.Tensor, branch: Callable[..., tf.Tensor], given: tf.Tensor, rate: float
) -> tf.Tensor:
    """x + drop_path(branch(given), rate), added by the branch itself where nothing can be dropped.

    Args:
        x: what the branch stands beside.
        branch: called with `given`, and with x as `residual`, which is added to its result.
        given: the branch's input.
        rate: as `drop_path` has it.
    """
    if rate == 0 or not drops_paths():
        return branch(given, residual=x)
    return x + drop_path(branch(given), rate)
