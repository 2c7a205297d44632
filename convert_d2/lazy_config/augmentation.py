"""The augmentations of a LazyConfig's mappers, into INPUT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from convert_d2.lazy_config.arguments import (
    Arguments,
    Settings,
    convert,
    converts,
    is_number,
    plain,
    show,
)
from tfdetect.errors import InputError

_AUGMENTATION = "an augmentation"
_MODULE = "detectron2.data.transforms.augmentation_impl"
# sys.maxsize, Detectron2's default for the longer edge, as a size that no image has.
_NO_LIMIT = 1_000_000
# The arguments of each, which have the same names here.
_ARGUMENTS = {
    "AugmentationList": ("augs",),
    "FixedSizeCrop": ("crop_size", "pad", "pad_value", "seg_pad_value"),
    "MinIoURandomCrop": ("min_ious", "min_crop_size", "mode_trials", "crop_trials"),
    "RandomApply": ("tfm_or_aug", "prob"),
    "RandomBrightness": ("intensity_min", "intensity_max"),
    "RandomContrast": ("intensity_min", "intensity_max"),
    "RandomCrop": ("crop_type", "crop_size"),
    "RandomCrop_CategoryAreaConstraint": (
        *("crop_type", "crop_size", "single_category_max_area", "ignored_category"),
    ),
    "RandomExtent": ("scale_range", "shift_range"),
    "RandomFlip": ("prob", "horizontal", "vertical"),
    "RandomLighting": ("scale",),
    "RandomResize": ("shape_list", "interp"),
    "RandomRotation": ("angle", "expand", "center", "sample_style", "interp"),
    "RandomSaturation": ("intensity_min", "intensity_max"),
    "Resize": ("shape", "interp"),
    "ResizeScale": ("min_scale", "max_scale", "target_height", "target_width", "interp"),
    "ResizeShortestEdge": ("short_edge_length", "max_size", "sample_style", "interp"),
}
_CUTTING = {name for name in _ARGUMENTS if "Crop" in name}
# Pillow's numbers, and OpenCV's of RandomRotation.
_PILLOW = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_OPENCV = {None: "bilinear", 0: "nearest", 1: "bilinear", 2: "bicubic", 4: "lanczos"}


class _Entry(NamedTuple):
    """An augmentation with the arguments that the file gives it."""

    name: str
    arguments: dict[str, Any]


def set_test_sizes(settings: Settings, path: str, augmentations: Any) -> None:
    """INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST from the augmentations of the test loader."""
    try:
        entries = _convert_all(settings, path, augmentations)
        sizes = _test_sizes(entries)
        if sizes is None:
            names = ", ".join(f"{name}({arguments})" for name, arguments in entries)
            raise settings.error(
                path, f"only ResizeShortestEdge to one size is supported, not {show(names)}"
            )
    except InputError as error:
        instead = "images are resized by INPUT.MIN_SIZE_TEST 800 and MAX_SIZE_TEST 1333"
        _note(settings, error, instead)
        return
    settings.set("INPUT.MIN_SIZE_TEST", sizes[0], path)
    if sizes[0]:
        settings.set("INPUT.MAX_SIZE_TEST", sizes[1], path)


def _test_sizes(entries: Sequence[_Entry]) -> tuple[int, int] | None:
    """The short edge, 0 for images as they are, and the longest; None for what is not supported."""
    if not entries:
        return 0, _NO_LIMIT
    [(name, arguments), *others] = entries
    lengths = arguments.get("short_edge_length")
    lengths = [lengths] if type(lengths) is int else lengths
    if others or name != "ResizeShortestEdge" or not lengths or not _resizes_bilinearly(arguments):
        return None
    if not isinstance(lengths, list) or len(set(map(repr, lengths))) > 1:
        return None
    longest = arguments.get("max_size", _NO_LIMIT)
    return (lengths[0], min(longest, _NO_LIMIT)) if type(longest) is int else None


def set_training_augmentation(
    settings: Settings, path: str, augmentations: Any, *, recompute_boxes: bool
) -> None:
    """INPUT from the augmentations of the training loader.

    By Detectron2's keys where these can say it, otherwise by INPUT.AUGMENTATIONS.

    Args:
        settings: changed in place.
        path: of the augmentations in the file.
        augmentations: its value there.
        recompute_boxes: the mapper's.
    """
    try:
        entries = _convert_all(settings, path, augmentations)
    except InputError as error:
        _note(settings, error, "training images are augmented by INPUT's defaults")
        return
    keys = _usual(entries) or _jitter(entries)
    if keys is None:
        keys = {"AUGMENTATIONS": [[name, arguments] for name, arguments in entries]}
    for key, value in keys.items():
        settings.set(f"INPUT.{key}", value, path)
    if not recompute_boxes and any(_cuts(*entry) for entry in entries):
        settings.set("INPUT.RECOMPUTE_BOXES", False, path)


def _cuts(name: str, arguments: Mapping[str, Any]) -> bool:
    """Whether an augmentation cuts parts of objects off."""
    within = [*arguments.get("augs", ()), *filter(None, [arguments.get("tfm_or_aug")])]
    return name in _CUTTING or any(_cuts(*entry) for entry in within)


def _usual(entries: Sequence[_Entry]) -> dict[str, Any] | None:
    """The keys of RandomCrop, ResizeShortestEdge and RandomFlip, of which only the second must be
    there, in this order."""
    of = dict(entries)
    names = [name for name in ("RandomCrop", "ResizeShortestEdge", "RandomFlip") if name in of]
    if [name for name, _ in entries] != names or "ResizeShortestEdge" not in of:
        return None
    resize = of["ResizeShortestEdge"]
    flip = _flip(of.get("RandomFlip"))
    if flip is None or not _resizes_bilinearly(resize):
        return None
    lengths, style = resize.get("short_edge_length"), resize.get("sample_style", "range")
    if type(lengths) is int:
        lengths, style = [lengths], "choice"
    longest = resize.get("max_size", _NO_LIMIT)
    crop = of.get("RandomCrop", {"crop_type": "", "crop_size": [1]})
    size, kind = crop.get("crop_size"), crop.get("crop_type")
    if not isinstance(lengths, list) or not isinstance(size, list) or not isinstance(kind, str):
        return None
    if not _are_numbers(longest, *lengths, *size) or not isinstance(style, str):
        return None
    keys: dict[str, Any] = {
        "MIN_SIZE_TRAIN": lengths,
        "MIN_SIZE_TRAIN_SAMPLING": style,
        "MAX_SIZE_TRAIN": min(int(longest), _NO_LIMIT),
        "RANDOM_FLIP": flip,
        "CROP.ENABLED": "RandomCrop" in of,
    }
    if "RandomCrop" in of:
        keys |= {"CROP.TYPE": kind, "CROP.SIZE": size}
    return keys


def _jitter(entries: Sequence[_Entry]) -> dict[str, Any] | None:
    """The keys of ResizeScale, FixedSizeCrop and RandomFlip, the last of which may be missing."""
    of = dict(entries)
    names = ["ResizeScale", "FixedSizeCrop", "RandomFlip"]
    if [name for name, _ in entries] not in (names, names[:2]):
        return None
    resize, crop = of["ResizeScale"], of["FixedSizeCrop"]
    flip = _flip(of.get("RandomFlip"))
    size, scale = resize.get("target_height"), [resize.get("min_scale"), resize.get("max_scale")]
    square = [resize.get("target_width"), *_pair(crop.get("crop_size"))] == [size] * 3
    default = {"pad": True, "pad_value": 128, "seg_pad_value": 255}
    pads = default | {key: value for key, value in crop.items() if key in default} == default
    if flip is None or not square or not pads or not _resizes_bilinearly(resize):
        return None
    if type(size) is not int or not _are_numbers(*scale):
        return None
    return {
        "LARGE_SCALE_JITTER.ENABLED": True,
        "LARGE_SCALE_JITTER.SCALE": scale,
        "LARGE_SCALE_JITTER.SIZE": size,
        "RANDOM_FLIP": flip,
    }


def _flip(arguments: Mapping[str, Any] | None) -> str | None:
    """INPUT.RANDOM_FLIP; None if it cannot say this."""
    if arguments is None:
        return "none"
    both = arguments.get("horizontal", True), arguments.get("vertical", False)
    if arguments.get("prob", 0.5) != 0.5:
        return None
    if both == (True, False):
        return "horizontal"
    return "vertical" if both == (False, True) else None


def _is_plain(value: Any) -> bool:
    """Whether a configuration can hold it."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | bool | int | float)


def _are_numbers(*values: Any) -> bool:
    return all(map(is_number, values))


def _pair(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value, value]


def _resizes_bilinearly(arguments: Mapping[str, Any]) -> bool:
    return bool(arguments.get("interp", "bilinear") == "bilinear")


def _note(settings: Settings, error: InputError, instead: str) -> None:
    where, _, why = str(error).removeprefix(f"{settings.source}: ").partition(": ")
    settings.note(where, f"{why}; {instead}")


def _convert_all(settings: Settings, path: str, augmentations: Any) -> list[_Entry]:
    """The augmentations of a list, in their order."""
    if not isinstance(augmentations, list):
        raise settings.error(path, f"is {show(augmentations)}; give a list of augmentations")
    return [
        convert(settings, f"{path}[{index}]", value, _AUGMENTATION)
        for index, value in enumerate(augmentations)
    ]


def _convert(args: Arguments, name: str) -> _Entry:
    found: dict[str, Any] = {}
    for argument in _ARGUMENTS[name]:
        given = args.given(argument)
        if argument == "tfm_or_aug":
            found[argument] = list(args.part(argument, _AUGMENTATION))
        elif argument == "augs":
            entries = _convert_all(args.settings, args.where(argument), args.take(argument))
            found[argument] = [list(entry) for entry in entries]
        elif argument == "interp" and given is not None:
            numbers = _OPENCV if name == "RandomRotation" else _PILLOW
            if type(given) is not int or given not in numbers:
                raise args.error(argument, f"is {show(given)}; give one of {sorted(_PILLOW)}")
            found[argument] = numbers[args.take(argument)]
        elif given is None:
            args.take(argument, None)
        else:
            found[argument] = plain(args.of_type(argument, None, _is_plain, "numbers or text"))
    return _Entry(name, found)


for _name in _ARGUMENTS:
    _module = _MODULE.removesuffix("_impl") if _name == "AugmentationList" else _MODULE
    converts(f"{_module}.{_name}", _AUGMENTATION)(partial(_convert, name=_name))
