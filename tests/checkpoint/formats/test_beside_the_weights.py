"""What training scripts save beside the weights is inert; it is rejected where a weight should be.

The forms are those that pickle and torch.save write for these objects.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import enum
import fractions
import functools
import mmap
import pathlib
import pickle
import random
import uuid

import numpy as np
import pytest

from tests.support.pickle_writer import (
    Call,
    Global,
    New,
    Persistent,
    Raw,
    encode,
    legacy_storage,
    numpy_array,
    torch_file,
    torch_state,
    torch_storage,
    torch_tensor,
    write_legacy_torch,
    write_torch,
)
from tfdetect.checkpoint.formats.legacy_torch import MAGIC_NUMBER, read_legacy_torch
from tfdetect.checkpoint.formats.reader import read_checkpoint
from tfdetect.checkpoint.formats.unpickle import unpickle
from tfdetect.errors import InputError

ARRAYS = {
    "backbone.stem.conv1.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "backbone.stem.conv1.norm.bias": np.arange(4, dtype=np.float32),
    "roi_heads.box_predictor.cls_score.weight": np.ones((2, 3), np.float32),
    "backbone.stem.conv1.norm.num_batches_tracked": np.array(7, np.int64),
}
NO_HOOKS = Call(Global("collections OrderedDict"), ())


class Colour(enum.Enum):
    RED = 1


class Settings(dict):
    """Such as CfgNode: a dictionary with attributes."""


class Meter:
    """Such as the loss of the last steps."""

    def __init__(self):
        self.values = collections.deque([1.0, 2.0], maxlen=20)

    def update(self):
        """Bound methods are pickled by `getattr`."""


class Losses(list):
    pass


Point = collections.namedtuple("Point", "x y")


def settings():
    node = Settings(lr=Settings(base=0.1))
    node.__dict__["frozen"] = True
    return node


PICKLED = {
    "namespace": argparse.Namespace(lr=0.1, path=pathlib.Path("/data")),
    "settings": settings(),
    "meter": Meter(),
    "method": Meter().update,
    "list_subclass": Losses([1, 2]),
    "datetime": datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),
    "timedelta": datetime.timedelta(1),
    "path": pathlib.Path("/a/b"),
    "windows_path": pathlib.PureWindowsPath("c:/a"),
    "random": random.Random(1),
    "random_state": random.getstate(),
    "numpy_state": np.random.RandomState(1).get_state(),
    "numpy_random": np.random.RandomState(1),
    "numpy_generator": np.random.default_rng(1),
    "numpy_scalars": [np.float32(1), np.int64(2), np.bool_(True), np.complex64(1j)],
    "numpy_text": np.array(["a", "bb"]),
    "numpy_objects": np.array([1, "a", None], object),
    "numpy_record": np.zeros(2, [("a", "f4")]),
    "numpy_date": np.datetime64("2020-01-01"),
    "numpy_masked": np.ma.masked_array([1, 2], [0, 1]),
    "numpy_dtype": np.dtype("O"),
    "ordered": collections.OrderedDict(a=1),
    "default": collections.defaultdict(list, a=[1]),
    "counter": collections.Counter("abc"),
    "deque": collections.deque([1], 5),
    "named": Point(1, 2),
    "sets": [{1, (2, 3)}, frozenset([(1, 2)])],
    "complex": 1 + 2j,
    "enum": Colour.RED,
    "partial": functools.partial(int, "3", base=4),
    "class": Meter,
    "function": len,
    "range": [range(3), slice(1, 2), ..., NotImplemented],
    "bytes": [b"x", bytearray(b"x")],
    "numbers": [2**70, -5, decimal.Decimal("1.1"), fractions.Fraction(1, 3)],
    "uuid": uuid.UUID(int=1),
    "exception": ValueError("x"),
    "keys": {(1, 2): 3, Colour.RED: 4, 1.5: 5, None: 6, frozenset([1]): 7, 2**80: 8},
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", PICKLED)
def test_objects_of_python_and_numpy(tmp_path, name, protocol):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"extra": PICKLED[name], "model": ARRAYS}, protocol))
    checkpoint = read_checkpoint(path)
    assert checkpoint.ignored == ("extra",)
    assert list(checkpoint.arrays) == list(ARRAYS)
    for key, array in ARRAYS.items():
        np.testing.assert_array_equal(checkpoint.arrays[key], array)
    # At the top among the arrays as well.
    path.write_bytes(pickle.dumps({"extra": PICKLED[name], **ARRAYS}, protocol))
    assert set(ARRAYS) <= set(read_checkpoint(path).arrays)


SPARSE = Call(Global("torch._utils _rebuild_sparse_tensor"), (Global("torch.sparse coo"), ()))
TENSOR = torch_tensor(torch_storage("0", 12), (3, 4), (4, 1))
COMPLEX = torch_tensor(
    torch_storage("9", 2, "torch ComplexFloatStorage"), (2,), (1,), rebuild="_rebuild_tensor_v2"
)
META = Call(
    Global("torch._utils _rebuild_meta_tensor_no_storage"),
    (Global("torch float32"), (3,), (1,), False),
)
QUANTISED = Call(
    Global("torch._utils _rebuild_qtensor"),
    (torch_storage("9", 3, "torch QInt8Storage"), 0, (3,), (1,), (), False, NO_HOOKS),
)
UNKNOWN_DTYPE = Call(
    Global("torch._utils _rebuild_tensor_v3"),
    (
        torch_storage("9", 3, "torch.storage UntypedStorage"),
        *(0, (3,), (1,), False, NO_HOOKS, Global("torch float4_e2m1fn_x2")),
    ),
)
WRAPPED = Call(Global("torch._utils _rebuild_wrapper_subclass"), (Global("torchao X"), ()))
NEGATED = Call(
    Global("torch._utils _rebuild_tensor_v2"),
    (torch_storage("0", 12), 0, (12,), (1,), False, NO_HOOKS, {"neg": True}),
)
PICKLE_DUMP = Call(
    Global("torch._utils _rebuild_tensor_v2"),
    (Call(Global("torch.storage _load_from_bytes"), (b"x",)), 0, (3,), (1,), False, NO_HOOKS),
)
UNREADABLE = {
    "sparse": (SPARSE, "a sparse tensor"),
    "complex": (COMPLEX, "unknown dtype (complex64)"),
    "meta": (META, "no values"),
    "quantised": (QUANTISED, "a quantised tensor"),
    "float4": (UNKNOWN_DTYPE, "unknown dtype (float4_e2m1fn_x2)"),
    "wrapped": (WRAPPED, "spread over several processes"),
    "negated": (NEGATED, "lazily negated"),
    "pickle_dump": (PICKLE_DUMP, "written by pickle.dump"),
    "objects": (numpy_array(np.zeros(2), code="O8"), "an array of dtype 'O8' is not allowed"),
}

BESIDE = {
    "device": Call(Global("torch device"), ("cuda", 0)),
    "size": Call(Global("torch Size"), ((1, 2),)),
    "dtype": Global("torch bfloat16"),
    "layout": Call(Global("torch.serialization _get_layout"), ("torch.strided",)),
    "cfgnode": New(Global("yacs.config CfgNode"), (), {"A": 1}, {"__immutable__": False}),
    "optimizer": New(Global("torch.optim.sgd SGD"), (), None, {"state": {}, "param_groups": []}),
    "scheduler": {"milestones": Call(Global("collections Counter"), ({60000: 1},)), "_step": 3},
    "slots": New(Global("m Slots"), (), None, (None, {"a": 1})),
    "keywords": Raw(encode(Global("m C")) + b")" + encode({"a": 1}) + b"\x92"),
    "old_object": Call(
        Global("copy_reg _reconstructor"),
        (Global("m C"), Global("__builtin__ object"), None),
        {"a": 1},
    ),
    "called_result": Call(Call(Global("builtins getattr"), (Global("m C"), "make")), (1,)),
    "python2_number": Raw(b"I140234523452345\n"),
    "unknown_storage": Persistent(("storage", Global("torch NewStorage"), "0", "cpu", 16)),
    "other_reference": Persistent("somewhere"),
    "too_large": torch_tensor(torch_storage("0", 12), (2**20,), (1,)),
    "bad_set": Call(Global("builtins set"), (1, 2)),
    "bad_text": Call(Global("_codecs encode"), ("x", "rot13")),
    **{name: value for name, (value, _) in UNREADABLE.items()},
}


@pytest.mark.parametrize("name", BESIDE)
def test_objects_of_torch(tmp_path, name):
    state = torch_state(ARRAYS)
    for root in ({"model": state, "x": BESIDE[name]}, {"x": [BESIDE[name]], "state_dict": state}):
        checkpoint = read_checkpoint(torch_file(tmp_path / "x.pth", root, ARRAYS))
        assert checkpoint.ignored == ("x",)
        for key, array in ARRAYS.items():
            np.testing.assert_array_equal(checkpoint.arrays[key], array)


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("container", ["model", "state_dict", ""])
def test_what_is_no_weight_is_refused_where_a_weight_should_be(tmp_path, name, container):
    value, expected = UNREADABLE[name]
    state = torch_state(ARRAYS) | {"backbone.res2.weight": value}
    root = {container: state} if container else state
    with pytest.raises(InputError) as caught:
        read_checkpoint(torch_file(tmp_path / "x.pth", root, ARRAYS))
    assert "backbone.res2.weight" in str(caught.value)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_object_among_the_weights(tmp_path):
    state = torch_state(ARRAYS) | {"roi_heads.x": New(Global("argparse Namespace"))}
    with pytest.raises(InputError, match=r"model\.roi_heads\.x is a argparse\.Namespace, not"):
        read_checkpoint(torch_file(tmp_path / "x.pth", {"model": state}, ARRAYS))
    # What torch's modules and trainers do store there.
    extra = {"a._extra_state": New(Global("io BytesIO")), "epoch": 3, "_metadata": {"": {}}}
    state = torch_state(ARRAYS) | extra
    checkpoint = read_checkpoint(torch_file(tmp_path / "x.pth", {"model": state}, ARRAYS))
    assert list(checkpoint.arrays) == list(ARRAYS)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: Call(Global("torch._utils _rebuild_parameter"), (x, True, NO_HOOKS)),
        lambda x: Call(
            Global("torch._utils _rebuild_parameter_with_state"), (x, True, NO_HOOKS, {"tag": "x"})
        ),
        lambda x: Call(
            Global("torch._tensor _rebuild_from_type_v2"),
            (x.function, Global("torch Tensor"), x.args, {"tag": New(Global("m C"))}),
        ),
        lambda x: Call(
            Global("torch._tensor _rebuild_from_type"), (x.function, Global("m T"), x.args, {})
        ),
        lambda x: Call(
            Global("torch._utils _rebuild_device_tensor_from_numpy"),
            (numpy_array(ARRAYS["backbone.stem.conv1.weight"]), Global("torch float32"), "x", True),
        ),
    ],
)
def test_every_form_of_a_tensor(tmp_path, wrap):
    path = write_torch(
        tmp_path / "x.pth",
        {"model": {"a.weight": wrap(TENSOR)}},
        {"0": ARRAYS["backbone.stem.conv1.weight"].tobytes()},
    )
    read = read_checkpoint(path).arrays["a.weight"]
    np.testing.assert_array_equal(read, ARRAYS["backbone.stem.conv1.weight"])


def test_tensors_that_repeat_their_items(tmp_path):
    """`Tensor.expand` has stride 0; overlapping windows are read as PyTorch has them."""
    base = np.arange(4, dtype=np.float32)
    storage = torch_storage("0", 4)
    state = {
        "one.weight": torch_tensor(storage, (5, 6), (0, 0), offset=2),
        "rows.weight": torch_tensor(storage, (3, 4), (0, 1)),
        "windows.weight": torch_tensor(storage, (3, 2), (1, 1)),
    }
    path = write_torch(tmp_path / "x.pth", {"model": state}, {"0": base.tobytes()})
    arrays = read_checkpoint(path).arrays
    np.testing.assert_array_equal(arrays["one.weight"], np.full((5, 6), 2))
    np.testing.assert_array_equal(arrays["rows.weight"], np.tile(base, (3, 1)))
    np.testing.assert_array_equal(arrays["windows.weight"], [[0, 1], [1, 2], [2, 3]])


def test_short_floats(tmp_path):
    """bfloat16 and float8 in storages without a type, as torch writes them; exactly widened."""
    codes = {"bfloat16": ([0x3F80, 0xC040], 2), "float8_e4m3fn": ([0x38, 0xC4], 1)}
    codes["float8_e5m2"] = ([0x3C, 0xC2], 1)
    state, storages = {}, {}
    for name, (values, itemsize) in codes.items():
        storages[name] = b"".join(value.to_bytes(itemsize, "little") for value in values)
        storage = torch_storage(name, len(storages[name]), "torch.storage UntypedStorage")
        args = (storage, 0, (2,), (1,), False, NO_HOOKS, Global(f"torch {name}"))
        state[f"{name}.weight"] = Call(Global("torch._utils _rebuild_tensor_v3"), args)
    arrays = read_checkpoint(write_torch(tmp_path / "x.pth", state, storages)).arrays
    for array in arrays.values():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, [1, -3])


def test_legacy_storages_are_read_once(tmp_path):
    """Three hundred views of a storage of a megabyte are a megabyte, not three hundred."""
    flat = np.arange(1 << 18, dtype=np.float32)
    storage = legacy_storage("0", flat.size)
    views = {
        f"fc{i}.weight": torch_tensor(storage, (800,), (1,), offset=800 * i) for i in range(300)
    }
    path = write_legacy_torch(tmp_path / "x.pth", views, {"0": flat})
    read: list[int] = []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        assert unpickle(content, "x", len(content)) == MAGIC_NUMBER
        root, read_storage = read_legacy_torch(content, "x", read.append)
        assert len({id(read_storage(tensor.storage)) for tensor in root.values()}) == 1
    assert read == [flat.nbytes]
    arrays = read_checkpoint(path).arrays
    np.testing.assert_array_equal(arrays["fc299.weight"], flat[800 * 299 :][:800])


def test_legacy_module_saved_whole(tmp_path):
    """Its class is a reference with its source code; storages of the optimizer come first."""
    weight = np.arange(6, dtype=np.float32)
    layer = Persistent(("module", Global("m Linear"), "m.py", "class Linear: ..."))
    tensor = torch_tensor(legacy_storage("1", 6), (2, 3), (3, 1))
    module = New(layer, (), None, {"_parameters": {"weight": tensor}, "_modules": {}})
    complex_tensor = torch_tensor(legacy_storage("0", 2, "torch ComplexFloatStorage"), (2,), (1,))
    root = {"optimizer": [New(Global("m C"), (), None, {"x": complex_tensor})], "model": module}
    storages = {"0": np.zeros(2, np.complex64), "1": weight}
    path = write_legacy_torch(tmp_path / "x.pth", root, storages)
    np.testing.assert_array_equal(read_checkpoint(path).arrays["weight"], weight.reshape(2, 3))


def test_time_is_bounded(tmp_path):
    """Short files that ask for long work: names and numbers used many times."""
    name = encode("n" * (1 << 20)) + b"q\x01"
    nested = b"}" + name + b"Nsq\x02" + b"0" + b"](" + (b"}h\x01Ns" * 20_000) + b"e"
    keys = b"}(" + b"".join(encode(str(i)) + b"}h\x01Ns" for i in range(20_000)) + b"u"
    number = b"\x8b" + (1 << 20).to_bytes(4, "little") + b"\x01" * (1 << 20) + b"q\x03"
    numbers = b"}(" + number + b"N" + b"h\x03N" * 20_000 + b"u"
    module = encode(Global("m C")) + b")\x81q\x04}X\x08\x00\x00\x00_modules}("
    module += b"".join(encode(str(i)) + b"h\x04" for i in range(10)) + b"usb"
    for code in (nested, name + b"0" + keys, numbers, module):
        path = tmp_path / "x.pkl"
        path.write_bytes(b"\x80\x02" + code + b".")
        with pytest.raises(InputError):
            read_checkpoint(path)
