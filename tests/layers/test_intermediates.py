"""Intermediates go to who collects them, and to nobody else."""

from __future__ import annotations

import threading

import tensorflow as tf

from tfdetect.layers.intermediates import add_intermediates, collect_intermediates


def test_collected_where_they_are_asked_for():
    add_intermediates({"lost": tf.constant(0)})
    with collect_intermediates() as outer:
        add_intermediates({"a": tf.constant(1)})
        with collect_intermediates() as inner:
            add_intermediates({"b": tf.constant(2)})
        # Another thread does not collect for this one.
        thread = threading.Thread(target=add_intermediates, args=[{"c": tf.constant(3)}])
        thread.start()
        thread.join()
    assert set(outer) == {"a"}
    assert set(inner) == {"b"}


def test_those_of_a_graph_are_returned_by_it():
    @tf.function(autograph=False)
    def double(x):
        with collect_intermediates() as found:
            add_intermediates({"twice": 2 * x})
        return found["twice"]

    assert double(tf.constant(4)) == 8
