"""predict.py --profile: the times of stages, of what really ran."""

from __future__ import annotations

import pytest

import tfdetect.cli.predict
from tests.support.paths import DEMO
from tests.support.servables import model_dir
from tfdetect.errors import InputError
from tfdetect.inference import profile
from tfdetect.inference.profile import OTHER, _Interval, _Trace, stage_of
from tfdetect.layers.profile_scope import PROFILE_SCOPES, profile_scope

IMAGE = DEMO / "images" / "000056.jpg"


def table(text: str) -> dict[str, tuple[float, float]]:
    """Milliseconds and per cent of each stage."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("scope "))
    rows = {}
    for line in lines[start + 1 :]:
        if not line.endswith("%"):
            break
        name, ms, share = line.rsplit(maxsplit=2)
        rows[name] = (float(ms), float(share[:-1]))
    return rows


@pytest.mark.usefixtures("shared_predictors")
def test_command(tmp_path, capsys):
    command = [
        "--model",
        str(model_dir()),
        "--input",
        str(IMAGE),
        "--output",
        str(tmp_path / "pictures"),
    ]
    assert tfdetect.cli.predict.main([*command, "--profile", str(tmp_path / "trace")]) == 0
    printed = capsys.readouterr().out
    rows = table(printed)
    expected = ["decode", "preprocess", "backbone", "backbone/fpn", "rpn_head", "proposals"]
    expected += ["box_head/pooler", "box_head", "detections", "mask_head", "keypoint_head"]
    expected += ["decode_keypoints", "postprocess", "paste_masks", "draw", OTHER]
    # The heads pool the same regions alike, which TensorFlow does once, for either.
    pools = set(rows) - set(expected)
    assert set() < pools <= {"mask_head/pooler", "keypoint_head/pooler"}
    assert len(rows) == len(expected) + len(pools)
    assert all(ms > 0 for ms, _ in rows.values())
    assert sum(share for _, share in rows.values()) == pytest.approx(100, abs=1)
    # Nearly every operation belongs to a stage.
    assert rows[OTHER][1] < 50
    names = list(rows)
    assert names.index("preprocess") < names.index("backbone") < names.index("mask_head")
    assert "an image: " in printed
    (trace,) = (tmp_path / "trace").glob("plugins/profile/*/*.xplane.pb")
    operations = [i for line in profile._read(trace).operations for i in line]
    assert {i.scope.split("/")[0] for i in operations} <= set(PROFILE_SCOPES)


@pytest.mark.usefixtures("shared_predictors")
def test_batches_without_pictures(tmp_path, capsys):
    images = [str(DEMO / "images" / f"00000{i}.jpg") for i in range(3)]
    command = ["--model", str(model_dir()), "--batch-size", "2", "--input", *images]
    assert tfdetect.cli.predict.main([*command, "--profile", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "a batch of 2: " in printed
    assert "draw" not in table(printed)


def test_time_is_shared_out():
    """Nested, beside each other, in Python, and none at all: the sum is the batch's."""
    trace = _Trace(
        batches=[_Interval(0, 100e6, ""), _Interval(200e6, 210e6, "")],
        python=[_Interval(0, 10e6, "decode"), _Interval(40e6, 90e6, "draw")],
        operations=[
            [
                _Interval(10e6, 40e6, "mask_head"),
                _Interval(20e6, 30e6, "mask_head/pooler"),
                _Interval(80e6, 95e6, "postprocess"),
            ],
            [_Interval(30e6, 50e6, "rpn_head"), _Interval(205e6, 300e6, "rpn_head")],
        ],
    )
    times = profile._times(trace)
    assert times == {
        "decode": pytest.approx([10, 0]),
        "mask_head": pytest.approx([15, 0]),
        "mask_head/pooler": pytest.approx([10, 0]),
        "rpn_head": pytest.approx([15, 5]),
        "draw": pytest.approx([30, 0]),
        "postprocess": pytest.approx([15, 0]),
        OTHER: pytest.approx([5, 5]),
    }
    assert next(iter(times)) == "decode"
    assert list(times)[-1] == OTHER
    assert "a batch of 3: 55.00 ms, median of 2 (10.00 to 100.00)" in profile.format_table(times, 3)


def test_names_of_stages():
    assert stage_of("mask_head_1/pooler_12/Relu") == "mask_head/pooler"
    assert stage_of("preprocess/map/while/body/_3/preprocess/map/while/Pad") == "preprocess"
    assert stage_of("StatefulPartitionedCall/Relu_1") == ""
    with pytest.raises(ValueError, match="not one of"), profile_scope("else"):
        pass


def test_what_does_not_go(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    command = [
        "--model",
        str(model_dir()),
        "--input",
        str(IMAGE),
        "--profile",
        str(tmp_path / "file"),
    ]
    with pytest.raises(InputError, match="is a file"):
        tfdetect.cli.predict.main(command)
    with pytest.raises(SystemExit, match="2"):
        tfdetect.cli.predict.main(
            ["--model", str(model_dir()), "--evaluate", "a", "--output", "b", "--profile", "c"]
        )
    assert "--profile works with --input" in capsys.readouterr().err
