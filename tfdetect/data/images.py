"""Finding, reading and writing images: the pixels that Detectron2's `read_image` gives."""

from __future__ import annotations

import glob
import io
import os
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from tfdetect.errors import InputError
from tfdetect.files import write_bytes_atomically

# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo",
    ".pam", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".ras", ".sr", ".tga", ".tif", ".tiff", ".webp",
))
# fmt: on
"""Suffixes that count as images in a folder; a file given by name may have any suffix."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation tag, and what undoes each value (1 is upright)."""

Image.init()
_STRIP_PIXELS = 2**24

_FORMATS = [name for name in Image.ID if name != "EPS"]
"""Formats that Pillow may read; not PostScript, because it would start Ghostscript, an
interpreter."""


def read_image(path: str | os.PathLike[str], format: str = "BGR") -> np.ndarray:
    """Read an image file as Detectron2's `read_image` does.

    Pillow decodes it, turns it as its EXIF orientation says and converts whatever it is (grey,
    palette, 16 bits, CMYK, alpha) to 8-bit RGB; an alpha channel is dropped, not blended, and grey
    of 16 or 32 bits is cut off at 255. Of an animation it is the first frame. What Pillow does not
    know and OpenCV does (PAM, 16-bit RGB TIFF) is read by OpenCV.

    A TIFF with an orientation is turned twice: Pillow turns it on loading, and Detectron2 turns
    it again. The promise is Detectron2's pixels, so this does too.

    Args:
        path: the file.
        format: order of the channels, "BGR" or "RGB".

    Returns:
        uint8 [height, width, 3], upright.

    Raises:
        InputError: the file is missing, not a regular file, not an image, damaged, truncated, of
            more pixels than Pillow's limit against decompression bombs, or of floating point.
    """
    _check_format(format)
    path = Path(path)
    return decode_image(_read_regular_file(path), path, format)


def decode_image(content: bytes, name: str | os.PathLike[str], format: str = "BGR") -> np.ndarray:
    """`read_image` of a file's content that is in memory.

    Args:
        content: of the file.
        name: what messages call it.
        format: order of the channels, "BGR" or "RGB".

    Returns:
        uint8 [height, width, 3], upright.

    Raises:
        InputError: as for `read_image`.
    """
    _check_format(format)
    if not content:
        raise InputError(f"{name}: the file is empty, replace the image")
    try:
        with warnings.catch_warnings():
            # Pillow warns about oddities that it can ignore, without naming the file.
            warnings.simplefilter("ignore")
            pixels = _decode_with_pillow(content, format)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except UnidentifiedImageError:
        bgr = _decode_with_opencv(name, content)
        pixels = np.ascontiguousarray(bgr[:, :, ::-1]) if format == "RGB" else bgr
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: too many pixels ({error}), make the image smaller") from error
    except Exception as error:
        # On damaged files, Pillow's decoders raise whatever their parsing happens to raise:
        # OSError, SyntaxError, struct.error, IndexError, KeyError, EOFError, zlib.error and more.
        raise InputError(f"{name}: damaged or truncated ({error}), replace the image") from error
    return pixels


def _check_format(format: str) -> None:
    if format not in ("BGR", "RGB"):
        raise ValueError(f"format {format!r}, expected 'BGR' or 'RGB'")


def read_labels(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image whose values are labels: grey of 1 to 16 bits, or a palette's indices.

    Detectron2's evaluators read it so. (In training it converts to 8-bit grey, of which a palette
    leaves brightnesses; an image of colours is an error here.) 2 and 4 bits are those that Pillow
    makes of them, multiples of 85 and 17.

    Returns:
        int32 [height, width].

    Raises:
        InputError: the file cannot be read, or is not such an image.
    """
    path = Path(path)
    content = _read_regular_file(path)
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            labels = np.asarray(image)
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: too many pixels ({error}), make the image smaller") from error
    except Exception as error:  # whatever Pillow's parsing happens to raise
        raise InputError(f"{path}: not an image of labels ({error}), replace it") from error
    if labels.ndim == 3 and (labels[..., 1:3] == labels[..., :1]).all():
        labels = labels[..., 0]  # grey, in three channels
    if labels.ndim != 2 or labels.dtype.kind not in "bui":
        raise InputError(f"{path}: has colours, save one number per pixel: the class")
    return labels.astype(np.int32)


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width that `read_image` gives, from the file's header.

    Raises:
        InputError: the file is missing or no image that Pillow knows.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            orientation = image.getexif().get(_ORIENTATION) if image.format != "PNG" else None
    except Exception as error:  # whatever Pillow's parsing happens to raise
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read ({reason}), replace the image") from error
    on_its_side = isinstance(orientation, int) and orientation in (5, 6, 7, 8)
    return (width, height) if on_its_side else (height, width)


def declared_pixels(content: bytes) -> int | None:
    """How many pixels a file in memory says that it has, from its header.

    Returns:
        None where Pillow does not know the file; at least one more than Pillow's limit where it is
        beyond that.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                return image.width * image.height
    except Image.DecompressionBombError:
        return 2 * (Image.MAX_IMAGE_PIXELS or 0) + 1
    except Exception:  # whatever Pillow's parsing happens to raise; `decode_image` says why
        return None


def write_image(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write a uint8 [H, W, 3] BGR image, whole or not at all: PNG, or JPEG of quality 95.

    Raises:
        InputError: the suffix is not one of .png, .jpg and .jpeg, or the place cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"{path}: pictures are written as .png, .jpg or .jpeg, choose one")
    options = [] if suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, 95]
    if suffix != ".png" and max(image.shape) > 65500:
        raise InputError(f"{path}: JPEG holds at most 65500 pixels a side, write .png instead")
    _, encoded = cv2.imencode(suffix, image, options)
    write_bytes_atomically(path, encoded.tobytes())


def find_images(
    inputs: list[str],
    passed_over: list[Path] | None = None,
    suffixes: Collection[str] = IMAGE_SUFFIXES,
) -> list[Path]:
    """The images that files, folders and globs name, in their order, each once.

    A file counts whatever its suffix. A folder stands for the images directly in it, sorted by
    name, hidden ones left out. A glob (`**` crosses folders) stands for the files it matches,
    sorted, that are images by their suffix or whose suffix the glob spells out. A name that
    exists is never taken for a glob.

    Args:
        inputs: what is given.
        passed_over: collects the other files in folders and globs (`describe_passed_over`).
        suffixes: what counts as an image in a folder, lower-case, each with its dot.

    Raises:
        InputError: an input names nothing, or a folder cannot be read.
    """
    found: dict[str, Path] = {}
    others: list[Path] = []
    for name in inputs:
        for path in _find(name, others, suffixes):
            found.setdefault(os.path.abspath(path), path)
    if passed_over is not None:
        # What one input skips another may name.
        passed_over += [path for path in others if os.path.abspath(path) not in found]
    return list(found.values())


def describe_passed_over(paths: Sequence[Path]) -> str:
    """Such as "2 .heic files (a.heic, ...), 1 folder (x.jpg)"; with none the empty text."""
    kinds: dict[str, list[str]] = {}
    for path in paths:
        kinds.setdefault(_kind(path), []).append(path.name)
    parts = []
    for kind, names in kinds.items():
        plural = "" if len(names) == 1 else "s"
        parts.append(f"{len(names)} {kind}{plural} ({names[0]}{', ...' if plural else ''})")
    return ", ".join(parts)


def _kind(path: Path) -> str:
    if path.is_symlink() and not os.path.exists(path):
        return "dangling link"
    if path.name.startswith("."):
        return "hidden file"
    if os.path.isdir(path):
        return "folder"
    if not os.path.isfile(path):
        return "special file"
    return f"{path.suffix.lower()} file" if path.suffix else "file without a suffix"


def _find(name: str, others: list[Path], suffixes: Collection[str]) -> list[Path]:
    path = Path(name)
    # pathlib reads "" as the current folder; an empty variable in a script does not mean that.
    if name and os.path.isdir(name):
        try:
            inside = sorted(path.iterdir())
        except OSError as error:
            raise InputError(
                f"{name}: the folder cannot be read ({error.strerror}), check its permissions"
            ) from error
        images = [p for p in inside if _is_one(p, suffixes) and not p.name.startswith(".")]
        rest = sorted(set(inside) - set(images))
        if not images:
            has = f", but {describe_passed_over(rest)}" if rest else ""
            raise InputError(f"{name}: no images in this folder{has}; give files or a glob instead")
        others += rest
        return images
    if name and os.path.exists(name):
        return [path]
    if not glob.has_magic(name):
        raise InputError(f"{name!r}: no such file or folder, check the name")
    matches = sorted(Path(match) for match in glob.glob(name, recursive=True))
    images = [
        path
        for path in matches
        if _is_one(path, suffixes) or (os.path.isfile(path) and _spells_suffix(name, path))
    ]
    if not images:
        has = f", but {describe_passed_over(matches)}" if matches else ""
        raise InputError(f"{name}: no image matches this pattern{has}; check it")
    others += sorted(set(matches) - set(images))
    return images


def _is_one(path: Path, suffixes: Collection[str]) -> bool:
    return path.suffix.lower() in suffixes and os.path.isfile(path)


def _spells_suffix(pattern: str, path: Path) -> bool:
    return bool(path.suffix) and pattern.endswith(path.suffix)


def _read_regular_file(path: Path) -> bytes:
    # os.path answers False where pathlib would raise: a forbidden folder, a name too long.
    if os.path.isdir(path):
        raise InputError(f"{path}: is a folder, give an image file")
    # Opening a pipe would wait for its writer.
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"{path}: not a regular file, give an image file")
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read ({reason}), check the name") from error
    if not content:
        raise InputError(f"{path}: the file is empty, replace the image")
    return content


def _decode_with_pillow(content: bytes, format: str) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        try:
            orientation = image.getexif().get(_ORIENTATION)
        except Exception:
            # Damaged EXIF does not make the picture unreadable; Detectron2 skips it too.
            orientation = None
        if image.mode == "F":
            # Pillow, and so Detectron2, would cut them off at 0 and 255; 0 to 1 would be black.
            raise InputError("floating-point pixels, convert the image to 8 bits")
        turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
        upright = image if turn is None else image.transpose(turn)
        # Strip by strip: of a large image Pillow has four bytes a pixel, and would have them again
        # in RGB and as an array.
        pixels = np.empty((upright.height, upright.width, 3), np.uint8)
        rows = max(1, _STRIP_PIXELS // upright.width)
        for top in range(0, upright.height, rows):
            bottom = min(top + rows, upright.height)
            whole = bottom - top == upright.height
            strip = upright if whole else upright.crop((0, top, upright.width, bottom))
            # `convert` copies what is RGB. Pillow packs channels in either order, without a pass
            # over the array that NumPy takes as long for as the decoder for a JPEG.
            rgb = strip if strip.mode == "RGB" else strip.convert("RGB")
            packed = np.frombuffer(rgb.tobytes("raw", format), np.uint8)
            pixels[top:bottom] = packed.reshape(bottom - top, upright.width, 3)
        return pixels


def _decode_with_opencv(name: str | os.PathLike[str], content: bytes) -> np.ndarray:
    encoded = np.frombuffer(content, np.uint8)
    # OpenCV prints warnings about damaged files to stderr; the caller's one line is enough.
    verbosity = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        stored = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
        if stored is not None and stored.dtype not in (np.uint8, np.uint16):
            raise InputError(f"{name}: {stored.dtype} pixels, convert the image to 8 bits")
        bgr = None if stored is None else cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    except cv2.error:
        bgr = None
    finally:
        cv2.utils.logging.setLogLevel(verbosity)
    if bgr is None:
        raise InputError(f"{name}: not an image that Pillow or OpenCV can read, replace it")
    return bgr
