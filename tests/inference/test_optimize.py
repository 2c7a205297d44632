"""`optimize` makes a new model for a backend, and the old one goes on as if nothing had been."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf

from tests.support import dense_models, small_training
from tests.support.native import require_native
from tests.support.servables import model_dir
from tfdetect.errors import InputError
from tfdetect.export.saved_model import export_model, servable_backend
from tfdetect.inference.optimization import optimize
from tfdetect.inference.packed import PackedConv2d, PackedRPNHead, WinogradConv2d
from tfdetect.inference.predictor import Predictor
from tfdetect.layers.conv import Conv2d
from tfdetect.layers.norm import BatchNorm
from tfdetect.ops import kernels
from tfdetect.ops.backend import Backend, current_backend
from tfdetect.ops.roi_align import roi_align_levels
from tfdetect.training.trainer import Trainer

PORTABLE = Backend()
NATIVE = Backend("cpu", "native", instruction_set="avx2")
HALF = Backend(dtype="bfloat16")


@pytest.fixture
def with_gpu(monkeypatch):
    """TensorFlow says that it has a GPU beside the CPU."""
    devices = [tf.config.LogicalDevice(f"/device:{kind}:0", kind) for kind in ("CPU", "GPU")]

    def list_devices(kind=None):
        return [device for device in devices if kind in (None, device.device_type)]

    monkeypatch.setattr(tf.config, "list_logical_devices", list_devices)


def reachable(value: object, seen: dict[int, object] | None = None) -> dict[int, object]:
    """Modules and variables that something holds, in whatever kind of object, by id."""
    seen = {} if seen is None else seen
    if id(value) in seen or isinstance(value, (str, bytes, np.ndarray, tf.Tensor, type)):
        return seen
    seen[id(value)] = value
    if isinstance(value, tf.Variable):
        return seen
    parts: list[object] = []
    if isinstance(value, dict):
        parts += list(value.values())
    if isinstance(value, (list, tuple, set)):
        parts += list(value)
    parts += getattr(value, "__dict__", {}).values()
    parts += [location.cell_contents for location in getattr(value, "__closure__", None) or ()]
    parts += [getattr(value, "__self__", None), getattr(value, "func", None)]
    for part in parts:
        if not isinstance(part, type(tf)):
            reachable(part, seen)
    return seen


def models() -> Iterator[tuple[str, tf.Module]]:
    name = "new_baselines/mask_rcnn_regnety_4gf_dds_FPN_100ep_LSJ"
    yield "regnet", small_training.small_model(name, small_training.NARROW_REGNET)[1]
    yield "cascade", small_training.small_model(small_training.CASCADE)[1]
    for name in ("panoptic", "retinanet", "fcos"):
        yield name, dense_models.make(name)[1]


def test_nothing_is_shared():
    """The new model holds no module or variable of the old one, which keeps its values."""
    require_native()
    for name, model in models():
        before = {v.name + str(id(v)): v.numpy() for v in model.variables}
        old = {key for key, found in reachable(model).items() if isinstance(found, tf.Module)}
        old |= {id(variable) for variable in model.variables}
        for backend in (PORTABLE, NATIVE, HALF):
            new = optimize(model, backend)
            assert type(new) is type(model), name
            assert not old & reachable(new).keys(), name
            assert not new.trainable_variables
            folded = [m for m in new.submodules if isinstance(m, Conv2d) and m.norm is not None]
            assert not any(isinstance(m.norm, BatchNorm) for m in folded)
            packed = [m for m in new.submodules if isinstance(m, (PackedConv2d, WinogradConv2d))]
            assert bool(packed) == (backend is NATIVE)
            rpn = [m for m in new.submodules if isinstance(m, PackedRPNHead)]
            assert len(rpn) == (backend is NATIVE and name not in ("retinanet", "fcos"))
            kept = [module for module in new.submodules if type(module) is Conv2d]
            wanted = tf.bfloat16 if backend is HALF else tf.float32
            assert all(module.weight.dtype == wanted for module in kept)
        for variable in model.variables:
            np.testing.assert_array_equal(variable, before[variable.name + str(id(variable))])


class Tied(tf.Module):
    """One layer in two places, a layer in a closure's stead, and itself."""

    def __init__(self):
        super().__init__()
        self.first = Conv2d(16, 16, 1)
        self.again = {"a": (self.first, None), "b": [self.first]}
        self.itself = self
        self.options = {"count": 3}


def test_ties_are_kept():
    tied = Tied()
    new = optimize(tied, PORTABLE)
    assert new.itself is new
    assert new.first is new.again["a"][0] is new.again["b"][0] is not tied.first
    assert new.options == {"count": 3}
    tied.first.weight.assign_add(tf.ones_like(tied.first.weight))
    assert not new.first.weight.numpy().any()


class Twice(Conv2d):
    """A user's own layer."""

    def __call__(self, x, *others, **options):
        return 2 * super().__call__(x, *others, **options)


def test_layers_of_users_stay_what_they_are():
    require_native()
    layer = Twice(16, 16, 3, padding=1, norm="FrozenBN")
    layer.weight.assign(tf.random.stateless_normal(layer.weight.shape, [0, 1]))
    x = tf.random.stateless_normal([1, 5, 6, 16], [0, 2])
    new = optimize(layer, NATIVE)
    assert type(new) is Twice
    np.testing.assert_array_equal(new(x), layer(x))


SPEC = {
    "image": tf.TensorSpec([2, None, None, 3], tf.uint8),
    "image_size": tf.TensorSpec([2, 2], tf.int32),
    "gt_boxes": tf.TensorSpec([2, None, 4]),
    "gt_classes": tf.TensorSpec([2, None], tf.int32),
    "gt_valid": tf.TensorSpec([2, None], tf.bool),
}


def training(cfg, model, named):
    """A trainer, and the batch of its steps."""
    images, sizes, targets = small_training.batch()
    values = {"image": tf.cast(images, tf.uint8), "image_size": sizes, **targets._asdict()}
    trainer = Trainer(cfg, model, [n.variable for n in named], SPEC, seed=3)
    return trainer, {name: values[name] for name in SPEC}


def test_train_predict_and_export_in_one_process(tmp_path):
    """One after the other and from several threads: each as if it were alone."""
    require_native()
    options = {"SOLVER.IMS_PER_BATCH": 2, "INPUT.MIN_SIZE_TEST": 64}
    cfg, alone, named = small_training.small_model(small_training.RPN, options)
    step, batch = training(cfg, alone, named)
    expected = [step(batch, number) for number in range(3)]

    cfg, model, named = small_training.small_model(small_training.RPN, options)
    step, batch = training(cfg, model, named)
    image = np.random.default_rng(0).integers(0, 256, [64, 96, 3], np.uint8)
    metadata = {"class_names": list("abcde")}

    def predictor(backend):
        return Predictor.of_model(cfg, optimize(model, backend), metadata, backend)

    native = Backend.for_device("cpu", ops="native")
    fast, portable = predictor(native), predictor(PORTABLE)
    before = [v.numpy() for v in model.variables]
    first = [fast(image), portable(image)]
    losses = [step(batch, 0)]
    after = [v.numpy() for v in model.variables]
    # In threads: further steps, an export, and the predictors of what was before.
    failures, exported = [], {}

    def run(name, work):
        try:
            exported[name] = work()
        except BaseException as error:
            failures.append((name, error))

    work = {
        "train": lambda: losses.extend(step(batch, number) for number in (1, 2)),
        "predict": lambda: [p(image) for p in (fast, portable)],
        "optimize": lambda: [optimize(model, backend) for backend in (native, HALF)],
        "native": lambda: export_model(
            cfg, alone, metadata, tmp_path / "native", servable_backend("native")
        ),
    }
    threads = [threading.Thread(target=run, args=item) for item in work.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures

    # The step after it had been optimized changed something, and every step is that of training
    # alone: to the order of sums in threads.
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    for found, wanted in zip(losses, expected, strict=True):
        assert found == pytest.approx(wanted, rel=1e-5)
    for found, wanted in zip(model.variables, alone.variables, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())
    for found, wanted in zip([fast(image), portable(image)], first, strict=True):
        np.testing.assert_array_equal(found.boxes, wanted.boxes)
        np.testing.assert_array_equal(found.scores, wanted.scores)
    assert exported["native"].library.is_file()


def operations(layer, backend) -> set[str]:
    """The types of operations in the graph of a layer, and of pooling from levels."""

    @tf.function(autograph=False)
    @backend.active()
    def run(x):
        boxes, zeros = tf.ones([3, 4]), tf.zeros([3], tf.int32)
        return roi_align_levels([layer(x), layer(x)], boxes, zeros, zeros, 7, [0.5, 0.25])

    graph = run.get_concrete_function(tf.TensorSpec([1, None, None, 16])).graph
    return {operation.type for operation in graph.get_operations()}


def test_the_backend_follows_the_device(with_gpu, monkeypatch):
    """Not the machine: on one with a GPU, what is for the CPU has the CPU's kernels."""
    require_native()
    monkeypatch.setenv("TFDETECT_OPS", "native")
    monkeypatch.setattr(kernels, "_sets", kernels.InstructionSets("avx512", "avx2", "avx2"))
    for name in ("cpu", "CPU:0", "/job:localhost/replica:0/task:0/device:CPU:0"):
        assert Backend.for_device(name) == NATIVE
    on_gpu = servable_backend("native", "gpu")
    assert on_gpu == Backend.for_device("gpu:1") == Backend.for_device() == current_backend()

    for device, packs in (("cpu", True), (None, False)):
        predictor = Predictor(model_dir(), device)
        packed = [m for m in predictor._pipeline.model.submodules if hasattr(m, "packed")]
        assert bool(packed) == packs
    layer = Conv2d(16, 16, 3, padding=1)
    kinds = {"TfdetectWinogradConv", "TfdetectRoiAlignLevels"}
    assert kinds <= operations(optimize(layer, NATIVE), NATIVE)
    assert kinds <= operations(layer, NATIVE)
    assert not kinds & operations(optimize(layer, on_gpu), on_gpu)
    assert "TfdetectRoiAlign" in operations(layer, on_gpu)


def test_servables_do_not_depend_on_the_processor(monkeypatch):
    require_native()
    backends = set()
    for used in ("baseline", "avx2", "avx512"):
        monkeypatch.setattr(kernels, "_sets", kernels.InstructionSets("avx512", used, used))
        backends.add(servable_backend("native"))
    assert backends == {NATIVE}


@pytest.mark.parametrize(
    "options",
    [
        {"device": "tpu"},
        {"ops": "quick"},
        {"dtype": "float16"},
        {"instruction_set": "mmx"},
        {"ops": "native", "fixed_shapes": True},
    ],
)
def test_backends_that_there_are_not(options):
    with pytest.raises(InputError, match=str(next(iter(options.values())))):
        Backend(**options)


def test_active_backends_end_with_their_block():
    with PORTABLE.active():
        with HALF.active():
            assert current_backend() is HALF
            seen = []
            thread = threading.Thread(target=lambda: seen.append(current_backend()))
            thread.start()
            thread.join()
            assert seen != [HALF]
        assert current_backend() is PORTABLE
