"""Functions that a graph has once."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.ops.shared_function import shared_function


def test_one_for_all_calls():
    """Two calls with constants are calls of one function, which stays one when the graph is
    optimized; values, shapes and gradients are those of the plain function."""
    traced = []

    def scale(x: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
        traced.append(x)
        return x * factor

    shared = shared_function(scale, [tf.TensorSpec([None, None]), tf.TensorSpec([])])

    @tf.function(autograph=False)
    def both(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        y = shared(x, tf.constant(2.0)) + shared(x[:1], tf.constant(3.0))
        return y, tf.gradients(y, x)[0]

    x = tf.constant([[1.0, 2.0]])
    y, gradient = both(x)
    assert y.numpy().tolist() == [[5.0, 10.0]]
    assert gradient.numpy().tolist() == [[5.0, 5.0]]
    assert len(traced) == 1

    plain = tf.function(
        lambda x: shared(x, tf.constant(2.0)) + shared(x, tf.constant(3.0)), autograph=False
    )
    operations = plain.get_concrete_function(x).graph.get_operations()
    calls = [operation for operation in operations if "PartitionedCall" in operation.type]
    assert len({call.get_attr("f").name for call in calls}) == 1 < len(calls)
    inputs = {tensor.op.type for call in calls for tensor in call.inputs}
    assert "Const" not in inputs  # TensorFlow's optimizer would make a function for each
    assert shared(x, tf.constant(2.0)).numpy().tolist() == [[2.0, 4.0]]
    assert len(traced) == 1
