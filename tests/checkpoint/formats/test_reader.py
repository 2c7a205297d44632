"""Checkpoints of every source library give the arrays that were written, without PyTorch.

All comparisons are exact: reading only moves bytes, and widening to float32 loses nothing.
"""

from __future__ import annotations

import collections
import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

from tests.support.paths import DATA, DEMO
from tests.support.pickle_writer import (
    Call,
    Global,
    Persistent,
    dumps,
    legacy_storage,
    numpy_array,
    torch_storage,
    torch_tensor,
    write_legacy_torch,
    write_torch,
)
from tfdetect.checkpoint.formats.reader import read_checkpoint
from tfdetect.errors import InputError

ARRAYS = {
    "backbone.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "backbone.bias": np.array([np.nan, -0.0, np.inf], np.float32),
    "counts": np.array(7, np.int64),
    "empty": np.zeros((0, 4), np.float32),
    "flags": np.array([True, False]),
}


def assert_same(read: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(read) == list(expected)
    for name, array in expected.items():
        assert read[name].dtype == array.dtype, name
        assert read[name].shape == array.shape, name
        np.testing.assert_array_equal(read[name], array, err_msg=name)


def write(path, data: bytes):
    path.write_bytes(data)
    return path


def test_pickle_and_archive_of_detectron2_hold_the_same_model():
    pkl = read_checkpoint(DEMO / "joint_rcnn" / "model_final.pkl")
    pth = read_checkpoint(str(DATA / "tiny" / "joint_rcnn.pth"))
    assert len(pkl.arrays) == 317
    assert pkl.arrays["backbone.bottom_up.stem.conv1.weight"].shape == (16, 3, 7, 7)
    assert_same(pth.arrays, pkl.arrays)
    assert (pkl.format, pkl.source, pkl.ignored) == ("pkl", "model_final.pkl", ())
    assert pkl.author == "trained with Detectron2 on synthetic shapes"
    assert (pth.format, pth.source, pth.author) == ("pth", "joint_rcnn.pth", None)
    assert pth.ignored == ("optimizer", "scheduler", "iteration")
    data = (DEMO / "joint_rcnn" / "model_final.pkl").read_bytes()
    assert pkl.sha256 == hashlib.sha256(data).hexdigest()


def test_reading_needs_neither_tensorflow_nor_torch():
    code = (
        "import sys, tfdetect.checkpoint.formats.reader, tfdetect.config, tfdetect.data.catalog;"
        "sys.exit(bool({'tensorflow', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_every_protocol(tmp_path, protocol):
    root = {"model": ARRAYS, "__author__": "somebody", "matching_heuristics": True}
    checkpoint = read_checkpoint(write(tmp_path / "model.pkl", pickle.dumps(root, protocol)))
    assert_same(checkpoint.arrays, ARRAYS)
    assert checkpoint.author == "somebody"
    assert checkpoint.ignored == ("matching_heuristics",)


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_pickles_of_either_numpy(tmp_path, core):
    arrays = {name: numpy_array(array, f"{core}.multiarray") for name, array in ARRAYS.items()}
    checkpoint = read_checkpoint(write(tmp_path / "model.pkl", dumps({"model": arrays})))
    assert_same(checkpoint.arrays, ARRAYS)


def test_pickle_of_python_2(tmp_path):
    """Names, dtypes and content are byte strings there, which are read as latin-1."""
    arrays = {"conv1_w": ARRAYS["backbone.weight"], "caf\xe9": ARRAYS["counts"]}
    data = dumps({"model": arrays, "__author__": "Caf\xe9"}, python2=True)
    assert b"X" + b"\x05\x00\x00\x00model" not in data
    checkpoint = read_checkpoint(write(tmp_path / "model.pkl", data))
    assert_same(checkpoint.arrays, arrays)
    assert checkpoint.author == "Caf\xe9"


def test_bare_dictionaries(tmp_path):
    data = pickle.dumps({**ARRAYS, "step": 3})
    checkpoint = read_checkpoint(write(tmp_path / "model.pkl", data))
    assert_same(checkpoint.arrays, ARRAYS)
    assert checkpoint.ignored == ("step",)
    state = {"a": torch_tensor(torch_storage("0", 2), (2,), (1,))}
    pth = write_torch(tmp_path / "model.pth", state, {"0": np.array([1, 2], "<f4").tobytes()})
    assert_same(read_checkpoint(pth).arrays, {"a": np.array([1, 2], np.float32)})


def test_orders_and_types_of_arrays(tmp_path):
    fortran = np.asfortranarray(ARRAYS["backbone.weight"])
    big = ARRAYS["backbone.weight"].astype(">f4")
    half = np.array([0.1, 65504, 6e-8], np.float16)
    root = {"fortran": fortran, "big": big, "half": half, "double": np.array([0.1])}
    read = read_checkpoint(write(tmp_path / "model.pkl", pickle.dumps(root))).arrays
    expected = {
        "fortran": ARRAYS["backbone.weight"],
        "big": ARRAYS["backbone.weight"],
        "half": half.astype(np.float32),
        "double": np.array([0.1]),
    }
    assert_same(read, expected)
    assert all(array.flags.c_contiguous and array.dtype.isnative for array in read.values())


def test_tensors_of_every_dtype(tmp_path):
    kinds = {
        "Double": "<f8",
        "Float": "<f4",
        "Half": "<f2",
        "Long": "<i8",
        "Int": "<i4",
        "Short": "<i2",
        "Char": "i1",
        "Byte": "u1",
        "Bool": "?",
    }
    values = [1, 0, 3]
    storages = {kind: np.array(values, dtype).tobytes() for kind, dtype in kinds.items()}
    state = {
        kind: torch_tensor(torch_storage(kind, 3, f"torch {kind}Storage"), (3,), (1,))
        for kind in kinds
    }
    read = read_checkpoint(write_torch(tmp_path / "model.pth", {"model": state}, storages)).arrays
    expected = {kind: np.array(values, dtype) for kind, dtype in kinds.items()}
    expected["Half"] = expected["Half"].astype(np.float32)
    assert_same(read, expected)


def test_bfloat16_is_widened(tmp_path):
    """Its bits are the upper half of a float32's."""
    values = np.array([1.0, -2.5, 3.140625, np.inf], np.float32)
    upper = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    state = {"a": torch_tensor(torch_storage("0", 4, "torch BFloat16Storage"), (4,), (1,))}
    assert_same(
        read_checkpoint(write_torch(tmp_path / "model.pth", state, {"0": upper})).arrays,
        {"a": values},
    )


def test_views_of_a_shared_storage(tmp_path):
    base = np.arange(12, dtype="<f4")
    storage = torch_storage("0", 12)
    state = {
        "whole": torch_tensor(storage, (3, 4), (4, 1), rebuild="_rebuild_tensor"),
        "tied": torch_tensor(storage, (3, 4), (4, 1)),
        "transposed": torch_tensor(torch_storage("1", 12), (4, 3), (1, 4)),
        "row": torch_tensor(torch_storage("2", 12), (1, 4), (99, 1), offset=8),
        "scalar": torch_tensor(torch_storage("3", 12), (), (), offset=11),
        "nothing": torch_tensor(torch_storage("4", 0), (0, 5), (5, 1)),
    }
    storages = {**dict.fromkeys("0123", base.tobytes()), "4": b""}
    read = read_checkpoint(write_torch(tmp_path / "model.pth", state, storages)).arrays
    matrix = base.reshape(3, 4)
    assert_same(
        read,
        {
            "whole": matrix,
            "tied": matrix,
            "transposed": matrix.T,
            "row": matrix[2:],
            "scalar": np.array(11, np.float32),
            "nothing": np.zeros((0, 5), np.float32),
        },
    )


def test_what_trainers_write_beside_the_model(tmp_path):
    """Parameters, sizes, dtypes, ordered dictionaries with attributes, sets, NumPy scalars."""
    data = np.arange(6, dtype="<f4")
    tensor = torch_tensor(torch_storage("0", 6), (6,), (1,))
    no_hooks = Call(Global("collections OrderedDict"), ())
    untyped = torch_storage("0", 24, "torch.storage UntypedStorage")
    model = Call(Global("collections OrderedDict"), (), {"_metadata": no_hooks})
    weights = {
        "parameter": Call(Global("torch._utils _rebuild_parameter"), (tensor, True, no_hooks)),
        "untyped": Call(
            Global("torch._utils _rebuild_tensor_v3"),
            (untyped, 0, (6,), (1,), False, no_hooks, Global("torch float32")),
        ),
    }
    scalar = Call(Global("numpy.core.multiarray scalar"), (numpy_array(data).state[2], b"\0" * 4))
    root = {
        "model": weights,
        "attributes": model,
        "size": Call(Global("torch Size"), ([1, 2],)),
        "set": Call(Global("__builtin__ set"), ([1, 2],)),
        "milestones": Call(Global("collections Counter"), ({60000: 1},)),
        "default": Call(Global("collections defaultdict"), (Global("__builtin__ list"),)),
        "scalar": scalar,
        "best": 0.5,
        "bytes": Call(Global("__builtin__ bytes"), ()),
    }
    checkpoint = read_checkpoint(write_torch(tmp_path / "model.pth", root, {"0": data.tobytes()}))
    assert_same(checkpoint.arrays, {"parameter": data, "untyped": data})
    assert checkpoint.ignored == tuple(root)[1:]


def test_ordered_dictionaries_of_pythons(tmp_path):
    model = collections.OrderedDict(ARRAYS)
    checkpoint = read_checkpoint(write(tmp_path / "a.pkl", pickle.dumps({"model": model}, 2)))
    assert_same(checkpoint.arrays, ARRAYS)
    pairs = [[name, array] for name, array in ARRAYS.items()]
    python2 = Call(Global("collections OrderedDict"), (pairs,))
    checkpoint = read_checkpoint(write(tmp_path / "b.pkl", dumps({"model": python2}, python2=True)))
    assert_same(checkpoint.arrays, ARRAYS)


def test_storages_of_the_optimizer_are_not_read(tmp_path):
    """They may be twice the model; only entries that the model needs are opened."""
    state = {
        "model": {"a": torch_tensor(torch_storage("0", 2), (2,), (1,))},
        "optimizer": {"state": {0: {"momentum": torch_tensor(torch_storage("1", 2), (2,), (1,))}}},
    }
    path = write_torch(tmp_path / "model.pth", state, {"0": b"\0" * 8})
    assert_same(read_checkpoint(path).arrays, {"a": np.zeros(2, np.float32)})


def test_legacy_torch(tmp_path):
    """Published models of torchvision and maskrcnn-benchmark are older than PyTorch 1.6."""
    rng = np.random.default_rng(0)
    storages = {
        "94": rng.normal(size=20).astype(np.float32),
        "12": np.arange(3, dtype=np.int64),
    }
    floats, integers = legacy_storage("94", 20), legacy_storage("12", 3, "torch LongStorage")
    model = {
        "conv.weight": torch_tensor(floats, (2, 3, 2), (6, 1, 3), offset=4),
        "count": torch_tensor(integers, (), (), offset=2),
    }
    value = {"model": model, "iteration": 7, "optimizer": {"state": [(1, {})]}}
    # The storages do not come in the order of their use.
    path = write_legacy_torch(tmp_path / "x.pth", value, storages, order=["12", "94"])
    checkpoint = read_checkpoint(path)
    expected = np.lib.stride_tricks.as_strided(storages["94"][4:], (2, 3, 2), (24, 4, 12))
    assert_same(checkpoint.arrays, {"conv.weight": expected, "count": np.array(2)})
    assert (checkpoint.format, checkpoint.ignored) == ("pth", ("iteration", "optimizer"))


def test_npz(tmp_path):
    arrays = {"conv0/W": np.asfortranarray(ARRAYS["backbone.weight"][0]), "fc/b": np.arange(3.0)}
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    checkpoint = read_checkpoint(tmp_path / "x.npz")
    assert_same(checkpoint.arrays, arrays)
    assert checkpoint.format == "npz"


def test_hostile_npz(tmp_path):
    def error(**arrays):
        np.savez_compressed(tmp_path / "x.npz", **arrays)
        with pytest.raises(InputError) as caught:
            read_checkpoint(tmp_path / "x.npz")
        return str(caught.value)

    assert "dtype |O is not allowed" in error(a=np.array([{}], object))
    assert "claim far more bytes" in error(a=np.zeros(1_000_000))
    np.savez(tmp_path / "y.npz", a=np.zeros(4, np.float32))
    data = (tmp_path / "y.npz").read_bytes()
    broken = data.replace(b"'shape': (4,)", b"'shape': (9,)")
    with pytest.raises(InputError, match=r"damaged|does not fit"):
        read_checkpoint(write(tmp_path / "y.npz", broken))
    with pytest.raises(InputError, match=r"damaged"):
        read_checkpoint(write(tmp_path / "y.npz", data[:-30]))


def test_legacy_torch_damaged_or_foreign(tmp_path):
    storages = {"0": np.ones(4, np.float32)}
    value = {"w": torch_tensor(legacy_storage("0", 4), (4,), (1,))}
    path = write_legacy_torch(tmp_path / "x.pth", value, storages)
    data = path.read_bytes()
    for cut in (30, len(data) - 20, len(data) - 1):
        with pytest.raises(InputError, match=r"truncated or damaged"):
            read_checkpoint(write(tmp_path / "cut.pth", data[:cut]))
    wrong = write_legacy_torch(tmp_path / "y.pth", value, {"0": np.ones(5, np.float32)})
    with pytest.raises(InputError, match=r"storage 0 is damaged"):
        read_checkpoint(wrong)
    with pytest.raises(InputError, match=r"big-endian"):
        read_checkpoint(write_legacy_torch(tmp_path / "z.pth", value, storages, None, False))
    view = Persistent(("storage", Global("torch FloatStorage"), "0", "cpu", 4, ("1", 0, 4)))
    value = {"w": torch_tensor(view, (4,), (1,))}
    with pytest.raises(InputError, match=r"not a tensor's storage"):
        read_checkpoint(write_legacy_torch(tmp_path / "v.pth", value, storages))
