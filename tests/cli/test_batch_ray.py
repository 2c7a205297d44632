"""`tfdetect batch --engine ray` on a cluster of two nodes on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

import tfdetect.cli.batch
from tests.support.batch import read_rows
from tests.support.commands import fails
from tests.support.paths import DEMO, ROOT

pytest.importorskip("ray.data")

pytestmark = pytest.mark.full

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}


def command(model_dir, output, *words):
    start = [sys.executable, "-m", "tfdetect", "batch", "--engine", "ray"]
    start += ["--model", str(model_dir), "--output", str(output)]
    # The number of threads changes the order of sums.
    return [*start, "--images-per-file", "2", "--threads", "1", *map(str, words)]


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes of one core each."""
    from ray.cluster_utils import Cluster

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    nodes = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    yield nodes
    nodes.shutdown()


def test_a_node_is_killed(cluster, model_dir, tmp_path):
    """Every image has one row, as a plain process gives it, and a part is written once."""
    second = cluster.add_node(num_cpus=1)
    (tmp_path / "bad.jpg").write_text("x")
    inputs = ["--input", DEMO / "images", tmp_path / "bad.jpg"]
    words = command(model_dir, tmp_path / "ray", "--address", cluster.address, *inputs)
    process = subprocess.Popen(
        words, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    output = tmp_path / "ray"
    end = time.monotonic() + 120
    while len(list(output.glob("part-*"))) < 6:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    cluster.remove_node(second, allow_graceful=False)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "61 images, 1 with an error" in out
    assert len(list(output.glob("part-*"))) == 31
    assert not list(output.glob(".*"))

    plain = [word for word in command(model_dir, tmp_path / "plain", *inputs) if word != "ray"]
    plain.remove("--engine")
    assert subprocess.run(plain, env=ENVIRONMENT, check=False).returncode == 0
    assert read_rows(output) == read_rows(tmp_path / "plain")
    for path in output.glob("part-*"):
        assert path.read_bytes() == (tmp_path / "plain" / path.name).read_bytes()


def test_resume_on_this_machine_alone(model_dir, tmp_path):
    """Without --address; the files that are there stay as they are."""
    words = command(model_dir, tmp_path / "out", "--workers", "2", "--input")
    words += [str(DEMO / "images" / f"00000{index}.jpg") for index in range(8)]
    assert subprocess.run(words, env=ENVIRONMENT, check=False).returncode == 0
    parts = sorted((tmp_path / "out").glob("part-*"))
    assert len(parts) == 4
    parts[1].unlink()
    before = {path: path.stat().st_mtime_ns for path in parts if path.exists()}
    assert subprocess.run([*words, "--resume"], env=ENVIRONMENT, check=False).returncode == 0
    assert len(read_rows(tmp_path / "out")) == 8
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_no_such_cluster(model_dir, tmp_path, capfd):
    words = ["--model", model_dir, "--input", DEMO / "images", "--output", tmp_path / "out"]
    words += ["--engine", "ray", "--address", "127.0.0.1:9"]
    assert "no Ray cluster answers" in fails(capfd, tfdetect.cli.batch.main, *words)


def test_what_a_worker_cannot_do(cluster, model_dir, tmp_path, capfd):
    """Its error is the command's, in one line."""
    words = command(model_dir, tmp_path / "out", "--address", cluster.address)[4:]
    words += ["--input", str(DEMO / "images")]
    assert "give at most" in fails(capfd, tfdetect.cli.batch.main, *words, "--workers", 9)
    assert "no GPU" in fails(capfd, tfdetect.cli.batch.main, *words, "--device", "gpu")
