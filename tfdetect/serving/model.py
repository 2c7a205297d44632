"""The model of a server: from the bytes of images to JSON."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdetect.batch.parts import model_metadata
from tfdetect.data.images import declared_pixels, decode_image
from tfdetect.data.prediction_record import panoptic_png, prediction_to_dict
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.inference.batches import predict_each
from tfdetect.serving.answers import Answer, Rejected, error_body

if TYPE_CHECKING:
    from tfdetect.inference.predictor import Predictor

_WARM_UP = (480, 640)


class ServedModel:
    """A predictor that answers requests.

    Args:
        predictor: the model.
        max_pixels: of an image, as its header says; larger ones are not decoded.
    """

    def __init__(self, predictor: Predictor, max_pixels: int):
        self._predictor = predictor
        self._max_pixels = max_pixels
        self._name = f"{os.uname().nodename}:{os.getpid()}"

    def warm_up(self, batch_size: int) -> None:
        """Predict grey images, alone and in a batch, so that no client waits for the first run."""
        grey = np.full((*_WARM_UP, 3), 128, np.uint8)
        for size in sorted({1, batch_size}):
            self._predictor.predict_batch([grey] * size)

    def describe(self) -> dict[str, Any]:
        """What a client has to know of the model, for JSON."""
        return model_metadata(self._predictor)

    def decode(self, content: bytes) -> np.ndarray:
        """The image in a request, uint8 [H, W, 3] BGR, as `tfdetect predict` reads a file.

        Raises:
            Rejected: it is not an image, is damaged, or has too many pixels.
        """
        pixels = declared_pixels(content)
        if pixels is not None and pixels > self._max_pixels:
            raise Rejected(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the image has more than {self._max_pixels} pixels; make it smaller",
            )
        try:
            return decode_image(content, "the body")
        except InputError as error:
            raise Rejected(HTTPStatus.BAD_REQUEST, str(error)) from error

    def predict(self, images: Sequence[tuple[str, np.ndarray]]) -> list[Answer]:
        """The answers to several requests, which go through the network together.

        Args:
            images: file name in the record, and pixels, uint8 [H, W, 3] BGR, of each.
        """
        results = predict_each(self._predictor, [image for _, image in images])
        memory = _resident_bytes()
        answers: list[Answer] = []
        for (file_name, _), result in zip(images, results, strict=True):
            status, body = _to_json(file_name, result)
            batch = 0 if answers else len(images)
            answers.append(Answer(status, body, batch, self._name, memory))
        return answers


def _to_json(file_name: str, result: Detections | Exception) -> tuple[int, bytes]:
    if isinstance(result, InputError):
        return HTTPStatus.BAD_REQUEST, error_body(" ".join(str(result).split()))
    if isinstance(result, Exception):
        text = f"{type(result).__name__}: {result}"
        return HTTPStatus.INTERNAL_SERVER_ERROR, error_body(" ".join(text.split())[:1000])
    record = prediction_to_dict(file_name, result)
    if result.panoptic is not None:
        record["panoptic_seg"] = base64.b64encode(panoptic_png(result.panoptic)).decode("ascii")
    return HTTPStatus.OK, json.dumps(record, allow_nan=False).encode()


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
