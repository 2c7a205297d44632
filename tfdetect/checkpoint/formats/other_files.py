"""Identifies files that are not checkpoints: one line that says what they are and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_GIVE = "give a .pkl from the model zoo, a .pth from torch.save, a .safetensors or an .npz"

# What a file begins with. (Pickles of protocol 0 and 1 have no mark of their own.)
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "is a git-lfs pointer, not the file; run: git lfs pull"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it first (gunzip)"),
    (b"BZh", "is compressed with bzip2; unpack it first (bunzip2)"),
    (b"\xfd7zXZ", "is compressed with xz; unpack it first (unxz)"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd; unpack it first (unzstd)"),
    (b"7z\xbc\xaf", "is a 7z archive; unpack it first"),
    (b"Rar!", "is a rar archive; unpack it first"),
    (b"\x89HDF\r\n", f"is an HDF5 file (perhaps from Keras), which is not supported; {_GIVE}"),
    (b"\x93NUMPY", f"is a single NumPy array without a name; {_GIVE}"),
    (b"model_checkpoint_path:", f"is TensorFlow's list of checkpoints; {_GIVE}"),
    (b"\x89PNG", f"is a picture; {_GIVE}"),
    (b"\xff\xd8\xff", f"is a picture; {_GIVE}"),
    (b"%PDF", f"is a PDF; {_GIVE}"),
    (b"\x7fELF", f"is a program or library; {_GIVE}"),
)
# What a table of LevelDB's form ends with, in which TensorFlow writes the index of a checkpoint.
_TABLE = bytes.fromhex("57fb808b247547db")
_TENSORFLOW = (
    "is part of a TensorFlow checkpoint, which is not supported; give a model directory of this "
    "project to tfdetect predict, or tensorpack's model as .npz"
)
_NAMES: tuple[tuple[str, str], ...] = (
    (r".*\.(data-\d+-of-\d+|meta|index)", _TENSORFLOW),
    (r".*\.onnx", f"is an ONNX model, which is not supported; {_GIVE}"),
    (r".*\.pb", f"is a TensorFlow graph, which is not supported; {_GIVE}"),
    (r".*\.weights", f"may be a darknet file, which is not supported; {_GIVE}"),
)
_PROTOCOL_0 = re.compile(rb"\([dl]p?\d|[}\]]q.|c[\w.]+\n\w+\n", re.DOTALL)


def describe_file(path: Path, head: bytes, tail: bytes) -> str:
    """Describe a file that no reader supports.

    Args:
        path: for what its name tells; it is not opened.
        head: its first kilobyte.
        tail: its last eight bytes.
    """
    for beginning, what in _BEGINNINGS:
        if head.startswith(beginning):
            return what
    if head[257:262] == b"ustar":
        return "is a tar archive; unpack it first (tar -xf), and give the checkpoint in it"
    if head[4:8] == b"TFL3":
        return f"is a LiteRT model (.tflite), which is not supported; {_GIVE}"
    if tail == _TABLE:
        return _TENSORFLOW
    for pattern, what in _NAMES:
        if re.fullmatch(pattern, path.name):
            return what
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<body")):
        return "is a web page, not the file (a login or error page?); download the file itself"
    if start.startswith(b"<?xml"):
        return "is an XML document (a server error?); download the file itself"
    if start.startswith((b"{", b"[")) and _is_text(head):
        return f"is JSON, not a checkpoint; {_GIVE}"
    if _PROTOCOL_0.match(head):
        return "may be a pickle of protocol 0 or 1; write it with pickle.dump(..., protocol=2)"
    if _is_text(head):
        begins = " ".join(head[:60].decode("utf-8", "replace").split())
        return f"is text (it begins {begins[:40]!r}), not a checkpoint; {_GIVE}"
    if not head.strip(b"\0"):
        return "begins with nothing but zeros; download or save it again"
    return f"is neither a pickle (protocol 2 or later) nor a torch zip archive; {_GIVE}"


def _is_text(data: bytes) -> bool:
    return not re.search(rb"[\x00-\x08\x0e-\x1f\x7f]", data)


def describe_zip(names: Iterable[str]) -> str | None:
    """Say what a zip with entries of these names is; None where it may be torch's."""
    names = set(names)
    parts = {name.partition("/")[2] for name in names}
    if any(part.startswith("code/") for part in parts) and "constants.pkl" in parts:
        return (
            "is a TorchScript program; save its weights with PyTorch: "
            "torch.save(torch.jit.load(FILE).state_dict(), NEW_FILE)"
        )
    if "bytecode.pkl" in parts:
        return "is a PyTorch Mobile program; give the checkpoint that it was made from"
    if any(".data/extern_modules" in name for name in names):
        return "is a torch.package archive; save the model's state_dict() with torch.save"
    if any("models/model.json" in name or "exported_program.json" in name for name in names):
        return "is a torch.export program; save the model's state_dict() with torch.save"
    if "MAR-INF/MANIFEST.json" in names:
        return "is a TorchServe archive; unpack it, and give the .pth in it"
    if "model.weights.h5" in names:
        return f"is a Keras model, which is not supported; {_GIVE}"
    if "data.pkl" not in parts:
        inside = sorted(
            name for name in names if name.endswith((".pth", ".pt", ".pkl", ".safetensors", ".npz"))
        )
        if inside and not any(name.endswith("/data.pkl") for name in names):
            return f"is a zip file with {inside[0][:80]} in it; unpack it first"
        return "is a zip file, but not a PyTorch checkpoint (no data.pkl in it); unpack it first"
    return None


def describe_folder(path: Path) -> str:
    """Say what to give instead of a folder."""
    if (path / "config.yaml").is_file() and (path / "metadata.json").is_file():
        return "is a model directory, converted already; give it to tfdetect predict --model"
    if (path / "saved_model.pb").is_file():
        return f"is a TensorFlow SavedModel; {_GIVE}"
    kinds = ("*.pth", "*.pkl", "*.pt", "*.safetensors", "*.npz", "*.index.json")
    inside = sorted(file.name for kind in kinds for file in path.glob(kind))
    return (
        f"is a folder; give the checkpoint file in it ({', '.join(inside[:3]) or 'there is none'})"
    )
