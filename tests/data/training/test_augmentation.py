"""Augmentors draw what Detectron2's draw, and transforms do to pixels what they do to points."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.support.native import require_native, using_ops
from tests.support.training_data import demo_cfg
from tfdetect.data.training.augmentation import (
    AUGMENTATIONS,
    build_augmentation,
    crops,
    draw_transforms,
)
from tfdetect.data.training.augmentations.crop import FixedSizeCrop, RandomCrop
from tfdetect.data.training.augmentations.geometric import RandomFlip
from tfdetect.data.training.augmentations.resize import (
    ResizeScale,
    ResizeShortestEdge,
    shortest_edge_size,
)
from tfdetect.data.training.sampler import random_state
from tfdetect.data.training.tensorpack_dataflow import imgaug
from tfdetect.data.training.transforms import (
    CropTransform,
    HFlipTransform,
    NoOpTransform,
    PadTransform,
    ResizeTransform,
    TransformList,
    VFlipTransform,
    apply_image,
)
from tfdetect.data.training.warp_transforms import ExtentTransform, RotationTransform
from tfdetect.errors import InputError
from tfdetect.ops.kernels.image_resize import native_image_resize


def draw(augmentor, size, count=300):
    random = random_state(1)
    return [draw_transforms([augmentor], size, random)[0] for _ in range(count)]


@pytest.mark.parametrize("case", range(6))
def test_resize_is_recorded_pillow(oracle, case):
    """To the bit, also under versions of Pillow that do the axes in another order."""
    data = oracle("resize")
    image, expected = data[f"in{case}"], data[f"out{case}"]
    transform = ResizeTransform(*image.shape[:2], *expected.shape[:2])
    np.testing.assert_array_equal(transform.apply_image(image), expected)


@pytest.mark.parametrize(("old", "new"), [((1000, 5), (100, 50)), ((1, 300), (200, 3))])
def test_resize_is_the_graphs(implementation, old, new):
    """Training sees the pixels that prediction sees."""
    from tfdetect.ops.resize import resize_bilinear_uint8

    image = random_state(0).randint(0, 256, (*old, 3)).astype(np.uint8)
    expected = resize_bilinear_uint8(image, np.array(new, np.int32))
    np.testing.assert_array_equal(ResizeTransform(*old, *new).apply_image(image), expected)


def test_native_resize_gives_the_same_images():
    """Whatever it stands between; other filters and sizes that stay are left to the transform."""
    require_native()
    with using_ops("native"):
        resize = native_image_resize()
    image = random_state(0).randint(0, 256, (40, 60, 3)).astype(np.uint8)
    bicubic = Image.Resampling.BICUBIC
    for transforms, used in [
        ([ResizeTransform(40, 60, 80, 121), HFlipTransform(80, 121)], 1),
        ([HFlipTransform(40, 60), ResizeTransform(40, 60, 33, 50)], 1),
        ([CropTransform(7, 3, 30, 40, 40, 60), ResizeTransform(30, 40, 60, 80)], 1),
        ([TransformList((ResizeTransform(40, 60, 30, 41), VFlipTransform(30, 41)))], 1),
        ([ResizeTransform(40, 60, 40, 60)], 0),
        ([ResizeTransform(40, 60, 80, 120, bicubic)], 0),
    ]:
        calls = []

        def counted(*arguments, calls=calls):
            calls.append(arguments)
            return resize(*arguments)

        found = apply_image(image, transforms, counted)
        np.testing.assert_array_equal(found, apply_image(image, transforms, None))
        assert len(calls) == used


def test_size_rule(oracle):
    data = oracle("resize")
    for arguments, expected in zip(data["sizes_in"], data["sizes_out"], strict=True):
        assert shortest_edge_size(*(int(x) for x in arguments)) == tuple(expected)


@pytest.mark.parametrize(
    "transform",
    [
        ResizeTransform(40, 60, 80, 120),
        HFlipTransform(40, 60),
        VFlipTransform(40, 60),
        CropTransform(7, 3, 30, 40, 40, 60),
        CropTransform(7, 3, 300, 400, 40, 60),
        PadTransform(70, 80, 128, seg_pad_value=0),
        TransformList((ResizeTransform(40, 60, 80, 120), HFlipTransform(80, 120))),
        RotationTransform(40, 60, 90),
        RotationTransform(40, 60, 180, expand=False),
        ExtentTransform((10, -5, 45, 35), 80, 70),
        NoOpTransform(40, 60),
    ],
)
def test_points_go_where_pixels_go(transform):
    """A bright square of 8 x 6 pixels: its corners, mapped, are around what is bright after."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[12:18, 20:28] = 255
    before = image.copy()
    after = transform.apply_image(image)
    assert after.shape[:2] == transform.output_size
    np.testing.assert_array_equal(image, before)
    corners = np.array([[20.0, 12], [28, 18]])
    mapped = transform.apply_coords(corners)
    np.testing.assert_array_equal(corners, [[20, 12], [28, 18]])
    (x1, y1), (x2, y2) = np.rint(np.sort(mapped, axis=0)).astype(int)
    bright = after[..., 0] == 255
    assert bright[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].all()
    mask = transform.apply_segmentation(image[..., 0])
    np.testing.assert_array_equal(np.argwhere(mask)[[0, -1]], [[y1, x1], [y2 - 1, x2 - 1]])
    if not isinstance(transform, CropTransform):
        (polygon,) = transform.apply_polygons([corners.reshape(-1)])
        np.testing.assert_allclose(polygon.reshape(-1, 2), mapped, rtol=1e-14)


def test_only_the_horizontal_flip_mirrors():
    assert HFlipTransform(4, 6).mirrors
    assert not VFlipTransform(4, 6).mirrors
    assert not ResizeTransform(4, 6, 8, 12).mirrors


def test_a_crop_cuts_polygons():
    """A U falls into its two arms: each its own polygon, and the box around both is tight."""
    pytest.importorskip("shapely")
    u = np.array([0, 0, 10, 0, 10, 30, 20, 30, 20, 5, 30, 5, 30, 40, 0, 40.0])
    crop = CropTransform(5, 0, 25, 100, 100, 100)
    parts = crop.apply_polygons([u])
    boxes = sorted((*p.reshape(-1, 2).min(0), *p.reshape(-1, 2).max(0)) for p in parts)
    assert boxes == [(0, 0, 5, 25), (15, 5, 25, 25)]
    assert all(len(part) == 8 for part in parts)
    assert crop.apply_polygons([u + 200]) == []
    # Only a side of it touches: a line is not a polygon.
    assert CropTransform(30, 0, 10, 10, 100, 100).apply_polygons([u]) == []
    # The rectangle, not the image, cuts: see `CropTransform`.
    (whole,) = CropTransform(0, 0, 100, 100, 20, 20).apply_polygons([u])
    assert whole.reshape(-1, 2).max(0).tolist() == [30, 40]


def test_resize_shortest_edge():
    found = draw(ResizeShortestEdge((96, 128), 1000, "choice"), (100, 200))
    assert {t.output_size for t in found} == {(96, 192), (128, 256)}
    found = draw(ResizeShortestEdge((96, 100), 1000, "range"), (100, 100))
    assert {t.output_size for t in found} == {(n, n) for n in range(96, 101)}
    found = draw(ResizeShortestEdge((0,), 1000, "choice"), (100, 100))
    assert {type(t) for t in found} == {NoOpTransform}
    assert {t.output_size for t in draw(ResizeShortestEdge((800,), 1333, "choice"), (1, 5000))} == {
        (1, 1333)
    }


def test_flip_is_a_fair_coin():
    for direction, kind in (("horizontal", HFlipTransform), ("vertical", VFlipTransform)):
        flip = RandomFlip(horizontal=direction == "horizontal", vertical=direction == "vertical")
        share = np.mean([isinstance(t, kind) for t in draw(flip, (4, 6), 2000)])
        assert abs(share - 0.5) < 0.05  # over four standard deviations


@pytest.mark.parametrize(
    ("crop_type", "size", "heights", "widths"),
    [
        ("relative", (0.5, 0.25), (50, 50), (50, 50)),
        ("relative_range", (0.5, 0.25), (50, 100), (50, 200)),
        ("absolute", (30, 400), (30, 30), (200, 200)),
        ("absolute_range", (20, 120), (20, 100), (20, 120)),
    ],
)
def test_random_crop(crop_type, size, heights, widths):
    found = draw(RandomCrop(crop_type, size), (100, 200), 2000)
    sizes = np.array([t.output_size for t in found])
    # The ends of a range are drawn, or nearly: 2000 draws of at most 151 values.
    np.testing.assert_allclose(
        [sizes.min(0), sizes.max(0)], np.transpose([heights, widths]), atol=1
    )
    for t in found:
        assert 0 <= t.y0 <= 100 - t.height
        assert 0 <= t.x0 <= 200 - t.width
    if heights != (100, 100):
        assert {t.y0 == 0 for t in found} == {True, False}
        assert any(t.y0 == 100 - t.height for t in found)


def test_large_scale_jitter():
    augmentors = build_augmentation(
        demo_cfg(INPUT__LARGE_SCALE_JITTER__ENABLED=True, INPUT__LARGE_SCALE_JITTER__SIZE=64)
    )
    random = random_state(5)
    scales, offsets = [], []
    for _ in range(500):
        resize, both, flip = draw_transforms(augmentors, (100, 50), random)
        crop, pad = both.transforms
        height, width = resize.output_size
        assert abs(width - height / 2) <= 0.5
        scales.append(height / 64)
        if height > 64:
            offsets.append(crop.y0 / (height - 64))
            assert crop.x0 == round(max(width - 64, 0) * crop.y0 / (height - 64)) or height < 74
        assert crop.output_size == (min(height, 64), min(width, 64))
        assert pad.output_size == flip.output_size == (64, 64)
    assert 0.09 < min(scales) < 0.15
    assert 1.95 < max(scales) < 2.01
    assert 0 <= min(offsets) < 0.05 < 0.95 < max(offsets) <= 1


def test_padding_is_grey_ignored_and_in_no_mask():
    pad = PadTransform(3, 4, 128)
    ones = np.ones((2, 2), np.uint8)
    for transform in (pad, TransformList((NoOpTransform(2, 2), pad))):
        assert transform.apply_image(np.zeros((2, 2, 3), np.uint8)).sum() == (12 - 4) * 3 * 128
        assert transform.apply_segmentation(ones).sum() == 4 + (12 - 4) * 255
        assert transform.apply_mask(ones).sum() == 4


def test_extreme_shapes_keep_a_pixel():
    assert draw(ResizeScale(0.01, 0.01, 64, 64), (1, 5000), 1)[0].output_size == (1, 1)
    assert draw(RandomCrop("relative", (0.1, 0.1)), (1, 3), 1)[0].output_size == (1, 1)
    assert draw(FixedSizeCrop(8), (8, 8), 1)[0].output_size == (8, 8)


def test_the_seed_decides():
    augmentors = build_augmentation(demo_cfg(INPUT__CROP__ENABLED=True))
    first, again, other = (
        draw_transforms(augmentors, (100, 200), random_state(*seed))
        for seed in ((1, 2), (1, 2), (3,))
    )
    assert first == again != other


def test_augmentors_are_tensorpacks():
    for augmentor in build_augmentation(demo_cfg(INPUT__CROP__ENABLED=True)):
        assert isinstance(augmentor, imgaug.ImageAugmentor)
        transform = augmentor.get_transform(np.zeros((20, 30, 3), np.uint8))
        assert isinstance(transform, imgaug.Transform)
    image = np.zeros((20, 30, 3), np.uint8)
    assert imgaug.AugmentorList(build_augmentation(demo_cfg())).augment(image).shape[0] in (96, 128)


def test_order_of_the_configuration():
    plain = [type(a).__name__ for a in build_augmentation(demo_cfg())]
    assert plain == ["ResizeShortestEdge", "RandomFlip"]
    cfg = demo_cfg(INPUT__CROP__ENABLED=True, INPUT__RANDOM_FLIP="none")
    assert [type(a).__name__ for a in build_augmentation(cfg)] == [
        "RandomCrop",
        "ResizeShortestEdge",
    ]
    assert crops(build_augmentation(cfg))
    assert not crops(build_augmentation(demo_cfg()))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"INPUT__RANDOM_FLIP": "diagonal"}, "INPUT.RANDOM_FLIP"),
        ({"INPUT__MIN_SIZE_TRAIN_SAMPLING": "any"}, "INPUT.MIN_SIZE_TRAIN_SAMPLING"),
        ({"INPUT__MIN_SIZE_TRAIN": ()}, "INPUT.MIN_SIZE_TRAIN"),
        ({"INPUT__MIN_SIZE_TRAIN": (100, -1)}, "INPUT.MIN_SIZE_TRAIN"),
        (
            {"INPUT__MIN_SIZE_TRAIN": (9, 8), "INPUT__MIN_SIZE_TRAIN_SAMPLING": "range"},
            "INPUT.MIN_SIZE_TRAIN",
        ),
        ({"INPUT__MAX_SIZE_TRAIN": 0}, "INPUT.MAX_SIZE_TRAIN"),
        ({"INPUT__CROP__ENABLED": True, "INPUT__CROP__TYPE": "round"}, "INPUT.CROP.TYPE"),
        ({"INPUT__CROP__ENABLED": True, "INPUT__CROP__SIZE": [0.5, 2.0]}, "INPUT.CROP.SIZE"),
        ({"INPUT__CROP__ENABLED": True, "INPUT__CROP__SIZE": [0.5]}, "INPUT.CROP.SIZE"),
        (
            {
                "INPUT__LARGE_SCALE_JITTER__ENABLED": True,
                "INPUT__LARGE_SCALE_JITTER__SCALE": [2.0, 0.1],
            },
            "INPUT.LARGE_SCALE_JITTER.SCALE",
        ),
    ],
)
def test_values_that_cannot_be_used(options, key):
    with pytest.raises(InputError, match=f"^{key}: "):
        build_augmentation(demo_cfg(**options))


def test_named_augmentations_take_the_place_of_the_others():
    class Thin(ResizeScale):
        cuts_objects = True

    AUGMENTATIONS.add("Thin", lambda cfg: Thin(1.0, 1.0, *[cfg.INPUT.MAX_SIZE_TRAIN] * 2))
    cfg = demo_cfg(INPUT__AUGMENTATIONS=["RandomFlip", "Thin"])
    augmentors = build_augmentation(cfg)
    assert [type(a).__name__ for a in augmentors] == ["RandomFlip", "Thin"]
    assert crops(augmentors)
    with pytest.raises(InputError, match=r"^INPUT\.AUGMENTATIONS: 'RandomFlop' .*use RandomFlip"):
        build_augmentation(demo_cfg(INPUT__AUGMENTATIONS=["RandomFlop"]))
    with pytest.raises(InputError, match=r"^INPUT\.RANDOM_FLIP: "):
        build_augmentation(demo_cfg(INPUT__AUGMENTATIONS=["RandomFlip"], INPUT__RANDOM_FLIP="none"))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (7, "7 is neither a name nor a pair"),
        (["RandomFlip"], "neither a name nor a pair"),
        (["RandomFlip", 0.5], "neither a name nor a pair"),
        (["RandomFlop", {}], "'RandomFlop' is not supported; use RandomFlip"),
        (
            ["RandomRotation", {"angel": 5}],
            "RandomRotation: has no argument 'angel'; it takes angle",
        ),
        (
            ["RandomRotation", {"expand": True}],
            "RandomRotation: lacks angle; it takes angle, expand",
        ),
        ("RandomExtent", "RandomExtent: lacks scale_range, shift_range"),
        (["RandomRotation", {"angle": "left"}], "RandomRotation: angle: 'left' cannot be used"),
        (["RandomRotation", {"angle": [1, 2, 3]}], "RandomRotation: angle: "),
        (["RandomRotation", {"angle": 1, "center": [1]}], "RandomRotation: center: "),
        (["RandomRotation", {"angle": 1, "interp": "best"}], "RandomRotation: interp: 'best' "),
        (["RandomRotation", {"angle": 1, "sample_style": "any"}], "sample_style: 'any' "),
        (["RandomContrast", {"intensity_min": 2, "intensity_max": 1}], "intensity_max: 1 "),
        (["RandomBrightness", {"intensity_min": "a", "intensity_max": 1}], "intensity_min: 'a' "),
        (["RandomLighting", {"scale": -1}], "scale: -1 "),
        (["RandomExtent", {"scale_range": [0, 1], "shift_range": [0, 0]}], "scale_range: "),
        (["RandomExtent", {"scale_range": [1, 2], "shift_range": 0}], "shift_range: 0 "),
        (["MinIoURandomCrop", {"min_ious": [2]}], "min_ious: "),
        (["MinIoURandomCrop", {"min_crop_size": 0}], "min_crop_size: 0 "),
        (["MinIoURandomCrop", {"crop_trials": 0}], "crop_trials: 0 "),
        (["FixedSizeCrop", {"crop_size": [5]}], "crop_size: "),
        (["FixedSizeCrop", {"crop_size": 5, "pad": 1}], "pad: 1 "),
        (["FixedSizeCrop", {"crop_size": 5, "seg_pad_value": 256}], "seg_pad_value: 256 "),
        (["RandomCrop", {"crop_type": "round", "crop_size": [1, 1]}], "crop_type: 'round' "),
        (["RandomCrop", {"crop_type": "absolute", "crop_size": [0, 1]}], "crop_size: "),
        (["RandomFlip", {"prob": 2}], "prob: 2 "),
        (["RandomFlip", {"vertical": True}], "vertical: True "),
        (["Resize", {"shape": [5, 0]}], "shape: "),
        (["Resize", {"shape": 5, "interp": 2}], "interp: 2 "),
        (["RandomResize", {"shape_list": []}], "shape_list: "),
        (["ResizeShortestEdge", {"short_edge_length": [5, 4]}], "short_edge_length: "),
        (["ResizeShortestEdge", {"short_edge_length": 5, "max_size": 0}], "max_size: 0 "),
        (["RandomApply", {"tfm_or_aug": "RandomFlip", "prob": -1}], "RandomApply: prob: -1 "),
        (
            ["RandomApply", {"tfm_or_aug": ["RandomFlip", {"p": 1}]}],
            "RandomApply: tfm_or_aug: RandomFlip: has no argument 'p'",
        ),
        (["AugmentationList", {"augs": []}], "AugmentationList: augs: [] "),
        (["AugmentationList", {"augs": "RandomFlip"}], "augs: 'RandomFlip' is not a list"),
        (
            ["AugmentationList", {"augs": [["Resize", {"shape": 0}]]}],
            "AugmentationList: augs: Resize: shape: 0 ",
        ),
        (
            [
                "RandomCrop_CategoryAreaConstraint",
                {
                    "crop_type": "absolute",
                    "crop_size": [5, 5],
                    "single_category_max_area": 0.5,
                },
            ],
            "needs semantic labels",
        ),
    ],
)
def test_entries_that_cannot_be_used(entry, message):
    with pytest.raises(InputError) as error:
        build_augmentation(demo_cfg(INPUT__AUGMENTATIONS=["RandomFlip", entry]))
    assert str(error.value).startswith("INPUT.AUGMENTATIONS: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_alone_stands_for_its_defaults():
    (augmentor,) = build_augmentation(demo_cfg(INPUT__AUGMENTATIONS=["MinIoURandomCrop"]))
    assert crops([augmentor])
    assert type(draw(augmentor, (40, 60), 1)[0]) is NoOpTransform  # nobody says where objects are


def test_arguments_go_to_what_a_user_registered():
    AUGMENTATIONS.add("Fitted", lambda factor: ResizeScale(1.0, 1.0, 100 // factor, 99))
    nested = ["RandomApply", {"tfm_or_aug": ["Fitted", {"factor": 5}]}]
    cfg = demo_cfg(INPUT__AUGMENTATIONS=[["Fitted", {"factor": 4}], nested])
    first, second = build_augmentation(cfg)
    assert (first.target_height, second.augmentor.target_height) == (25, 20)
    AUGMENTATIONS.add("Forwarded", lambda **arguments: ResizeScale(1.0, 1.0, **arguments))
    forwarded = ["Forwarded", {"target_height": 7, "target_width": 9}]
    (augmentor,) = build_augmentation(demo_cfg(INPUT__AUGMENTATIONS=[forwarded]))
    assert augmentor.target_height == 7
    with pytest.raises(InputError, match="'size'; it takes factor"):
        build_augmentation(demo_cfg(INPUT__AUGMENTATIONS=[["Fitted", {"size": 4}]]))


def test_boxes_are_around_the_turned_corners_of_each_transform():
    """Twice by 45 degrees is not once by 90: the box in between is larger."""
    from tfdetect.data.geometry import transform_boxes

    first = RotationTransform(100, 100, 45, expand=False)
    box = np.array([[40.0, 40, 60, 60]])
    around = 20 * 2**0.5 / 2
    once = transform_boxes(box, [first], (100, 100))
    np.testing.assert_allclose(once, [[50 - around, 50 - around, 50 + around, 50 + around]])
    np.testing.assert_allclose(
        transform_boxes(box, [first, first], (100, 100)), [[30, 30, 70, 70]], atol=1e-12
    )


def test_an_image_that_is_too_large_to_turn():
    transform = RotationTransform(1, 40000, 5, expand=False)
    with pytest.raises(InputError, match="40000 x 1 pixels is too large to be rotated"):
        transform.apply_image(np.zeros((1, 40000, 3), np.uint8))
