"""What `tfdetect serve` rejects before Ray or TensorFlow starts."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

import tfdetect.cli.serve
from tests.support.commands import fails
from tests.support.paths import ROOT


def words(model_dir, *more):
    return ["--model", model_dir, "--port", "0", *more]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--port", "65536"),
        ("--port", "-1"),
        ("--port", "http"),
        ("--replicas", "0"),
        ("--max-batch-size", "0"),
        ("--batch-wait", "-1"),
        ("--batch-wait", "nan"),
        ("--max-body-megabytes", "0"),
        ("--max-body-megabytes", "1.5"),
        ("--max-pixels", "0"),
        ("--timeout", "0"),
        ("--timeout", "inf"),
        ("--timeout", "nan"),
        ("--max-queue", "0"),
        ("--threads", "0"),
        ("--proposals", "x.pkl"),
        ("--json", "x.json"),
    ],
)
def test_options(capsys, model_dir, option, value):
    with pytest.raises(SystemExit, match="2"):
        tfdetect.cli.serve.main([str(word) for word in words(model_dir, option, value)])
    assert option in capsys.readouterr().err.splitlines()[-1]


def test_ray_is_missing(capfd, model_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.serve", None)
    line = fails(capfd, tfdetect.cli.serve.main, *words(model_dir))
    assert line.startswith("error: tfdetect serve: needs Ray")
    assert "pip install 'tfdetect[ray]'" in line


class Started(Exception):
    """Ray was asked for."""


@pytest.fixture
def no_ray(monkeypatch):
    pytest.importorskip("ray.serve")

    def start(address):
        raise Started

    monkeypatch.setattr("tfdetect.cli.serve_ray.ray_cluster", start)


@pytest.mark.usefixtures("no_ray")
def test_addresses(capfd, model_dir):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = fails(capfd, tfdetect.cli.serve.main, *words(model_dir, "--port", port))
        assert f"--port {port}" in line
        assert "give another --port" in line
    for host in ("203.0.113.1", "no.such.host.invalid", "a" * 300, "300.1.1.1"):
        line = fails(capfd, tfdetect.cli.serve.main, *words(model_dir, "--host", host))
        assert "address of this machine" in line
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(Started):
            tfdetect.cli.serve.main([*map(str, words(model_dir, "--host", host))])
        assert "loading" in capfd.readouterr().out


@pytest.mark.usefixtures("no_ray")
def test_models(capfd, model_dir, tmp_path):
    for model in (tmp_path / "missing", tmp_path, ROOT / "README.md"):
        assert str(model) in fails(capfd, tfdetect.cli.serve.main, *words(model))
    line = fails(capfd, tfdetect.cli.serve.main, *words(model_dir, "--opts", "NO.KEY", 1))
    assert "NO.KEY" in line
    (tmp_path / "model").mkdir()
    for path in model_dir.iterdir():
        (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model" / "metadata.json").write_text(json.dumps(["x"]))
    assert "metadata.json" in fails(capfd, tfdetect.cli.serve.main, *words(tmp_path / "model"))


def test_no_such_cluster(capfd, model_dir):
    pytest.importorskip("ray.serve")
    for address in ("127.0.0.1:9", "nowhere", "127.0.0.1:99999", ":", "ray://x"):
        main = tfdetect.cli.serve.main
        line = fails(capfd, main, *words(model_dir, "--address", address))
        assert f"--address {address}: no Ray cluster answers" in line


def test_without_tensorflow_or_ray():
    """Neither is imported for an error in the options."""
    code = (
        "import sys\n"
        "sys.argv = ['tfdetect', 'serve', '--model', 'missing']\n"
        "try:\n"
        "    from tfdetect.cli.main import main; main()\n"
        "except SystemExit as end:\n"
        "    assert end.code == 2, end.code\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
