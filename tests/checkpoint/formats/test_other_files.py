"""Files that are given for a checkpoint and are none: one line that says what they are; and
`.safetensors`, whole and in several files."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import re
import struct
import tarfile
import zipfile

import ml_dtypes
import numpy as np
import pytest

from convert_d2.command import main
from tests.support.paths import DEMO
from tests.support.pickle_writer import torch_file, torch_state
from tfdetect.checkpoint.formats.reader import read_checkpoint
from tfdetect.config import load_config
from tfdetect.errors import InputError

ARRAYS = {
    "backbone.bottom_up.stem.conv1.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "roi_heads.box_predictor.cls_score.bias": np.arange(3, dtype=np.float32),
}


def gzipped():
    return gzip.compress(pickle.dumps(ARRAYS))


def tarred():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("model.pth")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"text"))
    return buffer.getvalue()


def zipped(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return buffer.getvalue()


def npy():
    buffer = io.BytesIO()
    np.save(buffer, ARRAYS["roi_heads.box_predictor.cls_score.bias"])
    return buffer.getvalue()


FILES = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    "html": (b"\n<!DOCTYPE html>\n<html>Sign in</html>", "is a web page"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML document"),
    "text": (b"404: Not Found", "is text (it begins '404: Not Found')"),
    "json": (b'{"message": "Not Found"}', "is JSON"),
    "yaml": (b"MODEL:\n  WEIGHTS: x\n", "is text (it begins 'MODEL: WEIGHTS: x')"),
    "gzip": (gzipped(), "gunzip"),
    "bzip2": (b"BZh91AY&SY", "bunzip2"),
    "xz": (b"\xfd7zXZ\0\0", "unxz"),
    "zstd": (b"\x28\xb5\x2f\xfd\0", "unzstd"),
    "7z": (b"7z\xbc\xaf\x27\x1c", "7z archive"),
    "tar": (tarred(), "tar -xf"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "HDF5"),
    "npy": (npy(), "single NumPy array"),
    "png": (b"\x89PNG\r\n\x1a\n", "is a picture"),
    "jpeg": (b"\xff\xd8\xff\xe0", "is a picture"),
    "tflite": (b"\x1c\0\0\0TFL3\0\0", "LiteRT"),
    "zeros": (bytes(1000), "nothing but zeros"),
    "noise": (b"\x01\x02\x03\x04 noise", "neither a pickle"),
    "tf_list": (b'model_checkpoint_path: "model-1"\n', "list of checkpoints"),
    "tf_index": (b"\0\0\1" * 9 + bytes.fromhex("57fb808b247547db"), "TensorFlow checkpoint"),
    "torchscript": (zipped("m/data.pkl", "m/code/__torch__.py", "m/constants.pkl"), "TorchScript"),
    "mobile": (zipped("m/bytecode.pkl", "m/data.pkl"), "PyTorch Mobile"),
    "package": (zipped("p/.data/extern_modules", "p/model.pkl"), "torch.package"),
    "export": (zipped("m/models/model.json", "m/data/weights/weight_0"), "torch.export"),
    "torchserve": (zipped("MAR-INF/MANIFEST.json", "model.pth"), "TorchServe"),
    "keras": (zipped("config.json", "metadata.json", "model.weights.h5"), "a Keras model"),
    "zip_of_pth": (
        zipped("models/model.pth", "readme.txt"),
        "zip file with models/model.pth in it",
    ),
    "zip": (zipped("word/document.xml"), "not a PyTorch checkpoint (no data.pkl"),
    "empty_zip": (zipped(), "not a PyTorch checkpoint"),
    "truncated_zip": (zipped("archive/data.pkl", "archive/data/0")[:60], "truncated or damaged"),
    "protocol_0": (pickle.dumps({"a": 1}, 0), "protocol 0 or 1"),
    "protocol_1": (pickle.dumps({"a": [1]}, 1), "protocol 0 or 1"),
    "ordered_0": (pickle.dumps(__import__("collections").OrderedDict(a=1), 0), "protocol 0 or 1"),
    "empty": (b"", "is empty"),
    "short_safetensors": (struct.pack("<Q", 50) + b'{"a":', "neither a pickle"),
}


def line_of(path) -> str:
    with pytest.raises(InputError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 250
    return message


@pytest.mark.parametrize("kind", FILES)
def test_what_is_no_checkpoint(tmp_path, kind):
    data, expected = FILES[kind]
    path = tmp_path / "model.pth"
    path.write_bytes(data)
    assert expected in line_of(path)
    for arguments in (["--inspect", str(path)], ["--weights", str(path), "--output", "m"]):
        with pytest.raises(InputError, match=re.escape(expected)):
            main(arguments)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.ckpt-1.data-00000-of-00001", "TensorFlow checkpoint"),
        ("model.ckpt-1.meta", "TensorFlow checkpoint"),
        ("model.onnx", "ONNX"),
        ("frozen.pb", "TensorFlow graph"),
        ("yolov3.weights", "darknet"),
    ],
)
def test_files_that_only_their_name_tells(tmp_path, name, expected):
    (tmp_path / name).write_bytes(b"\x08\x01\x02\x03")
    assert expected in line_of(tmp_path / name)


def test_folders(tmp_path, model_dir):
    assert "tfdetect predict --model" in line_of(model_dir)
    (tmp_path / "x.pth").write_bytes(b"1")
    assert "is a folder; give the checkpoint file in it (x.pth)" in line_of(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"1")
    assert "SavedModel" in line_of(tmp_path)


DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def write_safetensors(path, arrays, **header):
    """The format of the library, by its specification: size and JSON of the header, content."""
    names = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
    content, entries = b"", {"__metadata__": {"format": "pt"}}
    for name, array in arrays.items():
        ends = [len(content), len(content) + array.nbytes]
        entries[name] = {
            "dtype": names[array.dtype],
            "shape": array.shape,
            "data_offsets": ends,
        } | header.get(name, {})
        content += array.tobytes()
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)
    return path


def test_safetensors(tmp_path):
    arrays = {
        f"roi_heads.{name}": np.array([[1, 0], [1, 2]]).astype(dtype)
        for name, dtype in DTYPES.items()
    } | {"scalar": np.array(2, np.float32), "empty": np.zeros((0, 3), np.float32)}
    path = write_safetensors(tmp_path / "model.safetensors", arrays)
    checkpoint = read_checkpoint(path)
    assert checkpoint.format == "safetensors"
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert set(checkpoint.arrays) == set(arrays)
    for name, array in arrays.items():
        read = checkpoint.arrays[name]
        short = array.dtype.name in ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")
        assert read.dtype == (np.float32 if short else array.dtype), name
        assert read.shape == array.shape
        np.testing.assert_array_equal(read, array.astype(read.dtype))
    # By its content, whatever its name.
    assert read_checkpoint(path.rename(tmp_path / "model.pth")).format == "safetensors"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"dtype": "F4", "shape": [16]}, "F4"),
        ({"dtype": "C64", "shape": [1]}, "C64"),
        ({"shape": [2**62, 4]}, "damaged"),
        ({"shape": [-2]}, "damaged"),
        ({"shape": [3]}, "damaged"),
        ({"data_offsets": [0, 2**40]}, "damaged"),
        ({"data_offsets": [8, 16]}, "damaged"),
        ({"data_offsets": [8, 0]}, "damaged"),
    ],
)
def test_damaged_safetensors(tmp_path, header, expected):
    arrays = {"a.weight": np.arange(2, dtype=np.float32)}
    path = write_safetensors(tmp_path / "x.safetensors", arrays, **{"a.weight": header})
    assert expected in line_of(path)


def test_safetensors_cut_or_empty(tmp_path):
    path = write_safetensors(tmp_path / "x.safetensors", ARRAYS)
    data = path.read_bytes()
    for length in (9, 60, len(data) - 1):
        path.write_bytes(data[:length])
        assert re.search("damaged|neither a pickle", line_of(path))
    path.write_bytes(struct.pack("<Q", 2) + b"{}")
    assert "holds no arrays" in line_of(path)


def test_safetensors_through_the_command(tmp_path, model_dir, capsys):
    """The demo's model, under a prefix, gives the model that its pickle gives."""
    from tfdetect.checkpoint.model_dir import load_model
    from tfdetect.checkpoint.names import named_variables

    arrays = read_checkpoint(DEMO / "joint_rcnn" / "model_final.pkl").arrays
    wrapped = {f"model.{name}": array for name, array in arrays.items()}
    path = write_safetensors(tmp_path / "model.safetensors", wrapped)
    config = str(DEMO / "joint_rcnn" / "config.yaml")
    output = tmp_path / "model"
    main(["--config-file", config, "--weights", str(path), "--output", str(output)])
    assert "'model.' before the names is stripped" in capsys.readouterr().err
    models = [load_model(folder)[1] for folder in (output, model_dir)]
    for ours, theirs in zip(*map(named_variables, models), strict=True):
        np.testing.assert_array_equal(ours.variable, theirs.variable)
    assert load_config(output / "config.yaml") == load_config(model_dir / "config.yaml")


def test_models_in_several_files(tmp_path):
    names = list(ARRAYS)
    write_safetensors(tmp_path / "a.safetensors", {names[0]: ARRAYS[names[0]]})
    second = {names[1]: ARRAYS[names[1]]}
    torch_file(tmp_path / "b.bin", torch_state(second), second)
    index = tmp_path / "model.safetensors.index.json"
    weight_map = {names[0]: "a.safetensors", names[1]: "b.bin"}
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    checkpoint = read_checkpoint(index)
    assert checkpoint.format == "index.json"
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(checkpoint.arrays[name], array)
    for text, expected in (
        ("{", "not the index"),
        ("[" * 100_000, "not the index"),
        ('{"weight_map": [1]}', "not the index"),
        ('{"weight_map": {"a": "../b.bin"}}', "not next to it"),
        ('{"weight_map": {"a": 3}}', "not next to it"),
        ('{"weight_map": {"a": "model.safetensors.index.json"}}', "not next to it"),
        ('{"weight_map": {"a": "b.bin"}}', "none of its files has a"),
        ('{"weight_map": {"a": [1]}}', "not the index"),
        ('{"weight_map": {}}', "holds no arrays"),
    ):
        index.write_text(text)
        assert expected in line_of(index)
    index.write_text('{"weight_map": {"a": "none.bin"}}')
    with pytest.raises(InputError, match=r"none\.bin: cannot be read"):
        read_checkpoint(index)
