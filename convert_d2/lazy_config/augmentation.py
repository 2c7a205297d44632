"""The augmentations of a LazyConfig's mappers, into INPUT."""

from __future__ import annotations

from typing import Any

from convert_d2.lazy_config.arguments import Arguments, Settings, convert, converts, show
from tfdetect.errors import InputError

_AUGMENTATION = "an augmentation"
_MODULE = "detectron2.data.transforms.augmentation_impl"
# sys.maxsize, Detectron2's default for the longer edge, as a size that no image has.
_NO_LIMIT = 1_000_000
_PAD = "PadToSquare"
_DEFAULT = ["RandomCrop", "ResizeShortestEdge", "RandomFlip"]
_JITTER = ["ResizeScale", "FixedSizeCrop", _PAD, "RandomFlip"]


def set_test_sizes(settings: Settings, path: str, augmentations: Any) -> None:
    """INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST from the augmentations of the test loader."""
    known = dict(settings.values)
    try:
        names = _convert_all(settings, path, augmentations, "TEST")
        if names not in ([], ["ResizeShortestEdge"]):
            raise settings.error(
                path, f"only ResizeShortestEdge is supported, not {', '.join(names)}"
            )
    except InputError as error:
        settings.values = known
        _note(
            settings,
            path,
            error,
            "images are resized by INPUT.MIN_SIZE_TEST 800 and MAX_SIZE_TEST 1333",
        )
        return
    if not names:
        settings.set("INPUT.MIN_SIZE_TEST", 0, path)


def set_training_augmentation(settings: Settings, path: str, augmentations: Any) -> None:
    """INPUT from the augmentations of the training loader."""
    known = dict(settings.values)
    try:
        names = _convert_all(settings, path, augmentations, "TRAIN")
        if len(set(names)) < len(names):
            raise settings.error(path, "one of them is there twice")
    except InputError as error:
        settings.values = known
        _note(settings, path, error, "training images are augmented by INPUT's defaults")
        return
    jitter = "ResizeScale" in names or "FixedSizeCrop" in names
    settings.set("INPUT.LARGE_SCALE_JITTER.ENABLED", jitter, path)
    settings.set("INPUT.CROP.ENABLED", "RandomCrop" in names, path)
    if "RandomFlip" not in names:
        settings.set("INPUT.RANDOM_FLIP", "none", path)
    order = [name for name in (_JITTER if jitter else _DEFAULT) if name in names]
    usual = names == order and ("ResizeShortestEdge" in names or _PAD in names)
    if not usual:
        settings.set("INPUT.AUGMENTATIONS", names, path)


def _note(settings: Settings, path: str, error: InputError, instead: str) -> None:
    text = str(error).removeprefix(f"{settings.source}: ")
    where, _, why = text.partition(": ")
    settings.note(where or path, f"{why}; {instead}")


def _convert_all(settings: Settings, path: str, augmentations: Any, kind: str) -> list[str]:
    """The names of augmentations in their order, with their keys set."""
    if not isinstance(augmentations, list):
        raise settings.error(path, f"is {show(augmentations)}; give a list of augmentations")
    names: list[str] = []
    for index, value in enumerate(augmentations):
        names += convert(settings, f"{path}[{index}]", value, _AUGMENTATION, kind=kind)
    return names


@converts(f"{_MODULE}.ResizeShortestEdge", _AUGMENTATION)
def _resize(args: Arguments, kind: str) -> list[str]:
    lengths = args.take("short_edge_length")
    lengths = [lengths] if type(lengths) is int else lengths
    if not isinstance(lengths, list) or not lengths or not all(type(x) is int for x in lengths):
        raise args.error("short_edge_length", f"is {show(lengths)}; give lengths in pixels")
    style = args.text("sample_style", "range")
    args.set(
        f"INPUT.MAX_SIZE_{kind}", "max_size", min(args.integer("max_size", _NO_LIMIT), _NO_LIMIT)
    )
    _expect_bilinear(args)
    if kind == "TEST":
        if len(set(lengths)) > 1:
            raise args.error(
                "short_edge_length", f"is {show(lengths)}, of which one would be drawn"
            )
        args.set("INPUT.MIN_SIZE_TEST", "short_edge_length", lengths[0])
        return ["ResizeShortestEdge"]
    if style == "range" and len(lengths) == 1:
        style = "choice"
    args.set("INPUT.MIN_SIZE_TRAIN", "short_edge_length", lengths)
    args.set("INPUT.MIN_SIZE_TRAIN_SAMPLING", "sample_style", style)
    return ["ResizeShortestEdge"]


@converts(f"{_MODULE}.RandomFlip", _AUGMENTATION)
def _flip(args: Arguments, kind: str) -> list[str]:
    args.expect("prob", 0.5, "images are flipped with this probability", default=0.5)
    horizontal, vertical = args.flag("horizontal", True), args.flag("vertical", False)
    if horizontal == vertical:
        raise args.error("vertical", "give either horizontal or vertical")
    args.set("INPUT.RANDOM_FLIP", "horizontal", "horizontal" if horizontal else "vertical")
    return ["RandomFlip"]


@converts(f"{_MODULE}.RandomCrop", _AUGMENTATION)
def _crop(args: Arguments, kind: str) -> list[str]:
    args.set("INPUT.CROP.TYPE", "crop_type", args.text("crop_type"))
    args.set("INPUT.CROP.SIZE", "crop_size", args.numbers("crop_size"))
    return ["RandomCrop"]


@converts(f"{_MODULE}.ResizeScale", _AUGMENTATION)
def _resize_scale(args: Arguments, kind: str) -> list[str]:
    scale = [args.number("min_scale"), args.number("max_scale")]
    height = args.integer("target_height")
    args.expect("target_width", height, f"it must be target_height, {height}")
    _expect_bilinear(args)
    args.set("INPUT.LARGE_SCALE_JITTER.SCALE", "min_scale", scale)
    _set_jitter_size(args, "target_height", height)
    return ["ResizeScale"]


@converts(f"{_MODULE}.FixedSizeCrop", _AUGMENTATION)
def _fixed_crop(args: Arguments, kind: str) -> list[str]:
    size = args.integers("crop_size")
    if len(size) != 2 or size[0] != size[1]:
        raise args.error("crop_size", f"is {show(size)}; only squares are supported")
    _set_jitter_size(args, "crop_size", size[0])
    pads = args.flag("pad", True)
    args.expect("pad_value", 128, "images are padded with it", default=128)
    args.take("seg_pad_value", None)
    return ["FixedSizeCrop", _PAD] if pads else ["FixedSizeCrop"]


def _set_jitter_size(args: Arguments, name: str, size: int) -> None:
    key = "INPUT.LARGE_SCALE_JITTER.SIZE"
    known, path = args.settings.values.get(key, (size, ""))
    if known != size:
        raise args.error(name, f"is {size}, but {path} is {known}; {key} is both")
    args.set(key, name, size)


def _expect_bilinear(args: Arguments) -> None:
    # PIL.Image.BILINEAR.
    args.expect("interp", 2, "images are interpolated bilinearly", default=2)
