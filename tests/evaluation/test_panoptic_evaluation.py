"""Panoptic quality and mean IoU: against panopticapi, and against cases worked out by hand.

`panopticapi.json` has what COCO's panopticapi gave for `random_panoptic.make(folder, seed)`, from
the files that `to_result` and `write_results` made.
"""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support import random_panoptic
from tfdetect.data.images import read_image
from tfdetect.data.panoptic import read_panoptic, segment_colors, segment_ids
from tfdetect.data.sem_seg import SemSegFile
from tfdetect.detections import PanopticSegmentation, Segment
from tfdetect.errors import InputError
from tfdetect.evaluation import panoptic, semantic

RECORDED = json.loads(Path(__file__).with_name("panopticapi.json").read_text())


@pytest.mark.parametrize("seed", [0, 1])
def test_panopticapi_gives_the_same(tmp_path, seed):
    predictions = random_panoptic.make(tmp_path, seed)
    dataset = read_panoptic(tmp_path / "panoptic.json")
    results = [
        panoptic.to_result(prediction, dataset, image)
        for prediction, image in zip(predictions, dataset.images, strict=True)
    ]
    metrics = panoptic.evaluate(dataset, results)["panoptic_seg"]
    assert list(metrics)[:9] == list(panoptic.METRICS)
    # The same sums in the same order, in percent: rounding alone.
    assert metrics == pytest.approx(RECORDED[str(seed)], abs=1e-9)


def _dataset(tmp_path, ids, segments):
    """One image of things 1 and 3 and stuff 92; `segments` are (id, category, iscrowd)."""
    (tmp_path / "a").mkdir()
    Image.fromarray(segment_colors(ids)).save(tmp_path / "a" / "x.png")
    root = {
        "images": [{"id": 5, "file_name": "x.jpg", "height": ids.shape[0], "width": ids.shape[1]}],
        "categories": random_panoptic.CATEGORIES[:3],
        "annotations": [
            {
                "image_id": 5,
                "file_name": "x.png",
                "segments_info": [
                    {"id": i, "category_id": c, "iscrowd": crowd, "area": int((ids == i).sum())}
                    for i, c, crowd in segments
                ],
            }
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(root))
    return read_panoptic(tmp_path / "a.json")


def _found(ids, segments):
    """`segments` are (id, isthing, class)."""
    return PanopticSegmentation(
        ids.astype(np.int32),
        tuple(Segment(i, c, thing, int((ids == i).sum())) for i, thing, c in segments),
    )


def _quality(dataset, ids, segments):
    result = panoptic.to_result(_found(ids, segments), dataset, dataset.images[0])
    return panoptic.evaluate(dataset, [result])["panoptic_seg"]


def _stripes(*values):
    """10 rows and a stripe 10 pixels wide of each value."""
    return np.repeat(np.array(values), 10)[None].repeat(10, axis=0)


def test_one_of_each(tmp_path):
    truth = _stripes(70_000, 8, 9, 0)
    dataset = _dataset(tmp_path, truth, [(70_000, 1, 0), (8, 1, 0), (9, 92, 0)])
    # The first person to 8 of 10 columns, the second not at all, a car where nothing is
    # labelled, and the banner.
    found = np.where(np.arange(40) < 8, 1, _stripes(0, 0, 2, 3))
    metrics = _quality(dataset, found, [(1, True, 0), (2, False, 1), (3, True, 1)])
    assert metrics["PQ-person"] == pytest.approx(100 * 0.8 / 1.5)
    assert metrics["PQ-banner"] == pytest.approx(100)
    assert math.isnan(metrics["PQ-car"])
    assert metrics["SQ_th"] == pytest.approx(80)
    assert metrics["RQ_th"] == pytest.approx(100 / 1.5)
    assert metrics["PQ"] == pytest.approx((100 * 0.8 / 1.5 + 100) / 2)
    lines = panoptic.format_table({"panoptic_seg": metrics}).splitlines()
    assert lines[0].split() == ["task", *panoptic.METRICS]
    assert lines[-1].split() == ["banner", "100.00"]


def test_half_is_not_enough(tmp_path):
    dataset = _dataset(tmp_path, _stripes(1, 2), [(1, 1, 0), (2, 92, 0)])
    found = np.where(np.arange(20) < 5, 1, 0)[None].repeat(10, axis=0)
    assert _quality(dataset, found, [(1, True, 0)])["PQ-person"] == 0
    found[:, 5] = 1
    assert _quality(dataset, found, [(1, True, 0)])["PQ-person"] == pytest.approx(60)


def test_unlabelled_pixels_and_crowds_excuse(tmp_path):
    dataset = _dataset(tmp_path, _stripes(1, 0, 2), [(1, 1, 0), (2, 1, 1)])
    # The person and all that is unlabelled: the latter does not count.
    segments = [(1, True, 0)]
    assert _quality(dataset, _stripes(1, 1, 0), segments)["PQ-person"] == pytest.approx(100)
    # A second person within the crowd is not a mistake; a car there is one.
    segments = [(1, True, 0), (2, True, 0)]
    assert _quality(dataset, _stripes(1, 0, 2), segments)["PQ-person"] == pytest.approx(100)
    segments = [(1, True, 0), (2, True, 1)]
    assert _quality(dataset, _stripes(1, 0, 2), segments)["PQ-car"] == 0


def test_an_image_without_result_misses_everything(tmp_path):
    dataset = _dataset(tmp_path, _stripes(1, 2), [(1, 1, 0), (2, 92, 0)])
    metrics = panoptic.evaluate(dataset, [])["panoptic_seg"]
    assert metrics["PQ"] == 0


def test_result_files(tmp_path):
    dataset = _dataset(tmp_path, _stripes(1, 2), [(1, 1, 0), (2, 92, 0)])
    found = _stripes(1, 300)
    # The last is without a pixel.
    segments = [(1, True, 1), (300, False, 1), (4, True, 0)]
    result = panoptic.to_result(_found(found, segments), dataset, dataset.images[0])
    png = np.asarray(Image.open(io.BytesIO(result["png"])))
    np.testing.assert_array_equal(segment_ids(png), found)
    path = panoptic.write_results(tmp_path / "out", [result])
    segments = [{"id": 1, "category_id": 3}, {"id": 300, "category_id": 92}]
    assert json.loads(path.read_text()) == {
        "annotations": [{"image_id": 5, "file_name": "x.png", "segments_info": segments}]
    }
    written = read_image(tmp_path / "out" / "panoptic" / "x.png", "RGB")
    np.testing.assert_array_equal(segment_ids(written), found)


def test_the_classes_of_another_model_are_named(tmp_path):
    dataset = _dataset(tmp_path, _stripes(1, 2), [(1, 1, 0), (2, 92, 0)])
    for thing, label in ((True, 2), (False, 2)):
        with pytest.raises(InputError, match=r"a\.json: has 2 categories"):
            _quality(dataset, _stripes(1, 1), [(1, thing, label)])
    with pytest.raises(InputError, match=r"a\.json: has 2 classes of stuff"):
        semantic.to_results(_stripes(0, 2), 5, dataset.stuff_ids, dataset.path)
    result = panoptic.to_result(_found(_stripes(0, 0), []), dataset, dataset.images[0])
    with pytest.raises(InputError, match=r"a\.json: has no image with id 6"):
        panoptic.evaluate(dataset, [{**result, "image_id": 6}])


def _measure(dataset, results):
    truth = {
        image.id: SemSegFile(image.label_file, segments=image, stuff_ids=dataset.stuff_ids).read
        for image in dataset.images
    }
    return semantic.evaluate(truth, results, dataset.stuff_ids, dataset.stuff_names)


def test_mean_iou(tmp_path):
    # A thing, 20 columns of banner, 10 unlabelled.
    dataset = _dataset(tmp_path, _stripes(1, 2, 2, 0), [(1, 1, 0), (2, 92, 0)])
    results = semantic.to_results(_stripes(0, 0, 1, 1), 5, dataset.stuff_ids, dataset.path)
    assert [result["category_id"] for result in results] == [0, 92]
    metrics = _measure(dataset, results)["sem_seg"]
    assert metrics == pytest.approx(
        {
            "mIoU": 50,
            "fwIoU": 50,
            "mACC": 75,
            "pACC": 200 / 3,
            "IoU-things": 50,
            "IoU-banner": 50,
            "ACC-things": 100,
            "ACC-banner": 50,
        }
    )
    table = semantic.format_table({"sem_seg": metrics})
    assert table.splitlines()[0].split() == ["task", *semantic.METRICS]


def test_no_semantic_result_and_absent_classes(tmp_path):
    dataset = _dataset(tmp_path, _stripes(1, 0), [(1, 1, 0)])
    assert math.isnan(_measure(dataset, [])["sem_seg"]["mIoU"])
    results = semantic.to_results(_stripes(1, 1), 5, dataset.stuff_ids, dataset.path)
    metrics = _measure(dataset, results)["sem_seg"]
    # The banner is not there: its IoU is unknown, though it was predicted.
    assert (metrics["mIoU"], metrics["IoU-things"]) == (0, 0)
    assert math.isnan(metrics["IoU-banner"])
