"""Memory that is kept: a block that was freed is had again without new pages."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
from conftest import ROOT

SCRIPT = """
import resource, sys
import numpy as np
from tfdetect.heap import keep_freed_memory

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**24, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "kept":
    keep_freed_memory()
new_pages()
print(new_pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize(("how", "most"), [("kept", 50), ("as ever", None)])
def test_freed_memory(how, most):
    command = [sys.executable, "-c", SCRIPT, how]
    env = {**os.environ, "TF_CPU_ALLOCATOR_USE_BFC": "0"}  # importing TensorFlow here has set it
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=env)
    pages = int(done.stdout)
    if most is None:
        assert pages > 50  # else the test would not tell
    else:
        assert pages < most
