"""Prediction from Python."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.checkpoint.model_dir import load_model
from tfdetect.config.capabilities import capabilities
from tfdetect.detections import Detections, PanopticSegmentation, Segment
from tfdetect.errors import InputError
from tfdetect.inference import forks
from tfdetect.inference.given import check_image, describe, is_one_image, read_boxes
from tfdetect.inference.optimization import optimize
from tfdetect.inference.pasted_masks import paste_encoded
from tfdetect.inference.pipeline import Pipeline
from tfdetect.inference.slices import Slices, check_slices, predict_slices
from tfdetect.inference.tf32 import warn_of_tf32
from tfdetect.inference.tta import TTAPipeline
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.modeling.conventions import conventions
from tfdetect.modeling.keypoint_flip import keypoint_flip
from tfdetect.ops.backend import DTYPES, Backend
from tfdetect.ops.paste_masks import paste_masks

# Pixels of a batch, all padding included, from which it is worth a look at how much of it is that.
_LARGE_BATCH = 2**24


class Predictor:
    """Detect objects in images with a converted model.

    >>> predictor = Predictor("models/mask_rcnn")
    >>> detections = predictor(cv2.imread("street.jpg"))
    >>> detections.boxes, detections.scores, detections.classes, detections.masks

    Processes: TensorFlow does not survive a fork, so a predictor is made in the process that uses
    it. A forked worker gets an error of one that was made before (gunicorn --preload,
    multiprocessing by "fork"). It can be pickled, by its directory and its other arguments: a
    worker that is spawned loads the model again.

    With TEST.AUG.ENABLED in the model's configuration or in `opts` every prediction is of several
    augmented images (test-time augmentation): see `TTAPipeline`.

    A model of semantic or panoptic segmentation gives `detections.sem_seg` and
    `detections.panoptic` too.

    Args:
        directory: what `tfdetect convert` wrote.
        device: a TensorFlow device such as "cpu", "gpu" or "gpu:1"; None leaves it to TensorFlow,
            which takes a GPU where there is one. The operators are those for this device.
        padding: of the images of a batch, "own" or "detectron2": see `Pipeline`.
        dtype: of weights and features, "float32" or "bfloat16"; boxes and scores are float32.
        opts: [KEY, VALUE, ...], keys of the model's configuration that affect prediction only, such
            as MODEL.ROI_HEADS.SCORE_THRESH_TEST and INPUT.MIN_SIZE_TEST.
        slices: predict large images in overlapping slices, `Slices(1024, overlap=0.2)`, and merge
            what is found in them, so that small objects are seen and memory is bounded. Images
            that fit into one slice get what they get without.

    Attributes:
        cfg: the model's configuration.
        metadata: of the model's directory.
        capabilities: what the model takes and gives.
        class_names: the name of each class of the detections.
        stuff_class_names: the name of each class of the semantic segmentation; empty without one.
        stuff_colors: (red, green, blue) of each of them, or None where no data set gives them.
        keypoint_names: the name of each keypoint, or None.
        keypoint_connections: pairs of keypoint indices that are drawn joined.
        keypoint_classes: the classes that have keypoints, or None where that is not known.

    Raises:
        InputError: the directory holds no usable model, `opts` cannot be used, or there is no such
            device, padding or dtype; or the model's results cannot be put together from slices.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        device: str | None = None,
        padding: str = "own",
        dtype: str = "float32",
        opts: Sequence[Any] = (),
        slices: Slices | None = None,
    ):
        if not isinstance(directory, (str, os.PathLike)):
            raise InputError(f"directory: expected the path of a model, got {describe(directory)}")
        if dtype not in DTYPES:
            raise InputError(f"dtype {dtype!r}: it is {' or '.join(DTYPES)}")
        forks.require_no_fork()
        place = None if device is None else _find_device(device)
        with tf.device(place):
            cfg, model, metadata = load_model(directory, opts)
            backend = Backend.for_device(place, dtype=dtype)
            model = optimize(model, backend)
            self._set_up(cfg, model, metadata, backend, place, padding, slices)
        # What another process makes the same predictor of.
        arguments = (os.path.abspath(directory), device, padding, dtype, tuple(opts), slices)
        self._arguments: tuple[Any, ...] | None = arguments

    @classmethod
    def of_model(
        cls,
        cfg: CfgNode,
        model: tf.Module,
        metadata: dict[str, Any],
        backend: Backend | None = None,
        slices: Slices | None = None,
    ) -> Predictor:
        """A predictor with a model in memory.

        Args:
            cfg: what the model was built from.
            model: of `build_model`, whose weights may go on changing; or what `optimize` makes of
                it for `backend`, which is faster.
            metadata: as in a model directory.
            backend: None for this machine's, `Backend.for_device()`.
            slices: as the constructor's.
        """
        predictor = cls.__new__(cls)
        predictor._arguments = None
        backend = backend or Backend.for_device()
        predictor._set_up(cfg, model, metadata, backend, None, "own", slices)
        return predictor

    def __reduce__(self) -> tuple[type[Predictor], tuple[Any, ...]]:
        if self._arguments is None:
            raise TypeError("a Predictor of a model in memory cannot be pickled: save the model")
        return Predictor, self._arguments

    def _set_up(
        self,
        cfg: CfgNode,
        model: tf.Module,
        metadata: dict[str, Any],
        backend: Backend,
        device: str | None,
        padding: str,
        slices: Slices | None,
    ) -> None:
        self.cfg = cfg
        self.metadata = metadata
        forks.tensorflow_runs()
        self._device = device
        warn_of_tf32(cfg, backend)
        if cfg.TEST.AUG.ENABLED:
            flip = keypoint_flip(metadata)
            self._pipeline: Any = TTAPipeline(cfg, model, backend, padding, flip)
        else:
            self._pipeline = Pipeline(cfg, model, backend, padding)
        self.capabilities = capabilities(cfg)
        if slices is not None:
            check_slices(self.capabilities)
        self._slices = slices
        self._may_part = self.capabilities.has_semantic and padding == "own"
        self.class_names: list[str] = self.metadata["class_names"]
        self.stuff_class_names: list[str] = self.metadata.get("stuff_class_names") or []
        self.stuff_colors: list[tuple[int, int, int]] | None = self.metadata.get("stuff_colors")
        self.keypoint_names: list[str] | None = self.metadata.get("keypoint_names")
        self.keypoint_connections: list[tuple[int, int]] = [
            (first, second) for first, second in self.metadata.get("keypoint_connections") or []
        ]
        # Classes without keypoints get some from the head as well; they mean nothing.
        self.keypoint_classes: list[int] | None = self.metadata.get("keypoint_classes")
        self._conventions = conventions(cfg)
        self._paste = tf.function(
            functools.partial(
                backend.active()(profile_scope("paste_masks")(paste_masks)),
                as_images=self._conventions.masks_as_images,
            ),
            autograph=False,
            input_signature=[
                tf.TensorSpec([None, None, None]),
                tf.TensorSpec([None, 4]),
                tf.TensorSpec([2], tf.int32),
            ],
        )

    def __call__(
        self,
        images: np.ndarray | Sequence[np.ndarray],
        proposals: np.ndarray | Sequence[np.ndarray] | None = None,
    ) -> Detections | list[Detections]:
        """Detect.

        Args:
            images: one uint8 [H, W, 3] array in BGR order (as `cv2.imread` gives), or several of
                any sizes, of which those of like sizes go through the network together; each gets
                what it gets alone. A uint8 [N, H, W, 3] array is several. Nothing else is accepted
                as an image: a file is read first (`tfdetect.data.images.read_image`), and a PIL
                image, whose channels have another order, is
                np.asarray(image.convert("RGB"))[:, :, ::-1].
            proposals: of each image float [P, 4], (x1, y1, x2, y2) in its pixels, the best first;
                for a model with MODEL.PROPOSAL_GENERATOR.NAME PrecomputedProposals, and only there.

        Returns:
            Its detections, or a list of the detections of each.

        Raises:
            InputError: an image or its proposals are of another type or shape, or proposals are
                missing, or given although the model does not take them.
        """
        several: Any = images
        given: Any = proposals
        if not is_one_image(images):
            return self.predict_batch(several, given)
        check_image("images", images)
        return self.predict_batch([several], None if given is None else [given])[0]

    def predict_batch(
        self, images: Sequence[np.ndarray], proposals: Sequence[np.ndarray] | None = None
    ) -> list[Detections]:
        """The detections of each of several images; see `__call__`."""
        if is_one_image(images):
            raise InputError(f"images: expected a list of images, got {describe(images)}")
        images = list(images)
        for index, image in enumerate(images):
            check_image(f"images[{index}]", image)
        forks.require_no_fork()
        boxes = self._check_proposals(len(images), proposals)
        if self._slices is not None:
            return [predict_slices(self._predict_whole, image, self._slices) for image in images]
        return self._predict_whole(images, boxes)

    def _predict_whole(
        self, images: list[np.ndarray], boxes: list[np.ndarray] | None = None
    ) -> list[Detections]:
        """The detections of images, each of which goes through the network as a whole."""
        if len(images) == 0:
            return []
        sizes = np.array([image.shape[:2] for image in images], np.int32)
        found: dict[int, Detections] = {}
        for group in self._pipeline.groups(sizes):
            given = None if boxes is None else [boxes[index] for index in group]
            together = self._predict_group([images[index] for index in group], given)
            found.update(zip(group, together, strict=True))
        return [found[index] for index in range(len(images))]

    def _predict_group(
        self, images: list[np.ndarray], boxes: list[np.ndarray] | None
    ) -> list[Detections]:
        """The detections of images that go through the network together."""
        sizes = np.array([image.shape[:2] for image in images], np.int32)
        if self._goes_apart(sizes):
            given = [None] * len(images) if boxes is None else [[array] for array in boxes]
            return [
                self._predict_group([image], one)[0]
                for image, one in zip(images, given, strict=True)
            ]
        pixels = np.concatenate([image.reshape(-1, 3) for image in images])
        with tf.device(self._device):
            padded = () if boxes is None else _pad_boxes(boxes)
            outputs = self._pipeline.detect_pixels(pixels, sizes, *padded)
            return [self._unpack(outputs, index, size) for index, size in enumerate(sizes)]

    def _goes_apart(self, sizes: np.ndarray) -> bool:
        """Whether segmentations, which share one size in a batch, would be mostly padding.

        Each image gets the result it gets alone, so it can be processed alone.
        """
        areas = sizes.astype(np.int64).prod(1)
        together = len(sizes) * int(sizes.astype(np.int64).max(0).prod())
        return self._may_part and together > max(_LARGE_BATCH, 4 * areas.sum())

    def _check_proposals(
        self, count: int, proposals: Sequence[np.ndarray] | None
    ) -> list[np.ndarray] | None:
        if not self.capabilities.takes_proposals:
            if proposals is not None:
                raise InputError("proposals: this model generates its own; leave them out")
            return None
        if proposals is None:
            raise InputError(
                "MODEL.PROPOSAL_GENERATOR.NAME: this model needs PrecomputedProposals; "
                "give those of each image (tfdetect predict: --proposals FILE)"
            )
        try:
            given = list(proposals)
        except TypeError as error:
            raise InputError(f"proposals: expected arrays, got {describe(proposals)}") from error
        if len(given) != count:
            raise InputError(f"proposals: {len(given)} arrays for {count} images; give one of each")
        return [read_boxes(f"proposals[{index}]", array) for index, array in enumerate(given)]

    def _unpack(self, outputs: dict[str, tf.Tensor], index: int, size: np.ndarray) -> Detections:
        height, width = (int(length) for length in size)
        found = {key: value[index] for key, value in outputs.items()}
        segmentations = {}
        if "sem_seg" in found:
            segmentations["sem_seg"] = found["sem_seg"][:height, :width].numpy()
        if "panoptic_seg" in found:
            segmentations["panoptic"] = _unpack_panoptic(found, height, width)
        if "pred_boxes" not in found:
            nothing = np.zeros([0], np.float32)
            return Detections(
                height, width, nothing.reshape(0, 4), nothing, nothing.astype(int), **segmentations
            )
        count = int(found["num_detections"])
        boxes = found["pred_boxes"][:count]
        masks, keypoints = found.get("pred_masks"), found.get("pred_keypoints")
        return Detections(
            height=height,
            width=width,
            boxes=boxes.numpy(),
            scores=found["scores"][:count].numpy(),
            classes=found["pred_classes"][:count].numpy().astype(np.int64),
            masks=None if masks is None else paste_encoded(self._paste, masks[:count], boxes, size),
            keypoints=None if keypoints is None else keypoints[:count].numpy(),
            box_extent=float(self._conventions.inclusive_boxes),
            keypoint_offset=self._conventions.keypoint_offset,
            **segmentations,
        )


def _unpack_panoptic(found: dict[str, tf.Tensor], height: int, width: int) -> PanopticSegmentation:
    count = int(found["num_segments"])
    names = ("category_ids", "isthing", "areas", "scores", "instance_ids")
    columns = (found[f"segment_{name}"][:count].numpy().tolist() for name in names)
    segments = []
    for index, (category, isthing, area, score, instance) in enumerate(zip(*columns, strict=True)):
        of_thing = {"score": score, "instance_id": instance} if isthing else {}
        segments.append(Segment(index + 1, category, isthing, area, **of_thing))
    return PanopticSegmentation(found["panoptic_seg"][:height, :width].numpy(), tuple(segments))


def _pad_boxes(boxes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """[P_i, 4] of each of B images as float32 [B, P, 4] with zeros, and int32 [B], the P_i."""
    num_valid = np.array([len(array) for array in boxes], np.int32)
    padded = np.zeros([len(boxes), np.max(num_valid), 4], np.float32)
    for slot, array in zip(padded, boxes, strict=True):
        slot[: len(array)] = array
    return padded, num_valid


def _find_device(name: str) -> str:
    kind, _, number = str(name).upper().partition(":")
    wanted = f"{kind}:{number or 0}"
    names = [device.name for device in tf.config.list_logical_devices()]
    for full_name in names:
        if full_name.upper().endswith(f"/DEVICE:{wanted}"):
            return full_name
    known = ", ".join(full_name.rpartition("device:")[2].lower() for full_name in names)
    raise InputError(f"device {name}: there is no such device; TensorFlow sees {known}")
