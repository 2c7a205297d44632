"""Pascal VOC's XML files for training, and for evaluation with COCO's metrics."""

from __future__ import annotations

from pathlib import Path

from tfdetect.data.image_files import image_called
from tfdetect.data.json_format import as_integer
from tfdetect.data.other_formats.content import IMAGE_SUFFIXES, Content, image_size
from tfdetect.data.voc import is_list, parse_annotation, read_box, read_list, root_of
from tfdetect.errors import InputError


def is_voc(path: Path) -> bool:
    """Whether this is a list of images in `ImageSets/Main`, or a folder of XML files."""
    if path.is_file():
        return is_list(path)
    return path.is_dir() and bool(_files(path))


def read_voc_objects(
    path: Path, images_dir: Path, class_names: list[str] | None = None, *, difficult: bool = False
) -> Content:
    """Read a list of images, or a folder of XML files as labelImg and others write it.

    Args:
        path: such as `VOC2007/ImageSets/Main/trainval.txt`, whose Annotations are two folders up;
            or a folder of XML files.
        images_dir: the folder of the images; one has the name of its XML file, else its `filename`.
        class_names: None for those in the files, by name.
        difficult: whether difficult objects are crowds, which do not count in an evaluation.
            (Training uses them as any other, as Detectron2 does.)

    Raises:
        InputError: there are no such files. What is broken in one is in `errors`.
    """
    content = Content()
    if path.is_file():
        folder = root_of(path) / "Annotations"
        files = [folder / f"{name}.xml" for name in read_list(path)]
    else:
        files = _files(path)
    found = []
    for file in files:
        try:
            annotation = parse_annotation(file)
            image = image_called(images_dir, file.stem, IMAGE_SUFFIXES)
            named = (annotation.findtext("filename") or "").strip().replace("\\", "/")
            name = image.name if image else named.rpartition("/")[2] or f"{file.stem}.jpg"
            sides = [as_integer(annotation.findtext(f"size/{key}")) for key in ("height", "width")]
            # Tools that do not know the size write 0.
            size = image_size(file, images_dir / name) if not all(sides) else sides
            height, width = (side or 0 for side in size)
            if min(height, width) <= 0:
                raise InputError(f"{file}: size must be numbers of pixels, correct the file")
        except InputError as error:
            content.errors.append(error)
            continue
        image_id = content.add_image(name, height, width)
        for index, entry in enumerate(annotation.findall("object")):
            label = (entry.findtext("name") or "").strip()
            is_difficult = (entry.findtext("difficult") or "").strip() == "1"
            try:
                if not label or (class_names is not None and label not in class_names):
                    raise InputError(f"{file}: object[{index}] has the unknown class {label!r}")
                found.append((image_id, label, read_box(file, entry), difficult and is_difficult))
            except InputError as error:
                content.errors.append(error)
    names = class_names if class_names is not None else sorted({label for _, label, *_ in found})
    content.class_names = names
    indices = {name: index for index, name in enumerate(names)}
    for image_id, label, box, crowd in found:
        content.add_object(image_id, indices[label], box, iscrowd=crowd)
    return content


def voc_files(path: Path) -> list[Path]:
    """The files that say something of the objects."""
    if not path.is_file():
        return _files(path)
    folder = root_of(path) / "Annotations"
    return [path, *_files(folder)]


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.xml") if p.is_file())
