"""Files that would run code, exhaust memory or are damaged end in one line, nothing executed."""

from __future__ import annotations

import os
import pickle
import random
import resource
import zipfile

import numpy as np
import pytest

from tests.support.paths import DATA, DEMO
from tests.support.pickle_writer import (
    Call,
    Global,
    Persistent,
    Raw,
    dumps,
    encode,
    numpy_array,
    torch_storage,
    torch_tensor,
    write_torch,
)
from tfdetect.checkpoint.formats.reader import read_checkpoint
from tfdetect.errors import InputError

DATA_16 = np.zeros(16, "<f4")


def error_of(path) -> str:
    with pytest.raises(InputError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def error_of_pickle(tmp_path, data: bytes) -> str:
    path = tmp_path / "model.pkl"
    path.write_bytes(data)
    return error_of(path)


def error_of_tensor(tmp_path, value, **storages: bytes) -> str:
    storages = storages or {"0": DATA_16.tobytes()}
    return error_of(write_torch(tmp_path / "model.pth", {"model": {"a": value}}, storages))


class Exploit:
    """Pickles as a call of `function(*args)`."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("where", ["model", "beside"])
def test_code_is_refused_by_name_and_not_run(tmp_path, protocol, where):
    trace = tmp_path / "trace"
    exploit = Exploit(os.system, f"touch {trace}")
    model = {"a": DATA_16}
    root = {"model": {**model, "b": exploit}} if where == "model" else {"x": exploit, **model}
    message = error_of_pickle(tmp_path, pickle.dumps(root, protocol))
    assert f"refusing to load {os.system.__module__}.system" in message
    archive = tmp_path / "model.pth"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(root, protocol))
    assert "refusing to load" in error_of(archive)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Global("builtins eval"), "builtins.eval"),
        (Global("__builtin__ getattr"), "builtins.getattr"),
        (Global("numpy load"), "numpy.load"),
        (Global("numpy.core.multiarray fromfile"), "numpy._core.multiarray.fromfile"),
        (Global("torch load"), "torch.load"),
        (Global("torch.nn.modules.linear Linear"), "torch.nn.modules.linear.Linear"),
        (Global("torch._utils __builtins__"), "torch._utils.__builtins__"),
        (Global("detectron2.config.config CfgNode"), "detectron2.config.config.CfgNode"),
        (Raw(b"X\x05\x00\x00\x00posixX\x06\x00\x00\x00system\x93"), "posix.system"),
        (Raw(b"(X\x04\x00\x00\x00trueios\nsystem\n"), "os.system"),
        (Raw(b"}}\x93"), "names a class by something other than text"),
        (Raw(b"}}\x81"), "calling a dict is not allowed"),
        (Raw(b"\x82\x01"), "the pickle instruction EXT1 is not allowed"),
        (Call("text", ()), "calling a str is not allowed"),
        (Call(Global("torch FloatStorage"), (4,)), "model.b is a torch.FloatStorage, not"),
        (Call(Global("numpy ndarray"), ((2**40,),)), "model.b is a numpy.ndarray, not"),
        (Call(Global("collections OrderedDict"), "x"), "calling a Global is not allowed"),
        (
            Call(Global("numpy.core.multiarray _reconstruct"), (Global("builtins dict"), (0,))),
            "of a class other than numpy.ndarray",
        ),
        # BUILD would give a label attributes: pickle.Unpickler sets them on the function itself.
        (Raw(encode(Global("_codecs encode")) + encode({"__code__": 1}) + b"b"), "state of a Glo"),
        (Call(Global("_codecs encode"), ("x", "rot13")), "other than latin-1"),
        (Call(Global("__builtin__ bytes"), (2**40,)), "makes bytes from something else"),
    ],
)
def test_everything_else_is_refused_by_name(tmp_path, value, expected):
    assert expected in error_of_pickle(tmp_path, dumps({"model": {"a": DATA_16, "b": value}}))


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"code": "O8", "data": [Global("numpy dtype")]}, "an array of dtype 'O8' is not allowed"),
        ({"code": "V8"}, "an array of dtype 'V8' is not allowed"),
        ({"code": ["f4"]}, "has a dtype without a name"),
        ({"order": "?"}, "has a dtype of unknown format"),
        ({"shape": (2**40,)}, "with 64 bytes"),
        ({"shape": (17,)}, "with 64 bytes"),
        ({"shape": (-16,)}, "impossible number"),
        ({"shape": (2**200, 0)}, "impossible number"),
        ({"shape": (2**40, 2**40, 0), "data": b""}, "impossible number"),
        ({"shape": (1.5,)}, "impossible number"),
        ({"shape": (1,) * 100}, "not a list of up to 32 numbers"),
        ({"shape": 16}, "not a list of up to 32 numbers"),
        ({"data": [1, 2]}, "content is not bytes"),
        ({"data": "\u20ac" * 16}, "truncated or damaged"),
    ],
)
def test_arrays_that_claim_what_is_not_so(tmp_path, claims, expected):
    value = numpy_array(DATA_16, **claims)
    assert expected in error_of_pickle(tmp_path, dumps({"model": {"a": value}}))


def test_content_used_twice_exceeds_the_file(tmp_path):
    """A thousand arrays of one memoised megabyte are a gigabyte from a megabyte."""
    data = Raw(encode(bytes(1 << 20)) + b"q\x00")
    again = Raw(b"h\x00")
    arrays = {
        str(i): numpy_array(DATA_16, shape=(1 << 18,), data=again if i else data)
        for i in range(1000)
    }
    assert "arrays claim more bytes" in error_of_pickle(tmp_path, dumps({"model": arrays}))
    texts = [Call(Global("_codecs encode"), (Raw(b"h\x00"), "latin1"))] * 1000
    first = Raw(encode("a" * (1 << 20)) + b"q\x00")
    assert "byte strings claim more" in error_of_pickle(tmp_path, dumps([first, *texts]))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch_tensor(torch_storage("0", 16), (17,), (1,)), "reaches outside its storage"),
        (torch_tensor(torch_storage("0", 16), (4, 4), (5, 1)), "reaches outside its storage"),
        (torch_tensor(torch_storage("0", 16), (4,), (1,), offset=13), "reaches outside"),
        (torch_tensor(torch_storage("0", 16), (), (), offset=16), "reaches outside"),
        (torch_tensor(torch_storage("0", 16), (0,), (1,), offset=99), "reaches outside"),
        (torch_tensor(torch_storage("0", 16), (4,), (1,), offset=-1), "impossible number"),
        (torch_tensor(torch_storage("0", 16), (4,), (-1,)), "impossible number"),
        (torch_tensor(torch_storage("0", 16), (-4,), (1,)), "impossible number"),
        (torch_tensor(torch_storage("0", 16), (2**70,), (1,)), "impossible number"),
        (torch_tensor(torch_storage("0", 16), (2**30,), (0,)), "repeated items claim more bytes"),
        (torch_tensor(torch_storage("0", 16), (9, 9), (1, 1)), "reaches outside its storage"),
        (torch_tensor(torch_storage("0", 16), (4, 4), (1,)), "size (4, 4) with 1 strides"),
        (torch_tensor(torch_storage("0", 2**30), (4,), (1,)), "storage 0 has 64 bytes instead of"),
        (torch_tensor(torch_storage("0", 8), (4,), (1,)), "storage 0 has 64 bytes instead of 32"),
        (torch_tensor(torch_storage("1", 16), (4,), (1,)), "lacks its entry archive/data/1"),
        (torch_tensor(torch_storage("../../x", 16), (4,), (1,)), "lacks its entry"),
        (torch_tensor(torch_storage("0", -16), (0,), (1,)), "not a tensor's storage"),
        (torch_tensor("storage", (4,), (1,)), "a tensor without storage"),
        (torch_storage("0", 16), "model.a is a Storage, not an array"),
        (Persistent(("storage", Global("torch Size"), "0", "cpu", 16)), "not a tensor's storage"),
        (Persistent("module"), "not a tensor's storage"),
        (Call(Global("torch._utils _rebuild_tensor_v2"), (1,)), "truncated or damaged"),
        (Call(Global("torch._utils _rebuild_parameter"), ([],)), "a parameter without a tensor"),
        (torch_storage("0", 16, "torch ComplexFloatStorage"), "is a Storage, not an array"),
    ],
)
def test_tensors_outside_of_their_storage(tmp_path, value, expected):
    assert expected in error_of_tensor(tmp_path, value)


def test_many_views_of_one_storage_exceed_the_file(tmp_path):
    data = bytes(1 << 16)
    storage = torch_storage("0", 1 << 14)
    state = {str(i): torch_tensor(storage, (1 << 13,), (1,), offset=i) for i in range(100)}
    path = write_torch(tmp_path / "model.pth", {"model": state}, {"0": data})
    assert "tensors claim more bytes" in error_of(path)


def test_bombs_end_early(tmp_path):
    """Memory may not grow by more than 1 GB (what the worst of these may honestly take)."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bombs = {
        b"}r\xff\xff\xff\x7f": "",  # memo index 2 ** 31: tens of gigabytes elsewhere
        b"\x8e" + b"\xff" * 7 + b"\x7f": "truncated",  # bytes of length 2 ** 63
        b"\x95" + b"\xff" * 7 + b"\x7f": "truncated",  # a frame of that length
        b")" + b"\x85" * 300_000 + b"0}": "",  # 300 000 nested tuples, popped
        b"})" + b"\x85" * 300_000 + b"Ns": "has tuple keys",  # and hashed: a stack overflow
        b"]" * 300_000 + b"a" * 299_999: "",
        b"N0" * 1_000_001: "too long for a checkpoint",
        b"]" + b"(2" * 10: "the pickle instruction DUP is not allowed",
    }
    for code, expected in bombs.items():
        assert expected in error_of_pickle(tmp_path, b"\x80\x02" + code + b".")
    nested = b"]q\x00" + b"](h\x00h\x00eq\x00" * 64  # 2 ** 64 lists, if one printed them
    for code in (nested + b"}\x93", nested + b"R", nested + b"b", b"}" + nested + b"Ns"):
        error_of_pickle(tmp_path, b"\x80\x02" + code + b".")
    array = nested + encode(Global("numpy dtype")) + b"h\x00\x85R"
    assert "a dtype without a name" in error_of_pickle(tmp_path, b"\x80\x02" + array + b".")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 1 << 20  # kilobytes


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a git-lfs pointer"),
        (b"<html>not found</html>", "is a web page"),
        (b"\x80", "truncated or damaged"),
        (b"\x80\x02.", "truncated or damaged"),
        (b"\x80\x02}", "truncated or damaged"),
        (b"\x80\x02h\x05.", "no memo 5"),
        (b"\x80\x02t.", "no mark"),
        (b"\x80\x02R.", "empty stack"),
        (b"\x80\x02\xff.", "truncated or damaged"),
        (dumps([1, 2]), "holds a list"),
        (dumps({}), "holds no arrays"),
        (dumps({"model": {}}), "holds no arrays"),
        (dumps({"other": {"a": DATA_16}, "cfg": ""}), "(found: other, cfg)"),
        (dumps({1: DATA_16}), "int keys instead of names"),
        (dumps({"model": {"a": DATA_16, "b\nc": "text"}}), "model.b c is a str, not an array"),
        (dumps({"a": torch_tensor(torch_storage("0", 4), (4,), (1,))}), "has no storages"),
        (dumps({"a": Call(Global("numpy.core.multiarray _reconstruct"),
                          (Global("numpy ndarray"), (0,), b"b"))}), "without content"),
    ],
)  # fmt: skip
def test_what_is_no_checkpoint(tmp_path, data, expected):
    assert expected in error_of_pickle(tmp_path, data)


def test_paths(tmp_path):
    assert "is a folder" in error_of(tmp_path)
    assert "No such file" in error_of(tmp_path / "none.pkl")
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in error_of(tmp_path / "pipe")


def test_real_files_cut_and_corrupted(tmp_path):
    for source in (DEMO / "joint_rcnn" / "model_final.pkl", DATA / "tiny" / "joint_rcnn.pth"):
        data = source.read_bytes()
        for length in (1000, len(data) // 2, len(data) - 1):
            assert "truncated or damaged" in error_of_pickle(tmp_path, data[:length])
    damaged = bytearray(data)  # in the middle of a storage, where the zip's checksum sees it
    damaged[len(data) // 2] ^= 0xFF
    assert "Bad CRC-32" in error_of_pickle(tmp_path, bytes(damaged))


def test_other_zips(tmp_path):
    path = tmp_path / "model.pth"
    state = {"a": torch_tensor(torch_storage("0", 16), (16,), (1,))}
    storages = {"0": DATA_16.tobytes()}
    write_torch(path, state, storages, byteorder=b"big")
    assert "big-endian" in error_of(path)
    write_torch(path, state, {"0": bytes(1 << 20)}, compression=zipfile.ZIP_DEFLATED)
    assert "compressed zip" in error_of(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "no data.pkl" in error_of(path)
    write_torch(path, state, storages)
    data = path.read_bytes()
    # The central directory claims that a storage has 4 GB.
    entry = data.rindex(b"archive/data/0") - 46
    path.write_bytes(data[: entry + 20] + b"\xf0\xff\xff\xff" * 2 + data[entry + 28 :])
    assert "entries claim more bytes" in error_of(path)


def test_random_damage_never_escapes(tmp_path):
    """Two thousand damaged files: each is read or rejected in one line."""
    rng = random.Random(0)
    root = {"model": {"a": DATA_16, "b": np.ones((2, 3))}, "__author__": "x", "s": {1}, "t": [(1,)]}
    path = tmp_path / "model.pkl"
    refused: list[str] = []
    for _ in range(2000):
        data = bytearray(pickle.dumps(root, rng.choice([2, 3, 4, 5])))
        for _ in range(rng.choice([1, 2, 8])):
            position = rng.randrange(len(data))
            if rng.random() < 0.8:
                data[position] = rng.choice([rng.randrange(256), *b"RbQ(tc}]).hq\x85\x86\x93\x94"])
            else:
                del data[position : position + rng.randrange(1, 9)]
        path.write_bytes(data)
        try:
            read_checkpoint(path)
        except InputError as error:
            refused.append(str(error))
    assert 1000 < len(refused) < 2000
    assert not any("\n" in message for message in refused)
