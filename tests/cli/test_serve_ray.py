"""`tfdetect serve` as a process: its answers, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.paths import DEMO, ROOT

pytest.importorskip("ray.serve")

pytestmark = pytest.mark.full

IMAGES = [DEMO / "images" / f"00000{index}.jpg" for index in range(6)]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


class Server:
    """The command in a process of its own."""

    def __init__(self, model, *words):
        command = [sys.executable, "-m", "tfdetect", "serve", "--model", model, "--port", "0"]
        self.process = subprocess.Popen(
            [str(word) for word in (*command, *words)],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self):
        for line in self.process.stdout:
            if match := re.fullmatch(r"(http://127\.0\.0\.1:(\d+)): ready\n", line):
                self.address, self.port = match[1], int(match[2])
                return
        raise AssertionError(self.process.stderr.read())

    def ask(self, path, content=None):
        headers = {"Content-Type": "image/jpeg"}
        request = urllib.request.Request(self.address + path, content, headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def predict(self, path):
        status, body = self.ask(f"/predict?file_name={path.name}", path.read_bytes())
        return status, json.loads(body)

    def end(self, number):
        """Send a signal; the status and stderr."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


@contextlib.contextmanager
def serving(model, *words):
    server = Server(model, *words)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


def descendants(pid):
    """Of a process, those of its children included."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while new := {one for one, parent in parents.items() if parent in found} - found:
        found |= new
    return found - {pid}


def test_answers_and_end(model_dir, tmp_path):
    command = [sys.executable, "-m", "tfdetect", "predict", "--model", model_dir]
    command += ["--json", tmp_path / "x.json", "--input", *IMAGES]
    subprocess.run(list(map(str, command)), env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
    expected = {one["file_name"]: one for one in json.loads((tmp_path / "x.json").read_bytes())}
    with serving(model_dir) as server:
        # Alone, each is what predict wrote, to the last bit.
        for path in IMAGES:
            assert server.predict(path) == (200, expected[path.name])
        # With broken ones in between, none of which fails another.
        found = {}

        def work(path):
            if path is None:
                found[path] = server.ask("/predict", IMAGES[0].read_bytes()[:2000])
            else:
                found[path] = server.predict(path)

        clients = [threading.Thread(target=work, args=[path]) for path in (*IMAGES, None)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert found.pop(None)[0] == 400
        for path, (status, record) in found.items():
            assert status == 200
            assert record["pred_classes"] == expected[path.name]["pred_classes"]
            # The order of TensorFlow's sums is that of the batch's size; docs/serving.md.
            assert record["scores"] == pytest.approx(expected[path.name]["scores"], abs=1e-6)
        assert json.loads(server.ask("/health")[1]) == {"status": "ready"}
        assert b"tfdetect_batch_images_count" in server.ask("/metrics")[1]

        processes = descendants(server.process.pid)
        assert len(processes) > 3
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
            content = IMAGES[0].read_bytes()
            head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(content)}\r\n\r\n"
            client.sendall(head.encode() + content[:1000])
            time.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(1.5)
            client.sendall(content[1000:])
            assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")
        assert server.end(signal.SIGCONT) == (0, "")
        time.sleep(1)
        assert not [pid for pid in processes if Path(f"/proc/{pid}/cmdline").exists()]


def test_second_signal(model_dir):
    with serving(model_dir) as server:
        processes = descendants(server.process.pid)
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
            time.sleep(0.5)
            server.process.send_signal(signal.SIGINT)
            time.sleep(1.5)
            assert server.process.poll() is None
            start = time.monotonic()
            status, err = server.end(signal.SIGINT)
        assert status == 130
        assert err.splitlines() == ["interrupted"]
        assert time.monotonic() - start < 30
        time.sleep(1)
        assert not [pid for pid in processes if Path(f"/proc/{pid}/cmdline").exists()]


def test_a_replica_is_killed(model_dir):
    """A request that it had is answered by the next one."""
    with serving(model_dir) as server:
        replicas = [
            pid
            for pid in descendants(server.process.pid)
            if b"ServeReplica" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        assert len(replicas) == 1
        os.kill(replicas[0], signal.SIGKILL)
        assert server.predict(IMAGES[0])[0] == 200
        assert server.end(signal.SIGTERM)[0] == 0


def test_weights_that_cannot_be_read(model_dir, tmp_path):
    model = shutil.copytree(model_dir, tmp_path / "model")
    weights = next(model.glob("*.data-*"))
    weights.write_bytes(weights.read_bytes()[:1000])
    server = Server(model)
    _, err = server.process.communicate(timeout=120)
    assert server.process.returncode == 2
    assert len(err.splitlines()) == 1
    assert err.startswith(f"error: {model}")


def test_on_a_cluster_of_the_users(model_dir, monkeypatch):
    """It goes on afterwards, with what else it serves."""
    import ray
    from ray import serve
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}
    )
    try:
        ray.init(cluster.address, log_to_driver=False)
        serve.start(proxy_location="Disabled")
        handle = serve.run(serve.deployment(Other).bind(), name="other", route_prefix=None)
        server = Server(model_dir, "--address", cluster.address, "--replicas", "3")
        _, err = server.process.communicate(timeout=120)
        assert server.process.returncode == 2
        assert "give at most" in err
        with serving(model_dir, "--address", cluster.address) as server:
            assert server.predict(IMAGES[0])[0] == 200
            assert len(serve.status().applications) == 2
            assert server.end(signal.SIGTERM) == (0, "")
        assert list(serve.status().applications) == ["other"]
        assert handle.remote().result() == "other"
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()


class Other:
    """Something else that a cluster serves."""

    def __call__(self):
        return "other"
