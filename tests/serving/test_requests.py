"""What is accepted, what is not, and the answers, with a model that needs no network."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

from tests.support.http_client import LIMITS, answer, ask, request, served


@pytest.fixture(scope="module")
def server():
    with served() as one:
        yield one


def test_an_answer(server):
    status, found = ask(server, request(b"image", "Content-Type: image/jpeg"))
    assert (status, found) == (200, {"file_name": "", "bytes": 5})
    line = "POST /predict?file_name=str%C3%A4%C3%9Fe.jpg HTTP/1.1"
    assert ask(server, request(b"image", line=line))[1]["file_name"] == "sträße.jpg"


@pytest.mark.parametrize("kind", ["image/png", "IMAGE/JPEG; q=1", "application/octet-stream", ""])
def test_content_types(server, kind):
    assert ask(server, request(b"image", f"Content-Type: {kind}"))[0] == 200


@pytest.mark.parametrize(
    "kind",
    ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "text/html", "imag"],
)
def test_other_content_types(server, kind):
    status, found = ask(server, request(b"image", f"Content-Type: {kind}"))
    assert status == 415
    assert "application/octet-stream" in found["error"]


def test_encodings(server):
    assert ask(server, request(b"image", "Content-Encoding: gzip"))[0] == 415
    assert ask(server, request(b"image", "Content-Encoding: identity"))[0] == 200


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /predict HTTP/1.1", 405),
        ("PUT /predict HTTP/1.1", 405),
        ("BREW /predict HTTP/1.1", 405),
        ("POST /model HTTP/1.1", 405),
        ("GET / HTTP/1.1", 404),
        ("GET /predict/ HTTP/1.1", 404),
        ("GET /../../etc/passwd HTTP/1.1", 404),
        ("GET /%00%ff HTTP/1.1", 404),
        ("POST http://127.0.0.1:9/image.jpg HTTP/1.1", 404),
    ],
)
def test_wrong_paths_and_methods(server, line, status):
    got, found = ask(server, request(line=line))
    assert got == status
    assert "POST /predict" in found["error"]


def test_empty_body(server):
    assert ask(server, request(b""))[0] == 400
    assert ask(server, request(b"", length=None))[0] == 400
    chunked = request(b"0\r\n\r\n", "Transfer-Encoding: chunked", length=None)
    assert ask(server, chunked)[0] == 400


def test_chunks(server):
    body = b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
    found = ask(server, request(body, "Transfer-Encoding: chunked", length=None))
    assert found == (200, {"file_name": "", "bytes": 7})


def test_size_by_its_header(server):
    """It is said before the body arrives."""
    before = len(server.bodies)
    status, found = ask(server, request(b"x", length=LIMITS.body + 1))
    assert status == 413
    assert str(LIMITS.body) in found["error"]
    assert ask(server, request(b"x", length=10**30))[0] in (400, 413)
    with server.connect() as client:
        client.sendall(request(b"", "Expect: 100-continue", length=10**9))
        assert answer(client)[0] == 413
    assert len(server.bodies) == before
    assert ask(server, request(b"x" * LIMITS.body))[0] == 200


def test_size_of_chunks(server):
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    many = chunk * (LIMITS.body // 0x4000 + 1)
    assert ask(server, request(many, "Transfer-Encoding: chunked", length=None))[0] == 413
    assert server.metric("tfdetect_body_bytes") == 0


def test_the_connection_is_used_again(server):
    """After errors, too."""
    with server.connect() as client:
        for body, status in ((b"image", 200), (b"", 400), (b"x" * (LIMITS.body + 1), 413)) * 2:
            client.sendall(request(body))
            assert answer(client)[0] == status


def test_errors_of_the_model(server, capsys):
    with server.connect() as client:
        client.sendall(request(b"busy"))
        status, headers, found = answer(client)
    assert (status, headers["retry-after"]) == (503, "1")
    assert found == {"error": "the model is busy"}
    assert ask(server, request(b"bug"))[0] == 500
    assert "TypeError: a bug" in capsys.readouterr().err
    assert ask(server, request(b"image"))[0] == 200


def test_health_and_model():
    with served(ready=False) as one:
        one.application.state = "loading"
        assert ask(one, request(line="GET /health HTTP/1.1")) == (503, {"status": "loading"})
        assert ask(one, request(line="GET /health/live HTTP/1.1"))[0] == 200
        assert ask(one, request(line="GET /model HTTP/1.1"))[0] == 503
        assert ask(one, request(b"image"))[0] == 503
        one.application.serve(one.detect, {"class_names": ["person"]})
        assert ask(one, request(line="GET /health HTTP/1.1")) == (200, {"status": "ready"})
        assert ask(one, request(line="GET /model HTTP/1.1"))[1] == {"class_names": ["person"]}
        assert ask(one, request(b"image"))[0] == 200


def test_metrics():
    with served() as one:
        ask(one, request(b"image"))
        ask(one, request(b""))
        ask(one, request(line="GET /nothing HTTP/1.1"))
        with one.connect() as client:
            client.sendall(request(b"", "Connection: close", line="GET /metrics HTTP/1.1"))
            text = b"".join(iter(lambda: client.recv(65536), b"")).decode()
    assert "text/plain" in text
    assert 'tfdetect_requests_total{path="/predict",status="200"} 1.0' in text
    assert one.metric('tfdetect_requests_total{path="/predict",status="400"}') == 1
    assert one.metric('tfdetect_requests_total{path="other",status="404"}') == 1
    assert one.metric('tfdetect_request_seconds_count{path="/predict"}') == 2
    assert one.metric("tfdetect_batch_images_count") == 1
    assert one.metric('tfdetect_replica_memory_bytes{replica="here:1"}') == 1000
    assert one.metric("tfdetect_connections") == 0


def test_errors_are_one_line_of_json(server):
    for content in (request(b""), request(line="GET /a%0Ab HTTP/1.1"), b"\n\0\n\r\n\r\n"):
        status, found = ask(server, content)
        assert 400 <= status < 500
        assert list(found) == ["error"]
        assert len(json.dumps(found["error"]).splitlines()) == 1
