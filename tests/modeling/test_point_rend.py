"""PointRend's heads, narrow: in a batch, without detections, in bfloat16, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.seeded_weights import seeded_model
from tests.support.dense_models import two_images
from tests.support.native import IMPLEMENTATIONS
from tests.support.point_rend import KINDS, narrow_model, scale_parameters, write_config
from tests.support.small_training import batch, configuration, losses_and_gradients
from tfdetect.checkpoint.names import named_variables
from tfdetect.config import load_config, zoo_models
from tfdetect.config.capabilities import capabilities
from tfdetect.config.checks import check_model
from tfdetect.config.training_checks import check_training
from tfdetect.errors import InputError
from tfdetect.inference.optimization import optimize
from tfdetect.inference.pipeline import Pipeline
from tfdetect.modeling.build import build_model
from tfdetect.modeling.point_head import ImplicitPointHead, StandardPointHead
from tfdetect.ops.backend import Backend
from tfdetect.training.class_order import reorder_classes
from tfdetect.training.initialization import initialize
from tfdetect.training.trainable import trainable_variables

# Others than these are for `make test-full`.
IMPLICIT = pytest.param("implicit", marks=pytest.mark.full)
PUBLISHED = {
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
    "MODEL.ROI_MASK_HEAD.FC_DIM": 32,
    "MODEL.POINT_HEAD.FC_DIM": 32,
}
SMALL = ["INPUT.MIN_SIZE_TEST", 96, "INPUT.MAX_SIZE_TEST", 160, "TEST.DETECTIONS_PER_IMAGE", 12]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("configs")


def check_batch(cfg, model):
    """Each image of a batch as alone, which its points are chosen for.

    Boxes to 1e-3 pixels (float32 sums in another order). Of the masks' and the semantic pixels one
    in a thousand may differ: points that are equally uncertain.
    """
    images, sizes = two_images()
    backend = Backend.for_device()
    pipeline = Pipeline(cfg, optimize(model, backend), backend)
    found = pipeline.detect(images, sizes)
    for index in range(2):
        height, width = sizes[index]
        alone = images[index : index + 1, :height, :width]
        for key, expected in pipeline.detect(alone, sizes[index : index + 1]).items():
            batched, expected = found[key][index].numpy(), expected[0].numpy()
            if key == "sem_seg":
                assert len(np.unique(expected)) > 1
                assert np.mean(batched[:height, :width] == expected) > 0.999
                assert not batched[height:].any()
            elif key == "pred_masks":
                assert np.mean(np.abs(batched - expected) < 1e-3) > 0.999
                assert 0.01 < np.mean(expected > 0.5) < 0.99
            else:
                np.testing.assert_allclose(batched, expected, rtol=0, atol=1e-3, err_msg=key)
        if "num_detections" in found:
            assert found["num_detections"][index] > 2


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, indirect=True)
@pytest.mark.parametrize("kind", ["instance", "semantic", IMPLICIT])
def test_batch_of_two_sizes(kind, folder, implementation):
    check_batch(*narrow_model(kind, folder, SMALL))


@pytest.mark.full
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, indirect=True)
@pytest.mark.parametrize("name", [name for name in zoo_models() if name.startswith("PointRend/")])
def test_batch_of_two_sizes_of_published_models(name, implementation):
    """As deep as they are, with fewer channels. (tests/training takes a step of each.)"""
    options = dict(zip(SMALL[::2], SMALL[1::2], strict=True)) | PUBLISHED
    options["MODEL.RESNETS.DEPTH"] = load_config(name).MODEL.RESNETS.DEPTH
    if "X_101" in name:
        options |= {"MODEL.RESNETS.NUM_GROUPS": 4, "MODEL.RESNETS.WIDTH_PER_GROUP": 8}
    able = capabilities(configuration(name, options))
    options[POINTS + "NUM_CLASSES"] = able.num_classes or able.num_stuff_classes
    cfg = configuration(name, options)
    model = seeded_model(cfg)
    scale_parameters(model)
    check_batch(cfg, model)


@pytest.mark.parametrize("kind", ["instance", IMPLICIT])
def test_without_detections(kind, folder):
    options = [*SMALL, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1.0]
    cfg, model = narrow_model(kind, folder, options)
    found = Pipeline(cfg, model, Backend.for_device()).detect(*two_images())
    np.testing.assert_array_equal(found["num_detections"], [0, 0])
    assert found["pred_masks"].shape[2] == found["pred_masks"].shape[3] > 28
    assert not found["pred_masks"].numpy().any()


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16(kind, folder):
    """Finite, and boxes, scores and probabilities float32."""
    cfg, model = narrow_model(kind, folder, SMALL)
    backend = Backend.for_device(dtype="bfloat16")
    found = Pipeline(cfg, optimize(model, backend), backend).detect(*two_images())
    for key, values in found.items():
        assert values.dtype in (tf.float32, tf.int32), key
        assert np.isfinite(values).all(), key


@pytest.mark.full
def test_several_features(folder):
    """Channels of the one feature after those of the other; Detectron2 predicts masks with them."""
    names = ["p2", "p3"]
    options = [*SMALL, "MODEL.POINT_HEAD.IN_FEATURES", names]
    for kind in ("instance", "semantic"):
        cfg, model = narrow_model(kind, folder, options)
        shapes = {named.name: named.foreign_shape for named in named_variables(model)}
        prefix = "sem_seg_head" if kind == "semantic" else "roi_heads.mask_head"
        classes = cfg.MODEL.POINT_HEAD.NUM_CLASSES
        assert shapes[f"{prefix}.point_head.fc1.weight"] == (32, 2 * 64 + classes, 1)
        found = Pipeline(cfg, model, Backend.for_device()).detect(*two_images())
        assert np.isfinite(found["sem_seg" if kind == "semantic" else "pred_masks"]).all()


@pytest.mark.parametrize("name", ["implicit", pytest.param("instance", marks=pytest.mark.full)])
def test_training_without_an_object(name, folder):
    """The losses of masks are 0, and every gradient is finite."""
    cfg = load_config(write_config(f"narrow_{name}_training", folder))
    model = build_model(cfg)
    initialize(model, cfg, 0)
    named = trainable_variables(model, cfg)
    data = batch((0, 0), "gt_bitmasks")
    losses, gradients = losses_and_gradients(model, named, data)
    of_masks = {"instance": ["loss_mask", "loss_mask_point"], "implicit": ["loss_l2"]}[name]
    assert [losses[loss] for loss in [*of_masks, "loss_mask_point"]] == [0.0] * (len(of_masks) + 1)
    for key, gradient in gradients.items():
        assert np.isfinite(tf.convert_to_tensor(gradient)).all(), key


@pytest.mark.full
def test_points_depend_on_the_seed_and_the_image_alone(folder):
    """Losses of an image are the same whatever else is in the batch, with its seed."""
    cfg = load_config(write_config("narrow_implicit_training", folder))
    model = build_model(cfg)
    initialize(model, cfg, 0)
    images, sizes, targets = batch((3, 2), "gt_bitmasks")

    def loss(rows, seed):
        chosen = [tf.gather(values, rows) for values in (images, sizes)]
        objects = targets._replace(
            **{
                name: tf.gather(values, rows)
                for name, values in targets._asdict().items()
                if values is not None
            }
        )
        return float(model.losses(*chosen, objects, tf.constant(seed))["loss_mask_point"])

    assert loss([0], [0, 0]) == loss([0], [0, 0]) != loss([0], [0, 1])


def check_all(cfg):
    check_model(cfg)
    check_training(cfg)


MASKS = "MODEL.ROI_MASK_HEAD."
POINTS = "MODEL.POINT_HEAD."
REFUSED = [
    ("instance", POINTS + "NUM_CLASSES", 5, "but MODEL.ROI_HEADS.NUM_CLASSES is 4"),
    ("instance", POINTS + "NAME", "NoHead", "is not supported; use StandardPointHead"),
    ("instance", POINTS + "IN_FEATURES", ["p7"], "is not a feature of the backbone"),
    ("instance", POINTS + "NAME", "ImplicitPointHead", "use StandardPointHead"),
    ("instance", POINTS + "SUBDIVISION_NUM_POINTS", 10**9, "or less, or more steps"),
    ("instance", MASKS + "POINT_HEAD_ON", False, "set it to True"),
    ("instance", MASKS + "POOLER_TYPE", "ROIAlignV2", "set it to ''"),
    ("instance", MASKS + "POOLER_RESOLUTION", 7, "give an even number"),
    ("instance", MASKS + "CONV_DIM", 65, "more than the 64 channels"),
    ("instance", MASKS + "IN_FEATURES", [], "is empty"),
    ("implicit", POINTS + "SUBDIVISION_NUM_POINTS", 200, "give a square number such as 196"),
    ("implicit", POINTS + "NUM_FC", 0, "give 1 or more"),
    ("implicit", POINTS + "NAME", "StandardPointHead", "use ImplicitPointHead"),
    ("semantic", POINTS + "SUBDIVISION_STEPS", 3, "do not lead from MODEL.SEM_SEG_HEAD."),
    ("semantic", POINTS + "NAME", "ImplicitPointHead", "use StandardPointHead"),
    ("semantic", POINTS + "CLS_AGNOSTIC_MASK", True, "set it to False"),
    ("semantic", POINTS + "COARSE_SEM_SEG_HEAD_NAME", "PointRendSemSegHead", "is "),
    ("semantic", POINTS + "COARSE_SEM_SEG_HEAD_NAME", "NoHead", "is not supported"),
]


@pytest.mark.parametrize(("kind", "key", "value", "words"), REFUSED)
def test_refused(kind, key, value, words, folder):
    cfg = load_config(write_config(f"narrow_{kind}", folder), [key, value])
    with pytest.raises(InputError) as caught:
        build_model(cfg)
    assert str(caught.value).startswith(f"{key}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# 0 or -1 means something, or any number does, or another kind of head reads the key.
ACCEPTED = {
    POINTS + "NUM_FC": [0],
    POINTS + "SUBDIVISION_STEPS": [0],
    POINTS + "IMPORTANCE_SAMPLE_RATIO": [0],
    MASKS + "NUM_CONV": [0],
    MASKS + "POOLER_SAMPLING_RATIO": [0, -1],
    "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": [0, -1],
    "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT": [0, -1],
    "MODEL.IMPLICIT_POINTREND.PARAMS_L2_REGULARIZER": [0, -1],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_number(kind, folder):
    """None, 0 and -1 where they mean nothing: a line that names the key, before TensorFlow."""
    path = write_config(f"narrow_{kind}_training", folder)
    cfg = load_config(path)
    of_kind = "SEM_SEG_HEAD" if kind == "semantic" else "ROI_MASK_HEAD"
    for section in ("POINT_HEAD", "IMPLICIT_POINTREND", of_kind):
        for name, default in cfg.MODEL[section].items():
            key = f"MODEL.{section}.{name}"
            is_number = type(default) in (int, float)
            for value in [None, 0, -1] if is_number else [None]:
                changed = load_config(path, [key, value])
                if value in ACCEPTED.get(key, ()) or (value is None and name == "NORM"):
                    check_all(changed)
                    continue
                with pytest.raises(InputError) as caught:
                    check_all(changed)
                assert str(caught.value).startswith(f"{key}: "), key
                assert "\n" not in str(caught.value)


def test_neither_encoding_nor_features(folder):
    options = ["MODEL.IMPLICIT_POINTREND.IMAGE_FEATURE_ENABLED", False]
    options += ["MODEL.IMPLICIT_POINTREND.POS_ENC_ENABLED", False]
    cfg = load_config(write_config("narrow_implicit", folder), options)
    with pytest.raises(InputError, match=r"^MODEL\.IMPLICIT_POINTREND: neither"):
        build_model(cfg)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (POINTS + "TRAIN_NUM_POINTS", 0),
        (POINTS + "OVERSAMPLE_RATIO", 0),
        (POINTS + "IMPORTANCE_SAMPLE_RATIO", 1.5),
        ("INPUT.MASK_FORMAT", "polygon"),
    ],
)
def test_refused_in_training(key, value, folder):
    cfg = load_config(write_config("narrow_instance_training", folder), [key, value])
    with pytest.raises(InputError, match=f"^{key}: is "):
        check_training(cfg)


@pytest.mark.parametrize("name", ["PointRendMaskHead", "ImplicitPointRendMaskHead"])
def test_it_takes_no_pooled_regions(name, folder):
    """Under heads that pool, and the other way round."""
    cfg = load_config("Base-RCNN-C4", ["MODEL.MASK_ON", True, MASKS + "NAME", name])
    with pytest.raises(InputError, match=r"POOLER_TYPE: .* samples the feature maps itself"):
        build_model(cfg)
    options = [MASKS + "NAME", "MaskRCNNConvUpsampleHead"]
    cfg = load_config(write_config("narrow_instance", folder), options)
    with pytest.raises(InputError, match=r"POOLER_TYPE: is '', but .* use ROIAlignV2"):
        build_model(cfg)


def test_configurations_of_old_models(folder):
    """CoarseMaskHead under PointRendROIHeads is PointRendMaskHead."""
    options = ["MODEL.ROI_HEADS.NAME", "PointRendROIHeads", MASKS + "NAME", "CoarseMaskHead"]
    options += [MASKS + "POOLER_TYPE", "ROIAlignV2"]
    path = write_config("narrow_instance", folder)
    old, new = build_model(load_config(path, options)), build_model(load_config(path))
    assert [named.name for named in named_variables(old)] == [
        named.name for named in named_variables(new)
    ]
    options[3] = "MaskRCNNConvUpsampleHead"
    with pytest.raises(InputError, match=r"^MODEL\.ROI_MASK_HEAD\.NAME: .* PointRendROIHeads"):
        build_model(load_config(path, options))


@pytest.mark.parametrize("each_layer", [True, False])
@pytest.mark.parametrize("agnostic", [True, False])
def test_classes_in_another_order(each_layer, agnostic, folder):
    """Reordered weights give the reordered outputs; see test_class_names.py."""
    order, rng = [2, 0, 3, 1], np.random.default_rng(0)
    options = [POINTS + "COARSE_PRED_EACH_LAYER", each_layer]
    options += [POINTS + "CLS_AGNOSTIC_MASK", agnostic]
    cfg = load_config(write_config("narrow_instance", folder), options)
    head = StandardPointHead.from_config(cfg, 6)
    _randomize(head, rng)
    fine, coarse = (rng.normal(size=[2, 5, n]).astype(np.float32) for n in (6, 4))
    expected = head(tf.constant(fine), tf.constant(coarse)).numpy()
    _reorder(head, "roi_heads.mask_head.point_head.", order, cfg)
    found = head(tf.constant(fine), tf.constant(coarse[..., order])).numpy()
    expected = expected if agnostic else expected[..., order]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)

    cfg = load_config(write_config("narrow_implicit", folder), options)
    implicit = ImplicitPointHead.from_config(cfg, 6)
    _randomize(implicit, rng)
    parameters = rng.normal(size=[2, implicit.num_params]).astype(np.float32)
    points = rng.uniform(size=[2, 5, 2]).astype(np.float32)
    name = "roi_heads.mask_head.parameter_head.prediction.bias"
    moved = np.stack([reorder_classes({name: row}, order, cfg)[name] for row in parameters])
    for new, old in enumerate(order):
        arguments = [tf.constant(fine), tf.constant(points)]
        expected = implicit(*arguments, tf.constant(parameters), tf.constant([old, old]))
        found = implicit(*arguments, tf.constant(moved), tf.constant([new, new]))
        np.testing.assert_array_equal(found, expected)


def test_coarse_masks_in_another_order(folder):
    cfg = load_config(write_config("narrow_instance", folder))
    name = "roi_heads.mask_head.coarse_head.prediction.weight"
    weight = np.random.default_rng(0).normal(size=[8, 4 * 49])
    found = reorder_classes({name: weight}, [2, 0, 3, 1], cfg)[name]
    expected = weight.reshape(8, 4, 49)[:, [2, 0, 3, 1]]
    np.testing.assert_array_equal(found.reshape(8, 4, 49), expected)


def _randomize(module, rng):
    for named in named_variables(module):
        named.variable.assign(rng.normal(size=named.variable.shape))


def _reorder(module, prefix, order, cfg):
    variables = {prefix + named.name: named.variable for named in named_variables(module)}
    arrays = {name: variable.numpy() for name, variable in variables.items()}
    for name, array in reorder_classes(arrays, order, cfg).items():
        variables[name].assign(array)
