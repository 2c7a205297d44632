"""Compiles the native operators against the installed TensorFlow and caches the library.

The mathematics is in files that include nothing of TensorFlow (`roi_align.cc`, `nms.cc`, ...);
`*_op.cc` register it. A file that includes TensorFlow's headers takes ten seconds whatever it
holds, so all of those are compiled as one. CUDA kernels (`*.cu`, registered by `*_gpu_op.cc`)
are added when nvcc is found. A library runs on any x86-64 CPU, and is as fast whichever compiler
made it: hot loops are compiled for several instruction sets, one of which is chosen when the
library is loaded (`instruction_set.h`).

`tfdetect build-operators` builds ahead, as for an image that will have no compiler.
This module does not import TensorFlow.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from tfdetect.errors import InputError
from tfdetect.files import cache_directory
from tfdetect.ops.kernels import instruction_set

SOURCES = Path(__file__).resolve().parent
SECONDS = 60
"""Build time on two cores, including CUDA, for the line that announces it."""

KEPT_LIBRARIES = 8
"""Number of most recently used libraries to keep in the cache when another is added."""
KEPT_SECONDS = 3600.0
"""A library that was used within this time stays too: it may be about to be loaded."""

COMMON_FLAGS = ("-O3", "-std=c++17", "-fPIC", "-DNDEBUG", "-fvisibility=hidden")
# Without TensorFlow's headers: products and sums are rounded one by one, as the reference's are,
# because a fused one moves values that are compared with a threshold or rounded up.
MATHS_FLAGS = ("-Wall", "-Wextra", "-ffp-contract=off")
# Files of pure sums of products, where fusing is only faster.
FUSED_FILES = (
    "attention.cc",
    "matmul.cc",
    "matmul_bfloat16.cc",
    "pointwise.cc",
    "roi_align.cc",
    "roi_align_rotated.cc",
    "winograd.cc",
)
TENSORFLOW_FLAGS = (
    "-D_GLIBCXX_USE_CXX11_ABI=1",
    "-DEIGEN_MAX_ALIGN_BYTES=64",
    "-Wno-deprecated-declarations",
)
# Machine code for the common data-centre GPUs, and what the driver translates for any other from
# Turing on: like the CPU's part, the library does not depend on the machine that built it.
NVCC_FLAGS = (
    "-O3",
    "-std=c++17",
    "--fmad=false",  # as -ffp-contract=off; kernels fuse by name where it only is faster
    "-gencode=arch=compute_75,code=compute_75",
    "-gencode=arch=compute_80,code=sm_80",
    "-gencode=arch=compute_90,code=sm_90",
    "-Xcompiler",
    "-fPIC",
    "--threads",
    "2",
)


@dataclass(frozen=True)
class Cuda:
    """CUDA's compiler, and the folder of its static runtime."""

    nvcc: str
    version: str
    libraries: str


@dataclass(frozen=True)
class Toolchain:
    """The compilers that a build uses; without `cuda` the GPU kernels are not built."""

    compiler: tuple[str, ...]
    version: str
    cuda: Cuda | None


def find_toolchain() -> Toolchain | None:
    """The compilers of this machine ($CXX, else c++, g++ or clang++), or None without any."""
    candidates = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    for candidate in candidates:
        compiler = tuple(shlex.split(candidate))
        version = _first_line([*compiler, "--version"]) if compiler else ""
        if version:
            return Toolchain(compiler, version, _find_cuda())
    return None


def find_library() -> Path | None:
    """The library that is already in the cache for these sources and this TensorFlow.

    Where there is a compiler it is the one that this compiler made; where there is none, as in
    an image that was built ahead, the newest one.
    """
    toolchain = find_toolchain()
    libraries = [_library_path(toolchain)] if toolchain else _libraries(_build_directory())
    return next((path for path in libraries if _mark_used(path)), None)


def build() -> Path:
    """Return the library's path, compiling it first unless it is in the cache.

    Safe to call from several processes at once: one compiles, the others wait for it.

    Raises:
        InputError: there is no compiler and nothing was built ahead, TensorFlow is not installed,
            the cache cannot be written, or compiling fails.
    """
    existing = find_library()
    if existing is not None:
        return existing
    toolchain = find_toolchain()
    if toolchain is None:
        wanted = os.environ.get("CXX")
        raise InputError(
            f"the compiler {wanted!r} that CXX names does not run: correct or unset CXX"
            if wanted
            else "no C++ compiler found (looked for c++, g++, clang++): install one or set CXX"
        )
    library = _library_path(toolchain)
    with _locked(library.parent / ".lock"):
        if not _mark_used(library):
            for left in library.parent.glob("building-*"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            try:
                _compile(toolchain, library)
            except InputError as error:
                if toolchain.cuda is None:
                    raise
                print(f"tfdetect: the GPU's operators are left out: {error}", file=sys.stderr)
                _compile(replace(toolchain, cuda=None), library)
            _prune()
    return library


def _libraries(directory: Path, pattern: str = "tfdetect_ops-*.so") -> list[Path]:
    """Those in the cache, the one that was used last first."""
    used = {}
    for path in directory.glob(pattern):
        with contextlib.suppress(FileNotFoundError):  # another process prunes
            used[path] = path.stat().st_mtime
    return sorted(used, key=lambda path: used[path], reverse=True)


def _mark_used(library: Path) -> bool:
    """Whether the library is there; if so, its time says from now on that it is used now.

    Libraries are removed under the same lock, after a look at their time, so that one which was
    found here stays long enough to be loaded.
    """
    if not library.is_file():
        return False
    with contextlib.ExitStack() as stack:
        # In a cache that this user cannot write, libraries are as they were built ahead.
        with contextlib.suppress(InputError):
            stack.enter_context(_locked(cache_directory() / ".used.lock"))
        with contextlib.suppress(OSError):
            os.utime(library)
        return library.is_file()


def _prune() -> None:
    """Remove the libraries that have not been used for the longest time.

    A process that has loaded one keeps its file until it ends, as for any library. What stays of
    a folder (its lock, a log) is a few bytes; removing a lock that others wait for is not safe.
    """
    with _locked(cache_directory() / ".used.lock"):
        libraries = _libraries(cache_directory(), "tensorflow-*/tfdetect_ops-*.so")
        for library in libraries[KEPT_LIBRARIES:]:
            with contextlib.suppress(OSError):
                if time.time() - library.stat().st_mtime > KEPT_SECONDS:
                    library.unlink()


def _compile(toolchain: Toolchain, library: Path) -> None:
    tensorflow = _tensorflow_directory()
    with tempfile.TemporaryDirectory(dir=library.parent, prefix="building-") as name:
        scratch = Path(name)
        commands: list[list[str]] = []

        def add(command: list[str], source: Path) -> None:
            commands.append([*command, str(source), "-o", str(scratch / f"{source.name}.o")])

        # The slowest first, so that the short ones fill the other core meanwhile.
        cuda = toolchain.cuda
        registrations = scratch / "registrations.cc"
        # First what has each registered once in a process.
        included = [SOURCES / "once.h", *_registration_files(cuda is not None)]
        registrations.write_text("".join(f'#include "{path}"\n' for path in included), "utf-8")
        tensorflow_flags = [*TENSORFLOW_FLAGS, "-isystem", str(tensorflow / "include")]
        digest = f'-DTFDETECT_DIGEST="{_digest()}"'
        flags = [*COMMON_FLAGS, *tensorflow_flags, digest, "-c", "-I", str(SOURCES)]
        add([*toolchain.compiler, *flags], registrations)
        if cuda is not None:
            for source in sorted(SOURCES.glob("*.cu")):
                add([cuda.nvcc, *NVCC_FLAGS, "-c"], source)
        for source in _maths_files():
            fused = ("-ffp-contract=fast",) if source.name in FUSED_FILES else ()
            add([*toolchain.compiler, *COMMON_FLAGS, *MATHS_FLAGS, *fused, "-c"], source)

        log = library.parent / "build.log"
        with ThreadPoolExecutor(max_workers=2) as pool:
            list(pool.map(lambda command: _run(command, log), commands))

        # The static CUDA runtime stands before TensorFlow's library, which exports stubs of the
        # same functions over another CUDA that would be bound instead, silently.
        runtime = [f"-L{cuda.libraries}", "-lcudart_static", "-ldl", "-lrt"] if cuda else []
        made = scratch / library.name
        _run(
            [
                *toolchain.compiler,
                "-shared",
                "-o",
                str(made),
                *[command[-1] for command in commands],
                *runtime,
                f"-L{tensorflow}",
                "-l:libtensorflow_framework.so.2",
                "-lpthread",
            ],
            log,
        )
        os.replace(made, library)


def _registration_files(with_gpu: bool) -> list[Path]:
    files = sorted(SOURCES.glob("*_op.cc"))
    return [path for path in files if with_gpu or not path.name.endswith("_gpu_op.cc")]


def _maths_files() -> list[Path]:
    return sorted(path for path in SOURCES.glob("*.cc") if not path.name.endswith("_op.cc"))


def _run(command: list[str], log: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode == 0:
        return
    output = done.stdout + done.stderr
    log.write_text(shlex.join(command) + "\n" + output, "utf-8")
    lines = [line for line in output.splitlines() if "error" in line.lower()] or [
        f"{command[0]} exited with status {done.returncode}"
    ]
    raise InputError(f"the native operators do not compile (all of it in {log}): {lines[0]}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open(path, "w")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise InputError(
            f"{path.parent}: cannot be written ({error.strerror}): set TFDETECT_CACHE to a folder "
            "that can"
        ) from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _digest() -> str:
    """Of the sources, by which libraries of one version know each other (once.h)."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        if path.suffix in (".cc", ".cu", ".h"):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(repr((COMMON_FLAGS, MATHS_FLAGS, FUSED_FILES, TENSORFLOW_FLAGS)).encode())
    digest.update(repr(NVCC_FLAGS).encode())
    return digest.hexdigest()[:16]


def _build_directory() -> Path:
    """One folder per content of the sources, TensorFlow version and kind of machine."""
    name = f"tensorflow-{_tensorflow_version()}-{platform.machine()}-{_digest()}"
    return cache_directory() / name


def _library_path(toolchain: Toolchain) -> Path:
    key = hashlib.sha256(repr(toolchain).encode()).hexdigest()[:16]
    return _build_directory() / f"tfdetect_ops-{key}.so"


def _tensorflow_directory() -> Path:
    spec = importlib.util.find_spec("tensorflow")  # finds it without importing it
    for location in (spec.submodule_search_locations or []) if spec else []:
        if (Path(location) / "libtensorflow_framework.so.2").is_file():
            return Path(location)
    raise InputError("TensorFlow's library was not found: pip install tensorflow")


def _tensorflow_version() -> str:
    for distribution in ("tensorflow", "tensorflow-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    raise InputError("TensorFlow is not installed: pip install tensorflow")


def _find_cuda() -> Cuda | None:
    home = os.environ.get("CUDA_HOME", "")
    nvcc = shutil.which("nvcc", path=str(Path(home) / "bin")) if home else shutil.which("nvcc")
    if nvcc is None:
        return None
    version = _output([nvcc, "--version"]).splitlines()
    # `nvcc` may be a script or a link; the real one prints where its files are.
    top = re.search(r"TOP=(.*)", _output([nvcc, "--dryrun", "-E", "-x", "cu", "/dev/null"]))
    for folder in ("lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"):
        libraries = Path(top.group(1).strip()) / folder if top else Path()
        if version and (libraries / "libcudart_static.a").is_file():
            return Cuda(nvcc, version[-1], str(libraries.resolve()))
    return None


def _first_line(command: list[str]) -> str:
    return next(iter(_output(command).splitlines()), "")


def _output(command: list[str]) -> str:
    """What a command prints; nothing where it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    except OSError:
        return ""
    return done.stdout + done.stderr if done.returncode == 0 else ""


def instruction_sets(library: Path) -> instruction_set.InstructionSets:
    """Those of a library.

    In a process of its own, since TensorFlow's library, with which ours is linked, logs to stderr
    as soon as it is loaded; and without importing TensorFlow, which takes seconds.
    """
    code = (
        "import ctypes, dataclasses, json, sys;"
        "from tfdetect.ops.kernels import instruction_set;"
        "ctypes.CDLL(sys.argv[1], ctypes.RTLD_GLOBAL);"
        "sets = instruction_set.of_library(ctypes.CDLL(sys.argv[2]));"
        "print(json.dumps(dataclasses.asdict(sets)))"
    )
    framework = _tensorflow_directory() / "libtensorflow_framework.so.2"
    command = [sys.executable, "-c", code, str(framework), str(library)]
    package_root = str(SOURCES.parents[2])
    paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        reason = next(reversed(done.stderr.splitlines()), f"status {done.returncode}")
        raise InputError(f"{library} does not load: delete it and try again ({reason})")
    return instruction_set.InstructionSets(**json.loads(done.stdout))
