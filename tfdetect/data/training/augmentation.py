"""Random augmentation of training images: how it is configured, and how it is drawn.

Augmentors are tensorpack's, with Detectron2's names, arguments, distributions and geometry; they
draw the numbers that Detectron2's draw, in the same order. The modules of
`tfdetect.data.training.augmentations` have them.

What an augmentor draws depends on the size of the image, on its objects' boxes and on its `rng`
only, never on pixels (one may read the semantic labels): so the size of a sample after augmentation
is known before its image is read.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities, trains_as_pointrend
from tfdetect.data.geometry import transform_unclipped_boxes
from tfdetect.data.training.tensorpack_dataflow import ImageAugmentor
from tfdetect.data.training.transforms import ImageTransform
from tfdetect.errors import InputError
from tfdetect.registry import Registry

_MODULES = ("resize", "crop", "geometric", "color", "random_apply", "ssd")
_KEY = "INPUT.AUGMENTATIONS"

AUGMENTATIONS: Registry[Callable[..., ImageAugmentor]] = Registry(
    "augmentation", [f"tfdetect.data.training.augmentations.{name}" for name in _MODULES]
)
"""Augmentors, as those of `tfdetect.data.training.augmentations`. Called with the arguments where
INPUT.AUGMENTATIONS has a pair of a name and arguments. Where it has a name alone, `from_config` is
called with (cfg); what has none is called without arguments if it is an `Augmentation`, else with
(cfg).
"""

Made = TypeVar("Made", bound="Augmentation")


class Shaped(Protocol):
    """An image, or whatever else has its shape [H, W, ...]."""

    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class AugInput:
    """What an augmentor may look at (after Detectron2's class of this name).

    Attributes:
        shape: of the image: height and width in pixels.
        boxes: float64 [N, 4] XYXY of its objects, which may reach beyond it; None where they are
            not known.
        sem_seg: gives its semantic labels, integers [H, W]; None for a data set without.
    """

    shape: tuple[int, int]
    boxes: np.ndarray | None = None
    sem_seg: Callable[[], np.ndarray] | None = None


class Augmentation(ImageAugmentor):
    """What the built-in augmentors have in common.

    Attributes:
        cuts_objects: whether it cuts parts of objects off, so that boxes are drawn again around
            what is left of masks.
        needs_sem_seg: whether it reads the semantic labels.
    """

    cuts_objects = False
    needs_sem_seg = False

    def get_transform(self, image: Shaped) -> ImageTransform:
        """Draw from `self.rng` what happens to an image, an `AugInput` or an array."""
        raise NotImplementedError


class ArgumentError(InputError):
    """An argument of an augmentation that cannot be used."""

    def __init__(self, argument: str, value: object, expected: str):
        super().__init__(f"{argument}: {value!r} cannot be used, give {expected}")
        self.argument, self.value, self.expected = argument, value, expected


def require(valid: bool, argument: str, value: object, expected: str) -> None:
    """Raise `ArgumentError` unless the value of an argument is valid."""
    if not valid:
        raise ArgumentError(argument, value, expected)


def is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


def is_range(value: Any) -> bool:
    """Whether it is two finite numbers, the first not the larger."""
    is_pair = isinstance(value, (list, tuple)) and len(value) == 2
    return is_pair and is_number(value[0]) and is_number(value[1]) and value[0] <= value[1]


def as_pair(value: Any) -> Any:
    """A whole number twice; anything else as it is."""
    return (value, value) if type(value) is int else value


def is_size(value: Any) -> bool:
    """Whether it is a height and a width, or anything else of two whole numbers above 0."""
    is_pair = isinstance(value, (list, tuple)) and len(value) == 2
    return is_pair and all(type(length) is int and length > 0 for length in value)


def of_keys(cls: type[Made], cfg: CfgNode, **keys: str) -> Made:
    """An augmentor whose arguments are values of the configuration.

    Args:
        cls: its class.
        cfg: the configuration.
        keys: the key of each argument.

    Raises:
        InputError: a value cannot be used.
    """

    def value_of(key: str) -> Any:
        node = cfg
        for part in key.split("."):
            node = node[part]
        return node

    try:
        return cls(**{argument: value_of(key) for argument, key in keys.items()})
    except ArgumentError as error:
        key = keys[error.argument]
        raise InputError(f"{key}: {error.value!r} cannot be used, give {error.expected}") from error


def jitter_size(cfg: CfgNode) -> tuple[int, int]:
    """Height and width of INPUT.LARGE_SCALE_JITTER.

    Raises:
        InputError: its SIZE is not positive.
    """
    size = cfg.INPUT.LARGE_SCALE_JITTER.SIZE
    if size <= 0:
        raise InputError(
            f"INPUT.LARGE_SCALE_JITTER.SIZE: {size!r} cannot be used, give a positive size"
        )
    return size, size


def build_augmentation(cfg: CfgNode) -> list[ImageAugmentor]:
    """The augmentation for training: what INPUT.AUGMENTATIONS names, each of `AUGMENTATIONS`.

    An entry is a name, or a pair [name, {argument: value}]. Where there is none, Detectron2's
    `DatasetMapper.from_config`: RandomCrop if INPUT.CROP.ENABLED, ResizeShortestEdge, RandomFlip
    unless it is "none"; or with INPUT.LARGE_SCALE_JITTER that of its new_baselines; or for a
    SemanticSegmentor with PointRend's head or keys that of projects/PointRend.

    Raises:
        InputError: a value of INPUT cannot be used.
    """
    entries = list(cfg.INPUT.AUGMENTATIONS) or _detectron2_augmentation(cfg)
    return [_build(cfg, entry, _KEY) for entry in entries]


def _detectron2_augmentation(cfg: CfgNode) -> list[str]:
    keys = cfg.INPUT
    if keys.LARGE_SCALE_JITTER.ENABLED:
        names = ["ResizeScale", "FixedSizeCrop"]
    elif trains_as_pointrend(cfg):
        names = [
            "ResizeShortestEdge",
            *(["RandomCrop_CategoryAreaConstraint"] if keys.CROP.ENABLED else []),
            *(["ColorAugSSD"] if keys.COLOR_AUG_SSD else []),
        ]
    else:
        names = [*(["RandomCrop"] if keys.CROP.ENABLED else []), "ResizeShortestEdge"]
    return names if keys.RANDOM_FLIP == "none" else [*names, "RandomFlip"]


def _build(cfg: CfgNode, entry: Any, key: str) -> ImageAugmentor:
    """The augmentor of an entry of the configuration, `key`."""
    is_pair = isinstance(entry, (list, tuple)) and len(entry) == 2
    if isinstance(entry, str):
        factory: Any = AUGMENTATIONS.get(key, entry)
        if hasattr(factory, "from_config") or not _is_augmentation(factory):
            return _seeing(cfg, AUGMENTATIONS.make(key, entry, cfg), f"{key}: {entry}")
        name, arguments = entry, {}
    elif is_pair and isinstance(entry[0], str) and isinstance(entry[1], Mapping):
        name, arguments = entry[0], dict(entry[1])
        factory = AUGMENTATIONS.get(key, name)
    else:
        raise InputError(
            f"{key}: {entry!r} is neither a name nor a pair [name, {{argument: value}}]; correct it"
        )
    key = f"{key}: {name}"
    _check_arguments(key, factory, arguments)
    for argument in set(arguments) & set(getattr(factory, "augmentors", ())):
        arguments[argument] = _build(cfg, arguments[argument], f"{key}: {argument}")
    for argument in set(arguments) & set(getattr(factory, "augmentor_lists", ())):
        entries = arguments[argument]
        if not isinstance(entries, (list, tuple)):
            raise InputError(f"{key}: {argument}: {entries!r} is not a list of augmentations")
        arguments[argument] = [_build(cfg, entry, f"{key}: {argument}") for entry in entries]
    try:
        augmentor = factory(**arguments)
    except InputError as error:
        raise InputError(f"{key}: {error}") from error
    return _seeing(cfg, augmentor, key)


def _seeing(cfg: CfgNode, augmentor: ImageAugmentor, key: str) -> ImageAugmentor:
    """The augmentor, if the model has the semantic labels that it may look at."""
    if getattr(augmentor, "needs_sem_seg", False) and not capabilities(cfg).has_semantic:
        raise InputError(f"{key}: needs semantic labels, which this model is not trained on")
    return augmentor


def _is_augmentation(factory: Any) -> bool:
    return isinstance(factory, type) and issubclass(factory, Augmentation)


def _check_arguments(key: str, factory: Any, arguments: Mapping[str, Any]) -> None:
    """Raise InputError unless the arguments have the names that `factory` takes."""
    parameters = inspect.signature(factory).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    names = [parameter.name for parameter in named]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    for name in arguments:
        if name not in names and not takes_any:
            raise InputError(f"{key}: has no argument {name!r}; it takes {', '.join(names)}")
    missing = [
        parameter.name
        for parameter in named
        if parameter.default is parameter.empty and parameter.name not in arguments
    ]
    if missing:
        raise InputError(f"{key}: lacks {', '.join(missing)}; it takes {', '.join(names)}")


def draw_transforms(
    augmentors: Sequence[ImageAugmentor],
    image_size: tuple[int, int],
    random: np.random.RandomState,
    boxes: np.ndarray | None = None,
    sem_seg: Callable[[], np.ndarray] | None = None,
) -> list[ImageTransform]:
    """Draw what happens to one image.

    Args:
        augmentors: of `build_augmentation`, in order.
        image_size: height and width in pixels.
        random: what the drawing depends on, besides the image.
        boxes: float64 [N, 4] XYXY of its objects; None where they are not known.
        sem_seg: reads its semantic labels, integers [H, W]; called if an augmentor asks for them
            only. None for a data set without.

    Returns:
        A transform of each augmentor, to be applied in order.
    """
    transforms: list[ImageTransform] = []

    def labels() -> np.ndarray:
        assert sem_seg is not None
        found = sem_seg()
        for transform in transforms:
            found = transform.apply_segmentation(found)
        return found

    for augmentor in augmentors:
        augmentor.rng = random
        seen = AugInput(image_size, boxes, None if sem_seg is None else labels)
        transform = augmentor.get_transform(seen)
        transforms.append(transform)
        image_size = transform.output_size
        if boxes is not None:
            boxes = transform_unclipped_boxes(boxes, transform)
    return transforms


def crops(augmentors: Sequence[ImageAugmentor]) -> bool:
    """Whether any of them cuts parts of objects off, which it says by a true `cuts_objects`."""
    return any(getattr(augmentor, "cuts_objects", False) for augmentor in augmentors)
