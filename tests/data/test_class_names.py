"""Which class of a model is which of a data set, by name and by position."""

from __future__ import annotations

import numpy as np
import pytest

from tfdetect.config import get_cfg
from tfdetect.data.class_names import distinct_names, match_classes, reorder
from tfdetect.errors import InputError
from tfdetect.training.class_order import reorder_classes

MODEL = ["person", "circle", "square", "triangle"]


@pytest.mark.parametrize(
    ("model", "data", "used", "indices", "said"),
    [
        (MODEL, MODEL, {0, 1}, (0, 1, 2, 3), None),
        (MODEL, ["shapes", *MODEL], {1, 2}, (1, 2, 3, 4), "shapes of the annotations has no"),
        (MODEL, MODEL[::-1], {0, 1, 2, 3}, (3, 2, 1, 0), "'person' 0 -> 3"),
        (MODEL, ["square"], {0}, (None, None, 0, None), "person, circle, triangle are left out"),
        (MODEL, ["Square ", "PERSON"], {0, 1}, (1, None, 0, None), "'person' ('PERSON') 0 -> 1"),
        (["traffic light"], ["traffic_light"], {0}, (0,), "'traffic light' ('traffic_light')"),
        # Exact text comes first, so that names that differ only in case can be told apart.
        (["a", "A"], ["A", "a"], {0, 1}, (1, 0), "'a' 0 -> 1"),
        # Equal names are not question where all is as it was.
        (["a", "a", "b"], ["a", "a", "b"], {0, 1, 2}, (0, 1, 2), None),
        # Placeholder names do not count as names.
        (["class 0", "class 1"], ["a", "b"], {0, 1}, (0, 1), "matched by position"),
        (["a", "b"], ["class 0", "class 1"], {0, 1}, (0, 1), "matched by position"),
        # Outputs that a training did not use.
        (["a", "b", "class 2"], ["b", "a"], {0, 1}, (1, 0, None), "class 2 are left out"),
        ([], ["a", "b"], {0, 1}, (0, 1), None),
    ],
)
def test_match(model, data, used, indices, said):
    match = match_classes("x.json", model, data, used)
    assert match.indices == indices
    if said is None:
        assert match.note is None
    else:
        assert match.note.startswith("x.json: ")
        assert said in match.note
        assert "\n" not in match.note


@pytest.mark.parametrize(
    ("model", "data", "used", "message"),
    [
        (MODEL, ["cat", "person"], {0, 1}, "has the classes cat, which the model does not have"),
        (MODEL, ["cat", "dog"], set(), "cat, dog, which the model does not have"),
        (["a", "b"], ["a", "b", "a"], {0, 1, 2}, "'a' names more than one class"),
        (["a", "a", "b"], ["b", "a"], {0, 1}, "'a' names more than one class"),
        (["class 0", "class 1"], ["a", "b", "c"], {0}, "the model has no names to match by"),
        (["a", "b"], ["class 0"], {0}, "the annotations has no names"),
    ],
)
def test_contradictions(model, data, used, message):
    with pytest.raises(InputError, match=message) as info:
        match_classes("x.json", model, data, used)
    assert str(info.value).startswith("x.json: ")


def test_many_names_are_not_all_listed():
    names = [f"name {index}" for index in range(1000)]
    assert len(match_classes("x.json", names, names[::-1], range(1000)).note) < 500
    with pytest.raises(InputError) as info:
        match_classes("x.json", names, ["other"], {0})
    assert len(str(info.value)) < 500


@pytest.mark.parametrize(
    ("model", "data", "order"),
    [
        (MODEL, MODEL, None),
        (MODEL, ["circle", "person", "square", "triangle"], [1, 0, 2, 3]),
        # What is new continues from what is left.
        (MODEL, ["triangle", "star", "person", "Square"], [3, 1, 0, 2]),
        (MODEL, ["cat", "dog", "cow", "pig"], None),
        (MODEL, MODEL[:3], None),
        (["class 0", "class 1"], ["b", "a"], None),
    ],
)
def test_reorder(model, data, order):
    assert reorder(model, data) == order


def test_distinct_names():
    assert distinct_names(["a", "b", "a"], [1, 2, 7]) == ["a (id 1)", "b", "a (id 7)"]


def test_weights_of_classes_in_another_order():
    """A predictor of reordered weights gives the reordered outputs, of 3 classes."""
    order = [2, 0, 1]
    rng = np.random.default_rng(0)
    shapes = {
        "roi_heads.box_predictor.cls_score.weight": (8, 4),
        "roi_heads.box_predictor.1.cls_score.bias": (4,),
        "roi_heads.box_predictor.bbox_pred.weight": (8, 12),
        "roi_heads.mask_head.predictor.weight": (1, 1, 8, 3),
        "head.cls_score.weight": (3, 3, 8, 27),
        "head.bbox_pred.weight": (3, 3, 8, 36),
        "roi_heads.box_predictor.0.bbox_pred.bias": (4,),
        "backbone.stem.conv1.weight": (7, 7, 3, 3),
    }
    arrays = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    found = reorder_classes(arrays, order, get_cfg())
    for name, array in arrays.items():
        assert found[name].shape == array.shape
    scores, one = "roi_heads.box_predictor.cls_score.weight", "roi_heads.box_predictor.1"
    np.testing.assert_array_equal(found[scores], arrays[scores][:, [2, 0, 1, 3]])
    np.testing.assert_array_equal(
        found[f"{one}.cls_score.bias"], arrays[f"{one}.cls_score.bias"][[2, 0, 1, 3]]
    )
    deltas = "roi_heads.box_predictor.bbox_pred.weight"
    for index, source in enumerate(order):
        np.testing.assert_array_equal(
            found[deltas][:, 4 * index : 4 * index + 4],
            arrays[deltas][:, 4 * source : 4 * source + 4],
        )
    masks = "roi_heads.mask_head.predictor.weight"
    np.testing.assert_array_equal(found[masks], arrays[masks][..., order])
    dense = "head.cls_score.weight"
    for anchor in range(9):
        columns = [3 * anchor + source for source in order]
        np.testing.assert_array_equal(
            found[dense][..., 3 * anchor : 3 * anchor + 3], arrays[dense][..., columns]
        )
    for name in list(shapes)[5:]:
        np.testing.assert_array_equal(found[name], arrays[name])
