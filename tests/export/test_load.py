"""The demo's SavedModel under load, by benchmarks/serve.py."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from tests.support.paths import DEMO, ROOT
from tests.support.servables import exported, model_dir

SCRIPT = [sys.executable, str(ROOT / "benchmarks" / "serve.py")]


@pytest.mark.full
def test_short(tmp_path):
    """60 requests of images of 8 sizes from 8 threads, of which each gets what it gets alone."""
    for file in sorted((DEMO / "images").glob("*.jpg"))[:8]:
        shutil.copy(file, tmp_path)
    command = [*SCRIPT, "--child", "servable", "--model", str(exported("portable").path)]
    command += ["--requests", "60", "--images", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["errors"] == 0, done.stderr
    assert 0 < report["p50"] <= report["p99"]
    assert report["throughput"] > 0


@pytest.mark.full
def test_long():
    """1000 requests: no error, and memory grows by less than 2 % after the warm-up."""
    command = [*SCRIPT, "--model", str(model_dir())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
