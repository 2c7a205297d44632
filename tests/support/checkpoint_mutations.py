"""Seeded random damage to checkpoints of every form, for the fuzz test."""

from __future__ import annotations

import io
import json
import pickletools
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.pickle_writer import (
    Call,
    Global,
    New,
    dumps,
    legacy_storage,
    torch_file,
    torch_state,
    torch_tensor,
    write_legacy_torch,
)

# What opcodes and lengths are replaced by: those that mean most.
_OPCODES = (
    b"RbQ(tc}]).hqNK\x80\x81\x85\x86\x87\x88\x8a\x8b\x8e\x92\x93\x94\x95JMXBTU0e\x61us\xff\x00"
)
_NUMBERS = (0, 1, 2, 3, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)


def bases(folder: Path, arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    """The same few arrays in every form, with what trainers save beside them."""
    state = torch_state(arrays)
    beside: dict[str, Any] = {
        "args": New(Global("argparse Namespace"), (), None, {"lr": 0.1, "size": (1, 2)}),
        "optimizer": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 0.5, "params": [0]}]},
        "milestones": Call(Global("collections Counter"), ({60000: 1},)),
        "device": Call(Global("torch device"), ("cuda", 0)),
    }
    files = {
        "pkl": dumps({"model": arrays, "__author__": "me", **beside}),
        "python2": dumps({"blobs": arrays, "cfg": "MODEL: {}"}, python2=True),
    }
    for name, root in (("zip", {"model": state, **beside}), ("top", state)):
        files[name] = torch_file(folder / name, root, arrays).read_bytes()
    storages = {str(number): array for number, array in enumerate(arrays.values())}
    kinds = {"float32": "torch FloatStorage", "int64": "torch LongStorage"}
    legacy = {
        name: torch_tensor(
            legacy_storage(str(number), array.size, kinds[array.dtype.name]),
            array.shape,
            tuple(stride // array.itemsize for stride in array.strides),
        )
        for number, (name, array) in enumerate(arrays.items())
    }
    root = {"state_dict": legacy, **beside}
    files["legacy"] = write_legacy_torch(folder / "legacy", root, storages).read_bytes()
    for name, save in (("npz", np.savez), ("compressed", np.savez_compressed)):
        buffer = io.BytesIO()
        save(buffer, **{key.replace(".", "/"): array for key, array in arrays.items()})
        files[name] = buffer.getvalue()
    files["safetensors"] = _safetensors(arrays)
    return files


def _safetensors(arrays: dict[str, np.ndarray]) -> bytes:
    content, entries = b"", {}
    for name, array in arrays.items():
        ends = [len(content), len(content) + array.nbytes]
        dtype = {"float32": "F32", "int64": "I64"}[array.dtype.name]
        entries[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": ends}
        content += array.tobytes()
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + content


def mutate(kind: str, data: bytes, rng: random.Random) -> bytes:
    """One to four changes; those of the form's own structure are as likely as those of bytes."""
    for _ in range(rng.choice([1, 1, 2, 4])):
        changes = [_flip, _cut, _splice, _number]
        if kind in ("pkl", "python2", "legacy"):
            changes += [_opcode] * 4
        elif kind == "safetensors":
            changes += [_header] * 4
        elif data[:2] == b"PK":
            changes += [_members] * 4
        data = rng.choice(changes)(data, rng)
    return data


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 4, 16])):
        if changed:
            # The structure is at the beginning and the end.
            span = rng.choice([len(changed), min(len(changed), 300)])
            position = rng.choice([rng.randrange(span), len(changed) - 1 - rng.randrange(span)])
            changed[position] = rng.choice([rng.randrange(256), rng.choice(_OPCODES)])
    return bytes(changed)


def _cut(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    length = rng.choice([1, 2, 8, len(data) - start])
    return data[:start] + data[start + length :]


def _splice(data: bytes, rng: random.Random) -> bytes:
    start, place = (rng.randrange(len(data) + 1) for _ in range(2))
    part = data[start : start + rng.choice([1, 3, 20, 100])] * rng.choice([1, 1, 2, 50])
    return data[:place] + part + data[place:]


def _number(data: bytes, rng: random.Random) -> bytes:
    size = rng.choice([1, 2, 4, 8])
    number = (rng.choice(_NUMBERS) % 256**size).to_bytes(size, rng.choice(["little", "big"]))
    place = rng.randrange(max(len(data) - size, 1))
    return data[:place] + number + data[place + size :]


def _opcode(data: bytes, rng: random.Random) -> bytes:
    """Delete, double, replace or move an instruction of a pickle, or change its argument."""
    starts = []
    try:
        for _, _, position in pickletools.genops(data):
            starts.append(position)
    except Exception:
        return _flip(data, rng)
    index = rng.randrange(len(starts))
    start, end = starts[index], (starts[index + 1 :] or [len(data)])[0]
    instruction = data[start:end]
    other = rng.randrange(len(starts))
    match rng.randrange(5):
        case 0:
            instruction = b""
        case 1:
            instruction *= rng.choice([2, 2, 1000])
        case 2:
            instruction = bytes([rng.choice(_OPCODES)]) + instruction[1:]
        case 3:
            instruction = data[starts[other] : (starts[other + 1 :] or [len(data)])[0]]
        case 4:
            number = rng.choice(_NUMBERS)
            instruction = rng.choice(
                [
                    b"\x8a\x09" + number.to_bytes(9, "little"),
                    b"J" + (number % 2**32).to_bytes(4, "little"),
                    instruction[:1] + (number % 2**32).to_bytes(4, "little") + instruction[5:],
                ]
            )
    return data[:start] + instruction + data[end:]


def _header(data: bytes, rng: random.Random) -> bytes:
    """Change a value in the header of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        name = rng.choice(list(header))
        field = rng.choice(["dtype", "shape", "data_offsets"])
        header[name][field] = rng.choice(
            [
                rng.choice(["F32", "F64", "F4", "I64", "BOOL", "C64", "X", "", None]),
                [rng.choice(_NUMBERS) for _ in range(rng.choice([0, 1, 2, 3, 40]))],
                [-1, 8],
                [1.5],
                "4",
                {"a": [[]]},
            ]
        )
        if rng.random() < 0.3:
            header[rng.choice(["", "a\nb", "\ud800", "x" * 5000])] = header.pop(name)
        text = json.dumps(header, ensure_ascii=rng.random() < 0.9).encode("utf-8", "surrogatepass")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return _flip(data, rng)
    size = rng.choice([len(text)] * 5 + list(_NUMBERS)) % 2**64
    return struct.pack("<Q", size) + text + data[8 + length :]


def _members(data: bytes, rng: random.Random) -> bytes:
    """Write a zip again: a member is lost, renamed, doubled, changed, or all are compressed."""
    buffer = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
        index = rng.randrange(len(members))
        name, content = members[index]
        match rng.randrange(7):
            case 0:
                members.pop(index)
            case 1:
                members[index] = (rng.choice(["../x", "a/data.pkl", name + "x", ""]), content)
            case 2:
                members.append((rng.choice([name, "b/data.pkl", "x.npy"]), content))
            case 3:
                members[index] = (name, _opcode(content, rng))
            case 4:
                members[index] = (name, content[: rng.randrange(len(content) + 1)])
            case 5:
                members[index] = (name, content * rng.choice([2, 100]))
            case 6:
                members[index] = (name, _npy_header(content, rng))
        kind = rng.choice([zipfile.ZIP_STORED] * 4 + [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
        with zipfile.ZipFile(buffer, "w", kind) as archive:
            for name, content in members:
                archive.writestr(name, content)
    except Exception:
        return _flip(data, rng)
    return buffer.getvalue()


def _npy_header(content: bytes, rng: random.Random) -> bytes:
    """Another shape or dtype in NumPy's header, with or without the right length of it."""
    if content[:6] != b"\x93NUMPY":
        return _number(content, rng)
    length = int.from_bytes(content[8:10], "little")
    header = rng.choice(
        [
            f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rng.choice(_NUMBERS)},)}}",
            "{'descr': '|O', 'fortran_order': False, 'shape': (4,)}",
            "{'descr': '<f4', 'fortran_order': True, 'shape': (-1, -4)}",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '<f4', 'shape': (2**9**9,), 'fortran_order': False}",
            "(" * 3000,
            "[" * 90 + "1" + "]" * 90,
            "{'descr': '<f4', 'fortran_order': 1, 'shape': None}",
        ]
    ).encode()
    size = rng.choice([len(header), length])
    return content[:8] + struct.pack("<H", size) + header + content[10 + length :]
