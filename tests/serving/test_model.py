"""From the bytes of a file to its answer: exactly what `tfdetect predict` gives."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.support.batch import QuickPredictor
from tests.support.paths import DEMO
from tests.support.predictors import shared_predictor
from tfdetect.cli.prediction_file import PredictionFile
from tfdetect.data.images import read_image
from tfdetect.detections import PanopticSegmentation, Segment
from tfdetect.errors import InputError
from tfdetect.serving.answers import Rejected
from tfdetect.serving.model import ServedModel

IMAGES = [DEMO / "images" / f"00000{index}.jpg" for index in range(5)]
PIXELS = 2**20
RGB = np.random.default_rng(0).integers(0, 256, [40, 60, 3], np.uint8)


@pytest.fixture
def quick(model_dir):
    return ServedModel(QuickPredictor(model_dir), PIXELS)


def encode(format, image=None, **options):
    file = io.BytesIO()
    (image or Image.fromarray(RGB)).save(file, format, **options)
    return file.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


FILES = {
    "jpeg": encode("JPEG"),
    "progressive": encode("JPEG", progressive=True),
    "cmyk": encode("JPEG", Image.fromarray(RGB).convert("CMYK")),
    "turned": encode("JPEG", exif=exif(6)),
    "damaged exif": encode("JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"),
    "png": encode("PNG"),
    "16 bit": encode("PNG", Image.fromarray(RGB[:, :, 0].astype(np.uint16) * 257)),
    "alpha": encode("PNG", Image.fromarray(np.dstack([RGB, RGB[:, :, 0]]))),
    "palette": encode("PNG", Image.fromarray(RGB).quantize(9)),
    "grey": encode("PNG", Image.fromarray(RGB[:, :, 0])),
    "animation": encode(
        "GIF", save_all=True, append_images=[Image.fromarray(255 - RGB)], duration=10
    ),
    "webp": encode("WEBP", lossless=True),
    "tiff": encode("TIFF"),
    "bmp": encode("BMP"),
}


@pytest.mark.parametrize("kind", FILES)
def test_the_pixels_of_predict(quick, kind, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(FILES[kind])
    np.testing.assert_array_equal(quick.decode(FILES[kind]), read_image(path))


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff", "animation"])
def test_damaged(quick, kind):
    """Whatever is cut off or changed: pixels as predict has them, or status 400 in one line."""
    content = FILES[kind]
    generator = np.random.default_rng(1)
    for cut in generator.integers(1, len(content), 20):
        _try(quick, content[:cut])
    for _ in range(20):
        changed = bytearray(content)
        for place in generator.integers(0, len(content), 4):
            changed[place] = generator.integers(0, 256)
        _try(quick, bytes(changed))


def _try(quick, content):
    try:
        result = quick.decode(content)
    except Rejected as rejected:
        result = rejected
    if isinstance(result, Rejected):
        assert result.status in (400, 413)
        assert len(str(result).splitlines()) == 1
    else:
        assert result.dtype == np.uint8


@pytest.mark.parametrize(
    "content", [b"x", b"GIF89a", b"\0" * 5000, "ä".encode(), b"%!PS-Adobe-3.0"]
)
def test_not_an_image(quick, content):
    with pytest.raises(Rejected, match="the body") as raised:
        quick.decode(content)
    assert raised.value.status == 400


def test_too_many_pixels(quick):
    """Known before they are decoded; also what Pillow does not open at all."""
    png = bytearray(encode("PNG"))
    for side in (1025, 50_000):
        png[16:24] = side.to_bytes(4, "big") * 2
        png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
        with pytest.raises(Rejected, match=f"more than {PIXELS} pixels") as raised:
            quick.decode(bytes(png))
        assert raised.value.status == 413
    black = encode("PNG", Image.new("L", (1024, 1024)))
    assert quick.decode(black).shape == (1024, 1024, 3)
    with pytest.raises(Rejected):
        quick.decode(encode("PNG", Image.new("L", (1024, 1025))))


def test_an_image_that_fails_does_not_fail_others(quick, model_dir):
    predictor = QuickPredictor(model_dir)
    predictor.failing = {30: InputError("too\nlarge"), 31: MemoryError("no memory")}
    model = ServedModel(predictor, PIXELS)
    images = [("", np.zeros([20, width, 3], np.uint8)) for width in (29, 30, 31, 32)]
    answers = model.predict(images)
    assert [one.status for one in answers] == [200, 400, 500, 200]
    assert json.loads(answers[1].body) == {"error": "too large"}
    assert json.loads(answers[2].body) == {"error": "MemoryError: no memory"}
    assert json.loads(answers[3].body)["scores"] == [pytest.approx(0.032)]
    assert [one.batch for one in answers] == [4, 0, 0, 0]
    assert answers[0].memory > 0


def test_the_record_of_predict(model_dir, tmp_path):
    """Alone to the last bit. In a batch TensorFlow's sums have another order: boxes, masks and
    keypoints were equal, scores within 1.2e-7 (docs/serving.md)."""
    predictor = shared_predictor(model_dir)
    with PredictionFile(tmp_path / "x.json") as file:
        for path in IMAGES:
            file.add(path.name, predictor(read_image(path)))
        file.finish()
    expected = json.loads((tmp_path / "x.json").read_bytes())
    model = ServedModel(predictor, PIXELS)
    images = [(path.name, model.decode(path.read_bytes())) for path in IMAGES]
    alone = [json.loads(model.predict([one])[0].body) for one in images]
    assert alone == expected
    together = [json.loads(answer.body) for answer in model.predict(images)]
    for one, other in zip(together, expected, strict=True):
        np.testing.assert_allclose(one.pop("scores"), other.pop("scores"), rtol=0, atol=1e-6)
        for key, tolerance in (("pred_boxes", 6.1e-5), ("pred_keypoints", 6.1e-5)):
            np.testing.assert_allclose(one.pop(key), other.pop(key), rtol=0, atol=tolerance)
        assert one == other


def test_segmentations(model_dir):
    """Maps are in the answer; PNGs of ids in base64, in COCO's form."""
    ids = np.zeros([20, 30], np.int32)
    ids[:, 10:], ids[:, 20:] = 1, 300
    segments = (Segment(1, 2, True, 200, 0.5, 0), Segment(300, 1, False, 200))

    class Segmenting(QuickPredictor):
        def predict_batch(self, images):
            return [
                dataclasses.replace(
                    found, sem_seg=ids % 7, panoptic=PanopticSegmentation(ids, segments)
                )
                for found in super().predict_batch(images)
            ]

    model = ServedModel(Segmenting(model_dir), PIXELS)
    record = json.loads(model.predict([("", np.zeros([20, 30, 3], np.uint8))])[0].body)
    png = Image.open(io.BytesIO(base64.b64decode(record["panoptic_seg"])))
    np.testing.assert_array_equal(np.asarray(png).astype(int) @ [1, 256, 65536], ids)
    assert [one["id"] for one in record["segments_info"]] == [1, 300]
    assert [one["category_id"] for one in record["sem_seg"]] == [0, 1, 6]


def test_description(quick):
    found = json.loads(json.dumps(quick.describe()))
    assert found["class_names"] == ["person", "circle", "square", "triangle"]
    assert len(found["keypoint_names"]) == 17


def test_warm_up(model_dir):
    predictor = QuickPredictor(model_dir)
    ServedModel(predictor, PIXELS).warm_up(4)
    assert predictor.widths == [640] * 5
