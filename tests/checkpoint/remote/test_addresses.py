"""Addresses of Detectron2's schemes, its caches, and mirrors."""

from __future__ import annotations

import hashlib

import pytest

from tests.support.file_server import Answer
from tfdetect.checkpoint.remote.addresses import check_address, local_file
from tfdetect.checkpoint.remote.hashes import hash_in_name
from tfdetect.config.zoo import published_model, zoo_models
from tfdetect.errors import InputError

CONTENT = b"\x80\x02" + bytes(5000)
MD5 = hashlib.md5(CONTENT).hexdigest()[:6]
OF_ZOO = f"COCO-Detection/faster_rcnn/1/model_final_{MD5}.pkl"


@pytest.fixture
def mirror(server, cache, monkeypatch):
    monkeypatch.setenv("TFDETECT_ZOO_URL", f"{server.address}/mirror/")
    return server


@pytest.mark.parametrize(
    ("address", "path"),
    [
        (f"detectron2://{OF_ZOO}", f"detectron2/{OF_ZOO}"),
        (f"https://dl.fbaipublicfiles.com/detectron2/{OF_ZOO}", f"detectron2/{OF_ZOO}"),
        (
            "detectron2://ImageNetPretrained/MAE/mae.pth?matching_heuristics=True",
            "detectron2/ImageNetPretrained/MAE/mae.pth",
        ),
        (
            "catalog://ImageNetPretrained/FAIR/R-50-GN",
            "detectron/ImageNetPretrained/47261647/R-50-GN.pkl",
        ),
    ],
)
def test_detectron2_schemes_and_a_mirror(mirror, cache, address, path):
    mirror.add(f"/mirror/{path}", CONTENT)
    found = local_file(address)
    assert found == cache / "dl.fbaipublicfiles.com" / path
    assert found.read_bytes() == CONTENT


def test_detectron2_cache_is_used(mirror, tmp_path, monkeypatch):
    path = tmp_path / "detectron2" / "detectron2" / OF_ZOO
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert local_file(f"detectron2://{OF_ZOO}") == path
    assert not mirror.requests
    path.write_bytes(CONTENT[1:])  # damaged
    mirror.add(f"/mirror/detectron2/{OF_ZOO}", CONTENT)
    assert local_file(f"detectron2://{OF_ZOO}") != path
    assert path.read_bytes() == CONTENT[1:]
    monkeypatch.delenv("FVCORE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = tmp_path / "home" / ".torch" / "iopath_cache" / "detectron2" / "x.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert local_file("detectron2://x.pkl") == path


def test_a_path_is_itself(tmp_path):
    assert local_file(tmp_path / "x.pkl") == tmp_path / "x.pkl"
    assert str(local_file("x.pkl")) == "x.pkl"


@pytest.mark.parametrize(
    "path", ["/../../x.pkl", "/a/%2e%2e/%2Fetc/x", "/a//b\\c", "/" + "x" * 300]
)
def test_names_stay_within_the_cache(server, cache, path):
    server.everything = CONTENT
    found = local_file(f"{server.address}{path}")
    assert cache in found.resolve().parents
    assert found.read_bytes() == CONTENT


def test_queries_are_different_files(server, cache):
    address = server.add("/x", CONTENT)
    assert local_file(f"{address}?id=1") != local_file(f"{address}?id=2")
    assert [path for path, _ in server.requests] == ["/x?id=1", "/x?id=2"]


def test_messages_have_no_secrets(server, cache):
    server.add("/x", b"", Answer(403))
    host = server.address.removeprefix("http://")
    with pytest.raises(InputError, match="403") as raised:
        local_file(f"http://name:password@{host}/x?token=secret", "--weights")
    assert str(raised.value).startswith(f"--weights: {server.address}/x: ")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://bucket/x.pkl", "s3:// cannot be downloaded from; give detectron2://, https://"),
        ("file:///etc/passwd", "file:// cannot be"),
        ("https://", "is not an address"),
        ("https:///x.pkl", "is not an address"),
        ("https://host:99999/x.pkl", "is not an address"),
        ("https://[::1/x.pkl", "is not an address"),
        ("https://host/a b.pkl", "is not an address"),
        ("https://host/\n.pkl", "is not an address"),
        ("https://host", "names a server and no file"),
        ("https://host//", "names a server and no file"),
        ("https://host/model.safetensors.index.json", "is the index of several files"),
        ("catalog://ImageNetPretrained/R-51", "is not in Detectron2's catalog"),
    ],
)
def test_what_is_not_an_address(cache, address, message):
    for use in (check_address, local_file):
        with pytest.raises(InputError, match=message) as raised:
            use(address, "K")
        assert str(raised.value).startswith("K: ")


@pytest.mark.parametrize("mirror", ["ftp://host", "host/folder", "https://"])
def test_what_is_not_a_mirror(cache, monkeypatch, mirror):
    monkeypatch.setenv("TFDETECT_ZOO_URL", mirror)
    with pytest.raises(InputError, match=r"^TFDETECT_ZOO_URL: "):
        check_address("detectron2://x.pkl", "K")


@pytest.mark.parametrize(
    ("name", "of_zoo", "digits"),
    [
        ("model_final_f10217.pkl", True, "f10217"),
        ("model_final_280758.pkl", True, "280758"),
        ("model_0039999_e76410.pkl", True, "e76410"),
        ("coco_2017_val_box_proposals_ee0dad.pkl", True, "ee0dad"),
        ("R-50.pkl", True, None),
        ("swin_base_patch4_window7_224_22k.pth", True, None),
        ("model_final_f10217.pkl", False, "f10217"),
        ("maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", False, "bf2d0c1e"),
        ("model-20210304.pth", False, None),
        ("model_0089999.pth", False, None),
        ("weights_abcdef.pkl", False, None),
        ("model_final_202401.pkl", False, None),
        ("model_final.pkl", False, None),
    ],
)
def test_hash_in_name(name, of_zoo, digits):
    found = hash_in_name(name, of_zoo=of_zoo)
    assert (found and found.digits) == digits


def test_every_published_model_has_a_hash_and_an_address(cache):
    published = [found for name in zoo_models() if (found := published_model(name))]
    assert len(published) == 99
    for model in published:
        check_address(model.address)
        assert hash_in_name(model.address.rpartition("/")[2], of_zoo=True) is not None
