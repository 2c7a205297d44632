"""Predictor from Python: wrong arguments, extreme shapes, forked and spawned workers."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import resource

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.support.paths import DEMO
from tests.support.predictors import shared_predictor
from tfdetect import Predictor
from tfdetect.data.images import read_image
from tfdetect.detections import Detections, PanopticSegmentation, Segment
from tfdetect.errors import InputError

FILE = DEMO / "images" / "000001.jpg"
IMAGE = read_image(FILE)


@pytest.fixture(scope="module")
def predictor(model_dir):
    return shared_predictor(model_dir)


class Tensor:
    """As much of a tensor of PyTorch's as is looked at."""

    shape = (3, 20, 30)
    dtype = "torch.float32"

    def __iter__(self):
        return iter([self] * 3)

    def numpy(self):
        raise AssertionError("nobody asked for this")


WRONG = {
    "None": (None, "None", "cv2.imread returns None"),
    "str": (str(FILE), f"the path {str(FILE)!r}", "read the file first"),
    "Path": (FILE, "the path", "read the file first"),
    "bytes": (b"\xff\xd8\xff", "the path", "read the file first"),
    "PIL": (Image.new("RGB", (30, 20)), "PIL.Image.Image", 'image.convert("RGB")'),
    "PIL grey": (Image.new("L", (30, 20)), "PIL.Image.Image", 'image.convert("RGB")'),
    "number": (3, "a int", ""),
    "dict": ({"image": IMAGE}, "a dict", ""),
    "grey": (IMAGE[:, :, 0], "uint8 [", "it is greyscale"),
    "grey with an axis": (IMAGE[:, :, :1], "1]", "it is greyscale"),
    "CHW": (IMAGE.transpose(2, 0, 1), "uint8 [3, ", "channels come first"),
    "RGBA": (np.zeros([20, 30, 4], np.uint8), "uint8 [20, 30, 4]", "four channels"),
    "float": (IMAGE / 255, "float64 [", "from 0 to 255"),
    "float32": (IMAGE.astype(np.float32), "float32 [", "from 0 to 255"),
    "int64": (IMAGE.astype(int), "int64 [", "from 0 to 255"),
    "bool": (IMAGE > 9, "bool [", "from 0 to 255"),
    "no rows": (IMAGE[:0], "uint8 [0, ", "no pixels"),
    "no columns": (IMAGE[:, :0], ", 0, 3]", "no pixels"),
    "five channels": (np.zeros([20, 30, 5], np.uint8), "uint8 [20, 30, 5]", ""),
    "flat": (IMAGE.reshape(-1), "uint8 [", ""),
    "tensor": (Tensor(), "a Tensor, torch.float32 [3, 20, 30]", "NumPy"),
    "TensorFlow's": (tf.zeros([20, 30, 3], tf.uint8), "Tensor", "NumPy"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_image(predictor, name):
    """Alone, among others and in `predict_batch` one line names the argument and what it was."""
    value, given, advice = WRONG[name]
    calls = [
        ("images", lambda: predictor(value)),
        ("images[1]", lambda: predictor([IMAGE, value])),
        ("images[0]", lambda: predictor.predict_batch((value,))),
    ]
    for argument, call in calls:
        with pytest.raises(InputError) as raised:
            call()
        (line,) = str(raised.value).splitlines()
        assert line.startswith(f"{argument}: expected a uint8 [H, W, 3] array in BGR order, got ")
        assert given in line
        assert advice in line
    with pytest.raises(InputError, match="images"):
        predictor.predict_batch(value)


def test_what_is_an_image(predictor):
    """Any memory order, several in whatever holds them."""
    expected = predictor(IMAGE).boxes
    padded = np.pad(IMAGE, [[0, 5], [0, 7], [0, 0]])
    objects = np.empty([2], object)
    objects[:] = [IMAGE, IMAGE]
    same = [
        predictor(np.asfortranarray(IMAGE)),
        predictor(padded[: IMAGE.shape[0], : IMAGE.shape[1]]),
        predictor(IMAGE[:, :, ::-1].copy()[:, :, ::-1]),
        *predictor(image for image in [IMAGE]),
        *predictor(IMAGE[None]),
        *predictor(objects),
    ]
    for found in same:
        np.testing.assert_allclose(found.boxes, expected, atol=1e-4)
    assert predictor(iter([])) == []
    assert predictor(np.zeros([0, 8, 8, 3], np.uint8)) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None,), "directory: expected the path of a model, got None"),
        ((7,), "directory: expected the path of a model, got a int"),
        (("nowhere",), "nowhere: is not a model directory"),
        (("MODEL", "tpu"), "device tpu"),
        (("MODEL", 0), "device 0"),
        (("MODEL", None, "none"), "padding 'none'"),
        (("MODEL", None, "own", "float16"), "dtype 'float16'"),
    ],
)
def test_what_is_no_predictor(model_dir, arguments, message):
    arguments = [model_dir if word == "MODEL" else word for word in arguments]
    with pytest.raises(InputError, match=message):
        Predictor(*arguments)


def test_proposals_that_are_not_wanted(predictor):
    with pytest.raises(InputError, match="proposals: this model generates its own"):
        predictor(IMAGE, np.zeros([3, 4]))


def test_extreme_shapes_in_a_batch(predictor):
    """Each gets what it gets alone, and memory is that of the network's input sizes."""
    rng = np.random.default_rng(0)
    shapes = [(1, 20000), (20000, 1), (3, 9000)]
    images = [rng.integers(0, 255, [*shape, 3], np.uint8) for shape in shapes]
    predictor(IMAGE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    together = predictor(images)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500e3  # KB
    for found, image in zip(together, images, strict=True):
        alone = predictor(image)
        assert (found.height, found.width) == image.shape[:2]
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-3)


def in_fork(function, queue):
    try:
        queue.put(function())
    except Exception as error:
        queue.put(f"{type(error).__name__}: {error}")


@pytest.mark.parametrize("what", ["made before", "made in the worker"])
def test_a_forked_worker_is_told(predictor, model_dir, what):
    predictor(IMAGE)
    work = {
        "made before": lambda: predictor(IMAGE),
        "made in the worker": lambda: Predictor(model_dir),
    }
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    worker = context.Process(target=in_fork, args=(work[what], queue))
    worker.start()
    said = queue.get()
    worker.join(60)
    assert said.startswith("InputError: Predictor: this process was forked")
    assert len(predictor(IMAGE)) > 0  # the parent goes on


def test_pickled_by_its_directory(predictor, model_dir, monkeypatch):
    monkeypatch.chdir(model_dir.parent)
    other = pickle.loads(pickle.dumps(Predictor(model_dir.name, "cpu", "detectron2")))  # noqa: S301
    monkeypatch.chdir("/")
    again = pickle.dumps(other)
    assert len(again) < 1000
    assert os.fsencode(model_dir) in again
    np.testing.assert_array_equal(other(IMAGE).boxes, predictor(IMAGE).boxes)
    held = Predictor.of_model(predictor.cfg, predictor._pipeline.model, predictor.metadata)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(held)


@pytest.mark.full
def test_a_spawned_worker(predictor, model_dir):
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        (found,) = pool.map(predictor, [IMAGE])
    np.testing.assert_array_equal(found.boxes, predictor(IMAGE).boxes)


@pytest.mark.parametrize("count", [0, 1, 300])
def test_repr_fits_on_a_screen(count):
    found = Detections(
        480,
        640,
        np.zeros([count, 4], np.float32),
        np.linspace(1, 0.5, count, dtype=np.float32),
        np.arange(count),
        np.zeros([count, 480, 640], bool),
        np.zeros([count, 17, 3], np.float32),
        sem_seg=np.zeros([480, 640], np.int32),
        panoptic=PanopticSegmentation(
            np.zeros([480, 640], np.int32), tuple(Segment(n, n, False, 9) for n in range(50))
        ),
    )
    for shown in (repr(found), repr(found.panoptic), str(found)):
        assert len(shown) < 200
        assert "\n" not in shown
    assert f"{count} in 480 x 640" in repr(found)
