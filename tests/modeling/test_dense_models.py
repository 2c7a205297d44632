"""The dense models, narrow: in a batch, without detections, in bfloat16."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import tensorflow as tf

from tests.support.dense_models import CONFIGS, make, network, two_images
from tests.support.eager import eagerly
from tests.support.native import IMPLEMENTATIONS
from tests.support.paths import DATA, ROOT
from tfdetect.checkpoint.names import named_variables
from tfdetect.config import load_config
from tfdetect.inference.pipeline import Pipeline
from tfdetect.modeling.build import build_model
from tfdetect.ops.backend import Backend

with gzip.open(DATA / "zoo_state_dicts.json.gz", "rt") as file:
    STATE_DICTS = json.load(file)
DENSE = [name for name in STATE_DICTS if any(kind in name for kind in CONFIGS)]


@pytest.mark.parametrize("config", DENSE)
def test_variables_are_those_of_the_zoo(config):
    with tf.device("cpu"):
        model = build_model(load_config(ROOT / "configs" / config))
    ours = {named.name: list(named.foreign_shape) for named in named_variables(model)}
    assert ours == STATE_DICTS[config]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, indirect=True)
@pytest.mark.parametrize("name", CONFIGS)
def test_batch_of_two_sizes(name, implementation):
    """Each image of the batch as alone: numbers to 1e-3 of a pixel (float32 sums in another order),
    labels and segments but for a pixel in a thousand (equal logits). There is something in both."""
    cfg, model = make(name)
    images, sizes = two_images()
    pipeline = Pipeline(cfg, model, Backend.for_device())
    found = pipeline.detect(images, sizes)
    for index in range(2):
        height, width = sizes[index]
        alone = images[index : index + 1, :height, :width]
        for key, expected in pipeline.detect(alone, sizes[index : index + 1]).items():
            batched, expected = found[key][index].numpy(), expected[0].numpy()
            if key in ("sem_seg", "panoptic_seg"):
                assert np.mean(batched[:height, :width] == expected) > 0.999, key
            else:
                np.testing.assert_allclose(batched, expected, rtol=0, atol=1e-3, err_msg=key)
        if "sem_seg" in found:
            labels = found["sem_seg"][index].numpy()
            assert labels.shape == (90, 80)
            assert len(np.unique(labels[:height, :width])) > 1
            assert not labels[height:].any()
            assert not labels[:, width:].any()
        if "num_detections" in found:
            assert found["num_detections"][index] > 2
        if "num_segments" in found:
            assert found["num_segments"][index] > 2


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, indirect=True)
@pytest.mark.parametrize(
    "name", ["retinanet", pytest.param("fcos", marks=pytest.mark.full), "panoptic"]
)
def test_without_detections(name, implementation):
    cfg, model = make(
        name,
        MODEL__RETINANET__SCORE_THRESH_TEST=1.0,
        MODEL__FCOS__SCORE_THRESH_TEST=1.0,
        MODEL__ROI_HEADS__SCORE_THRESH_TEST=1.0,
    )
    with eagerly():
        found = Pipeline(cfg, model, Backend.for_device()).detect(*two_images())
    np.testing.assert_array_equal(found["num_detections"], [0, 0])
    assert not found["pred_boxes"].numpy().any()
    if name == "panoptic":
        assert not found["segment_isthing"].numpy().any()
        assert found["num_segments"].numpy().all()  # the stuff is there


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_a_batch_of_no_image(name, implementation):
    _, model = make(name)
    found = model(tf.zeros([0, 64, 96, 3]), tf.zeros([0, 2], tf.int32)).instances
    assert found.pred_boxes.shape == (0, 20, 4)
    assert found.scores.shape == found.pred_classes.shape == (0, 20)
    assert found.num_detections.shape == (0,)


@pytest.mark.parametrize("name", CONFIGS)
def test_bfloat16(name):
    """Every output and stage is finite; logits, boxes and scores are float32."""
    cfg, model = make(name)
    with eagerly():
        outputs, intermediates = network(cfg, model, tf.bfloat16)(*two_images())
    for key, value in (outputs | intermediates).items():
        if value.dtype.is_floating:
            assert np.isfinite(tf.cast(value, tf.float32)).all(), key
    for key, value in outputs.items():
        assert value.dtype in (tf.float32, tf.int32), key
    assert intermediates["p3"].dtype == tf.bfloat16
