"""How the native library is built, kept, found and chosen; in processes of their own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.native import require_native
from tfdetect.errors import InputError
from tfdetect.ops import kernels
from tfdetect.ops.backend import Backend, current_backend
from tfdetect.ops.kernels import build

BUILD = [sys.executable, "-m", "tfdetect", "build-operators"]
# Of a device that is named, so that TensorFlow is not imported to look for one.
ASK = [
    sys.executable,
    "-c",
    "from tfdetect.ops.backend import Backend; print(Backend.for_device('cpu').native)",
]

QUICK = "quick-c++"
"""The compiler of the fixture `cache`, which does not optimize: that takes half of the time."""


def environment(cache, **changes):
    """Without CUDA's compiler, so that building here takes seconds; with a cache's own one."""
    kept = {k: v for k, v in os.environ.items() if k not in ("TFDETECT_OPS", "CXX", "CUDA_HOME")}
    compiler = Path(cache) / QUICK
    quick = {"CXX": str(compiler)} if compiler.is_file() else {}
    return {**kept, "PATH": "/usr/bin:/bin", "TFDETECT_CACHE": str(cache), **quick, **changes}


def run(command, env):
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


def said(text):
    """The lines of this project: outside commands TensorFlow logs, too."""
    return "\n".join(line for line in text.splitlines() if line.startswith("tfdetect: "))


def one_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, text
    return lines[0]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache that two processes filled at once."""
    toolchain = build.find_toolchain()
    if toolchain is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("cache")
    quick = folder / QUICK
    quick.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, toolchain.compiler))} "$@" -O0\n')
    quick.chmod(0o755)
    processes = [
        subprocess.Popen(BUILD, env=environment(folder), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = {process.communicate(timeout=180)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(printed) == 1
    return folder


def test_two_processes_make_one_library(cache):
    assert len(list(cache.rglob("*.so"))) == 1
    assert not list(cache.rglob("building-*"))


def test_second_build_is_a_hit(cache):
    (library,) = cache.rglob("*.so")
    before = library.stat().st_ino
    start = time.monotonic()
    done = run(BUILD, environment(cache))
    assert str(library) in done.stdout
    assert library.stat().st_ino == before
    assert time.monotonic() - start < 5  # compiling takes more


def test_library_built_ahead_serves_without_a_compiler(cache):
    done = run(BUILD, environment(cache, PATH="/nonexistent"))
    assert done.returncode == 0
    assert str(next(cache.rglob("*.so"))) in done.stdout


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("baseline", "TensorFlow's: TFDETECT_INSTRUCTION_SET"), ("", "CPU are")],
)
def test_build_says_whose_convolutions_are_used(cache, wanted, expected):
    done = run(BUILD, environment(cache, TFDETECT_INSTRUCTION_SET=wanted))
    assert expected in one_line(done.stdout.partition("\n")[2])
    assert not done.stderr


def test_unknown_instruction_set(cache):
    done = run(BUILD, environment(cache, TFDETECT_INSTRUCTION_SET="sse9"))
    assert done.returncode == 2
    assert "'sse9'" in one_line(done.stderr)


def test_instruction_set_that_the_processor_lacks(cache):
    if "avx512vl" in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has them all")
    done = run([*BUILD, "--optional"], environment(cache, TFDETECT_INSTRUCTION_SET="avx512"))
    assert done.returncode == 2
    assert "'avx512', but this processor has" in one_line(done.stderr)


def old_libraries(folder, count):
    """Files of names as in the cache, used long ago, the last of them the longest ago."""
    paths = [folder / f"tensorflow-{i % 3}" / f"tfdetect_ops-{i}.so" for i in range(count)]
    for i, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        used = time.time() - 10 * build.KEPT_SECONDS - i
        os.utime(path, (used, used))
    return paths


def test_new_library_removes_those_not_used(tmp_path, monkeypatch):
    if build.find_toolchain() is None:
        pytest.skip("no C++ compiler")
    monkeypatch.setenv("TFDETECT_CACHE", str(tmp_path))
    paths = old_libraries(tmp_path, build.KEPT_LIBRARIES + 4)
    assert build._mark_used(paths[-1])
    recent = time.time() - build.KEPT_SECONDS / 2
    os.utime(paths[-2], (recent, recent))
    monkeypatch.setattr(build, "_compile", lambda toolchain, library: library.write_bytes(b""))
    killed = build._build_directory() / "building-killed"
    killed.mkdir(parents=True)
    library = build.build()
    assert not killed.exists()
    # The new one and the two that were used lately are of those that are kept.
    kept = {library, *paths[-2:], *paths[: build.KEPT_LIBRARIES - 3]}
    assert set(tmp_path.rglob("*.so")) == kept
    assert not build._mark_used(paths[-3])


def test_lately_used_libraries_stay_however_many(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDETECT_CACHE", str(tmp_path))
    paths = old_libraries(tmp_path, 2 * build.KEPT_LIBRARIES)
    assert all(build._mark_used(path) for path in paths)
    build._prune()
    assert all(path.is_file() for path in paths)


def test_library_that_was_found_is_not_removed(tmp_path, monkeypatch):
    """Whichever of two threads comes first, one that finds and one that removes."""
    monkeypatch.setenv("TFDETECT_CACHE", str(tmp_path))
    with ThreadPoolExecutor(max_workers=2) as pool:
        for round in range(100):
            oldest = old_libraries(tmp_path, build.KEPT_LIBRARIES + 1)[-1]
            tasks = [lambda path=oldest: build._mark_used(path), build._prune]
            order = [0, 1] if round % 2 else [1, 0]
            futures = {i: pool.submit(tasks[i]) for i in order}
            futures[1].result()
            assert futures[0].result() == oldest.is_file()


def test_no_compiler(tmp_path):
    env = environment(tmp_path, PATH="/nonexistent")
    done = run(BUILD, env)
    assert done.returncode == 2
    assert "no C++ compiler" in one_line(done.stderr)
    done = run([*BUILD, "--optional"], env)
    assert done.returncode == 0
    assert "portable" in one_line(done.stderr)


def test_automatic_choice_without_a_compiler_is_portable(tmp_path):
    done = run(ASK, environment(tmp_path, PATH="/nonexistent"))
    assert done.stdout == "False\n"
    assert "no C++ compiler" in one_line(said(done.stderr))


def test_native_without_a_compiler_is_an_error(tmp_path):
    done = run(ASK, environment(tmp_path, PATH="/nonexistent", TFDETECT_OPS="native"))
    assert "InputError: the native operators are not available: no C++ compiler" in done.stderr


def test_portable_builds_nothing(tmp_path):
    done = run(ASK, environment(tmp_path, TFDETECT_OPS="portable"))
    assert done.stdout == "False\n"
    assert not said(done.stderr)
    assert not list(tmp_path.iterdir())


def test_compiler_that_fails(tmp_path):
    compiler = tmp_path / "broken"
    compiler.write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo 1 && exit\necho some error >&2\nexit 1"
    )
    compiler.chmod(0o755)
    env = environment(tmp_path, CXX=str(compiler))
    done = run(BUILD, env)
    assert done.returncode == 2
    assert one_line(done.stderr).endswith("some error")
    done = run(ASK, env)
    assert done.stdout == "False\n"
    assert "building the native operators" in said(done.stderr).splitlines()[0]
    assert "using the portable operators" in said(done.stderr).splitlines()[1]


def test_cache_that_cannot_be_written():
    done = run(BUILD, environment("/proc/tfdetect", CXX=""))
    assert done.returncode == 2
    assert "/proc/tfdetect" in one_line(done.stderr)


def test_compiler_that_is_not_there(tmp_path):
    done = run(BUILD, environment(tmp_path, CXX="/no/such/compiler"))
    assert done.returncode == 2
    assert "/no/such/compiler" in one_line(done.stderr)


def test_choice(monkeypatch):
    monkeypatch.setenv("TFDETECT_OPS", "portable")
    assert not current_backend().native
    monkeypatch.setenv("TFDETECT_OPS", "fast")
    with pytest.raises(InputError, match="fast"):
        current_backend()
    with Backend().active():
        assert not current_backend().native
    with pytest.raises(InputError, match="quick"):
        Backend.for_device(ops="quick")


def test_native_choice(monkeypatch):
    require_native()
    monkeypatch.setenv("TFDETECT_OPS", "native")
    assert current_backend().native
    with Backend().active():
        assert not current_backend().native
        with Backend.for_device(ops="native").active():
            assert current_backend().native
        assert not current_backend().native
    monkeypatch.delenv("TFDETECT_OPS")
    assert current_backend().native
    assert kernels.library() is kernels.library()
