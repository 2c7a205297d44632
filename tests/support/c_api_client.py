"""A client of TensorFlow's C API, through ctypes, in a process without TensorFlow's Python.

    python c_api_client.py REQUEST.json

The request names `libraries`, TensorFlow's in the order of loading, and `steps`. Each step loads
`op_library`, or loads `saved_model` and runs it for each batch of `images` (paths), from the
tensor `input` to the tensors `outputs`. What step 1 gives for its batch 0 is in RESULT_1_0.npz, or
its error in RESULT_1_0.txt; the error of loading it in RESULT_1.txt; RESULT is `result`.
"""

import ctypes
import json
import sys
from pathlib import Path

import numpy as np

FLOAT, INT32, STRING, BOOL = 1, 3, 7, 10
DTYPES = {FLOAT: np.float32, INT32: np.int32, BOOL: np.bool_}
STRING_BYTES = 24  # sizeof(TF_TString)
POINTER = ctypes.c_void_p


class Output(ctypes.Structure):
    """TF_Output."""

    _fields_ = (("operation", POINTER), ("index", ctypes.c_int))


class Failure(Exception):
    """A status that is not OK."""


request = json.loads(Path(sys.argv[1]).read_text())
for path in request["libraries"]:
    tf = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
for name in (
    "TF_NewStatus",
    "TF_NewSessionOptions",
    "TF_NewGraph",
    "TF_LoadSessionFromSavedModel",
    "TF_GraphOperationByName",
    "TF_AllocateTensor",
    "TF_TensorData",
):
    getattr(tf, name).restype = POINTER
tf.TF_Message.restype = ctypes.c_char_p
tf.TF_Dim.restype = ctypes.c_int64
status = POINTER(tf.TF_NewStatus())


def check():
    code = tf.TF_GetCode(status)
    if code:
        raise Failure(f"{code}: {tf.TF_Message(status).decode()}")


def tensor(graph, name):
    operation, index = name.rsplit(":", 1)
    found = tf.TF_GraphOperationByName(graph, operation.encode())
    assert found, name
    return Output(found, int(index))


def strings(contents):
    """A string tensor, of one axis."""
    count = len(contents)
    made = POINTER(
        tf.TF_AllocateTensor(
            STRING, (ctypes.c_int64 * 1)(count), 1, ctypes.c_size_t(STRING_BYTES * count)
        )
    )
    data = tf.TF_TensorData(made)
    for index, content in enumerate(contents):
        place = POINTER(data + STRING_BYTES * index)
        tf.TF_StringInit(place)
        tf.TF_StringCopy(place, content, ctypes.c_size_t(len(content)))
    return made


def array(made):
    shape = [tf.TF_Dim(made, axis) for axis in range(tf.TF_NumDims(made))]
    dtype = np.dtype(DTYPES[tf.TF_TensorType(made)])
    content = ctypes.string_at(tf.TF_TensorData(made), int(np.prod(shape)) * dtype.itemsize)
    return np.frombuffer(content, dtype).reshape(shape)


def load(path):
    """A session and its graph."""
    graph, options = POINTER(tf.TF_NewGraph()), POINTER(tf.TF_NewSessionOptions())
    tags = (ctypes.c_char_p * 1)(b"serve")
    session = tf.TF_LoadSessionFromSavedModel(
        options, None, path.encode(), tags, 1, graph, None, status
    )
    check()
    return POINTER(session), graph


def run(session, graph, step, contents):
    """One request: what is fetched, by name."""
    outputs = step["outputs"]
    fetches = (Output * len(outputs))(*(tensor(graph, name) for name in outputs.values()))
    results = (POINTER * len(outputs))()
    feeds = (Output * 1)(tensor(graph, step["input"]))
    values = (POINTER * 1)(strings(contents))
    tf.TF_SessionRun(
        session, None, feeds, values, 1, fetches, results, len(outputs), None, 0, None, status
    )
    check()
    return {name: array(POINTER(value)) for name, value in zip(outputs, results, strict=True)}


def serve(step, result):
    session, graph = load(step["saved_model"])
    for number, images in enumerate(step["images"]):
        try:
            found = run(session, graph, step, [Path(image).read_bytes() for image in images])
        except Failure as failure:
            Path(f"{result}_{number}.txt").write_text(str(failure))
        else:
            np.savez(f"{result}_{number}.npz", **found)


for number, step in enumerate(request["steps"]):
    result = f"{request['result']}_{number}"
    try:
        if "op_library" in step:
            tf.TF_LoadLibrary(step["op_library"].encode(), status)
            check()
        else:
            serve(step, result)
    except Failure as failure:
        Path(f"{result}.txt").write_text(str(failure))
assert "tensorflow" not in sys.modules
