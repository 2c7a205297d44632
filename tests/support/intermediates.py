"""What a model returns and what is within it, by the names of the records."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.layers.intermediates import collect_intermediates
from tfdetect.modeling.structures import Predictions

Named = dict[str, tf.Tensor]


def by_name(predictions: Predictions) -> Named:
    """The tensors of what a model returns: those of its instances, and `sem_seg_logits`."""
    found = {} if predictions.instances is None else predictions.instances.as_dict()
    if predictions.sem_seg_logits is not None:
        found["sem_seg_logits"] = predictions.sem_seg_logits
    return found


def call_with_intermediates(model: tf.Module, *arguments: object) -> tuple[Predictions, Named]:
    """What a model returns, and its intermediates; within a `tf.function`, those of its graph."""
    with collect_intermediates() as found:
        return model(*arguments), found
