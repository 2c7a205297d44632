"""Memory that is kept: a block that was freed is had again without new pages."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

SCRIPT = """
import resource, sys
import numpy as np
from tfdetect.cli.heap import keep_freed_memory, prepare_heap

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**24, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if "prepare" in sys.argv:
    prepare_heap()
if "keep" in sys.argv:
    keep_freed_memory()
new_pages()
print(new_pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize(
    ("calls", "fresh"), [(["prepare", "keep"], False), (["prepare"], True), (["keep"], True)]
)
def test_freed_memory(calls, fresh):
    command = [sys.executable, "-c", SCRIPT, *calls]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 50) == fresh
