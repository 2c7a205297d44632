"""Configs are read as Detectron2 reads them, and every error is one line that says what to do."""

from __future__ import annotations

import argparse

import pytest

from tests.support.paths import DEMO
from tfdetect.cli.arguments import parse_with_opts
from tfdetect.config import dump_config, get_cfg, load_config
from tfdetect.config.defaults import DEFAULTS
from tfdetect.config.keys import OWN_KEYS, POINTREND_KEYS, RENAMED
from tfdetect.errors import InputError


@pytest.fixture
def write(tmp_path):
    """Write a YAML file and return its path."""

    def write(text: str | bytes, name: str = "config.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def error_of(path, opts=()) -> str:
    with pytest.raises(InputError) as caught:
        load_config(path, opts)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults_are_a_copy():
    cfg = get_cfg()
    cfg.MODEL.PIXEL_MEAN[0] = 0.0
    cfg.MODEL.RPN.NMS_THRESH = 0.1
    assert get_cfg().MODEL.PIXEL_MEAN[0] == DEFAULTS["MODEL"]["PIXEL_MEAN"][0] == 103.53
    assert get_cfg().MODEL.RPN.NMS_THRESH == 0.7


def test_complete_config_of_detectron2_states_every_key():
    """The demo's `config.yaml` was written by Detectron2: its keys are the whole schema.

    Only a few keys are this project's own.
    """
    import yaml

    def keys(node, prefix=""):
        for name, value in node.items():
            yield prefix + name
            if isinstance(value, dict):
                yield from keys(value, f"{prefix}{name}.")

    path = DEMO / "joint_rcnn" / "config.yaml"
    own = (*OWN_KEYS, *POINTREND_KEYS)
    ours = {key for key in keys(DEFAULTS) if not key.startswith(own)}
    assert set(keys(yaml.safe_load(path.read_text()))) == ours
    cfg = load_config(path)
    assert cfg.MODEL.FPN.OUT_CHANNELS == 64
    assert cfg.MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS[2] == (30.0, 30.0, 15.0, 15.0)
    assert cfg.SOLVER.WEIGHT_DECAY_BIAS is None
    assert cfg.is_frozen()
    with pytest.raises(AttributeError):
        cfg.MODEL.MASK_ON = False


@pytest.mark.parametrize(
    "opts",
    [
        [],
        ["OUTPUT_DIR", "'12'"],
        ["OUTPUT_DIR", "  a: 'b' # c"],
        ["MODEL.WEIGHTS", "'None'"],
        ["MODEL.WEIGHTS", "None"],
        ["MODEL.WEIGHTS", "Grüße/模型.pkl"],
        ["SOLVER.STEPS", "()"],
        ["SOLVER.BASE_LR", "1e-5"],
        ["SOLVER.WEIGHT_DECAY_BIAS", "0.0"],
        ["TEST.EXPECTED_RESULTS", "[['bbox', 'AP', 38.5, 0.2]]"],
    ],
)
def test_written_config_reads_the_same(write, opts):
    cfg = load_config(DEMO / "joint_rcnn" / "config.yaml", opts)
    again = load_config(write(dump_config(cfg)))
    assert again == cfg
    assert dump_config(again) == dump_config(cfg)


def test_bases(write, tmp_path, monkeypatch):
    write("MODEL: {MASK_ON: true, DEVICE: a}\nSEED: 1", "base/a.yaml")
    write("_BASE_: a.yaml\nMODEL: {DEVICE: b}\nSEED: 2", "base/b.yaml")
    path = write("_BASE_: base/b.yaml\nSEED: 3")
    cfg = load_config(path, ["VIS_PERIOD", "7"])
    assert (cfg.MODEL.MASK_ON, cfg.MODEL.DEVICE, cfg.SEED, cfg.VIS_PERIOD) == (True, "b", 3, 7)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_config(write("_BASE_: ~/base/b.yaml")).SEED == 2
    assert load_config(write(f"_BASE_: {tmp_path}/base/a.yaml")).SEED == 1
    several = load_config(write("_BASE_: [base/b.yaml, base/a.yaml]"))
    assert (several.MODEL.DEVICE, several.SEED) == ("a", 1)


def test_leniencies_of_detectron2(write):
    cfg = load_config(
        write(
            "MODEL: {PIXEL_STD: &s [57.375, 57.12, 58.395], PIXEL_MEAN: *s}\n"
            'INPUT: {MIN_SIZE_TRAIN: "(640, 672)"}\n'
            "DATASETS: {TRAIN: ['a'], TEST: \"('b',)\"}\n"
            "SOLVER: {BASE_LR: 1, GAMMA: 1e-1, STEPS: [1, 2]}\n"
            "OUTPUT_DIR: null\n"
        )
    )
    assert cfg.MODEL.PIXEL_STD == cfg.MODEL.PIXEL_MEAN == [57.375, 57.12, 58.395]
    assert cfg.MODEL.PIXEL_STD is not cfg.MODEL.PIXEL_MEAN
    assert cfg.INPUT.MIN_SIZE_TRAIN == (640, 672)
    assert cfg.DATASETS.TRAIN == ("a",)
    assert cfg.DATASETS.TEST == ("b",)
    assert cfg.SOLVER.BASE_LR == 1.0
    assert isinstance(cfg.SOLVER.BASE_LR, float)
    assert cfg.SOLVER.GAMMA == 0.1
    assert cfg.SOLVER.STEPS == (1, 2)
    assert cfg.OUTPUT_DIR is None


def test_opts():
    path = DEMO / "joint_rcnn" / "config.yaml"
    cfg = load_config(path, ["MODEL.MASK_ON", "False", "MODEL.WEIGHTS", "C:\\a b", "SEED", 5])
    assert (cfg.MODEL.MASK_ON, cfg.MODEL.WEIGHTS, cfg.SEED) == (False, "C:\\a b", 5)
    assert "--opts: SEED has no value, nothing comes after it" in error_of(path, ["SEED"])
    assert "SEED has no value, the key VIS_PERIOD comes" in error_of(
        path, ["SEED", "VIS_PERIOD", 1]
    )
    assert "separate SEED and its value" in error_of(path, ["SEED=1", "VIS_PERIOD=1"])
    assert "SEED is not a section but an integer (-1); set SEED" in error_of(path, ["SEED.A.B", 1])
    assert "--opts: unknown key MODEL.MASKON; the closest known key is MODEL.MASK_ON" in error_of(
        path, ["MODEL.MASKON", "True"]
    )
    assert "a section" in error_of(path, ["MODEL.RPN", "x"])
    assert "--opts: SEED: got text" in error_of(path, ["SEED", "__import__('os').getpid()"])


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("MODEL.MASKON", "the closest known key is MODEL.MASK_ON"),
        ("solver.base_lr", "the closest known key is SOLVER.BASE_LR"),
        ("MODEL.ROI_HEAD.NUM_CLASSES", "the closest known key is MODEL.ROI_HEADS.NUM_CLASSES"),
        ("INPUT.MIN_SIZE", "the closest known key is INPUT.MIN_SIZE_TEST"),
        (
            "SCORE_THRESH_TEST",
            "similar known keys are MODEL.ROI_HEADS.SCORE_THRESH_TEST, MODEL.RETINANET.",
        ),
        *(
            (key, "has no similar one; remove it")
            for key in (
                "SOLVER.EPSILON",
                "MODEL.FCOS.NUM",
                "WANDB",
                "MODEL.ROI_KEYPOINT_HEAD.FC_DIM",
            )
        ),
    ],
)
def test_no_unrelated_key_is_suggested(key, words):
    message = error_of(DEMO / "joint_rcnn" / "config.yaml", [key, "1"])
    assert message.startswith(f"--opts: unknown key {key}")
    assert words in message


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["SEED", "5", "--flag"], (True, ["SEED", "5"])),
        (["SEED", "-1", "--flag", "SOLVER.BASE_LR", "-1e-3"], None),
        (["--flag", "SEED", "-5", "SOLVER.BASE_LR", "-1e-3"], None),
        ([], (False, [])),
        (["TEST.KEYPOINT_OKS_SIGMAS", "[-1, 2]", "--flag"], None),
    ],
)
@pytest.mark.parametrize("option", [False, True])
def test_options_may_follow_keys(words, expected, option):
    """As positional arguments (train.py) and after --opts (predict.py, convert_d2.py)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--flag", action="store_true")
    if option:
        parser.add_argument("--opts", nargs="*", action="extend", default=[])
        starts = [w for w in words if w != "--flag"][:1]
        words = [x for w in words for x in (["--opts", w] if w in starts else [w])]
        if "--flag" in words and words.index("--flag") not in (0, len(words) - 1):
            words.insert(words.index("--flag") + 1, "--opts")
    else:
        parser.add_argument("opts", nargs="*")
    args = parse_with_opts(parser, words)
    pairs = [w for w in words if w not in ("--flag", "--opts")]
    assert (args.flag, args.opts) == (expected or (True, pairs))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MODEL: {MASK_OM: true}", "unknown key MODEL.MASK_OM; the closest known key is MODEL.MAS"),
        ("MODEL: {RPN: {NMS_TRESH: 0.5}}", "the closest known key is MODEL.RPN.NMS_THRESH"),
        ("MODLE: {MASK_ON: true}", "unknown key MODLE; the closest known key is MODEL"),
        ('"a\\nb": 1', "unknown key a b"),
        ("MODEL: {MASK_ON: 1}", "MODEL.MASK_ON: got an integer (1), expected true or false"),
        ("MODEL: {RESNETS: {DEPTH: 50.0}}", "MODEL.RESNETS.DEPTH: got a number (50.0), expected"),
        ("INPUT: {MIN_SIZE_TRAIN: 800}", "INPUT.MIN_SIZE_TRAIN: got an integer (800), expected a"),
        ("SOLVER: {STEPS: [1e-3]}", "SOLVER.STEPS: got text ('1e-3') in a list, expected numbers"),
        ("MODEL: {PIXEL_MEAN: [1, 2, {}]}", "MODEL.PIXEL_MEAN: got a section in a list"),
        (
            "MODEL: {PIXEL_MEAN: &a [*a]}",
            "MODEL.PIXEL_MEAN: got a list with too many or too deeply",
        ),
        ("SEED: 2020-02-20", "SEED: got date, expected an integer"),
        ("MODEL: 3", "MODEL: got an integer (3), but it is a section"),
        ("MODEL:", "MODEL: got null, but it is a section"),
        ("MODEL: {WEIGHT: x}", "MODEL.WEIGHT was renamed to MODEL.WEIGHTS"),
        ("MODEL: {RPN_HEAD: {NAME: x}}", "MODEL.RPN_HEAD.NAME was renamed to MODEL.RPN.HEAD_NAME"),
        ("VERSION: 1", "VERSION is 1, only Detectron2's version 2 is supported"),
        ("_BASE_: config.yaml", "refers back to itself"),
        ("_BASE_: none.yaml", "_BASE_: there is no file"),
        ("_BASE_: {}", "_BASE_: got a section, expected a file name"),
        ("_BASE_: http://host/base.yaml", "not a local file; download it first"),
        ("a: [", "line 1: not YAML"),
        ("SEED: 1\nSEED: : 2", "line 2: not YAML"),
        ("SEED: 1\n---\nSEED: 2", "not YAML"),
        ("a: !!timestamp foo", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
        (f"SOLVER: {{BASE_LR: {'9' * 400}}}", "SOLVER.BASE_LR: got an integer too large"),
        ("", "is empty"),
        ("- 1", "holds a list"),
        (b"SEED: 1\n# \xff", "line 2: not UTF-8"),
        (b"#" * (1 << 20) + b"\n", "over 1 MiB"),
    ],
)
def test_errors_name_file_and_key(write, text, expected):
    message = error_of(write(text))
    assert expected in message
    assert "config.yaml" in message


def test_error_in_a_base_names_the_base(write):
    write("SEED: x", "base.yaml")
    assert "base.yaml: SEED: got text" in error_of(write("_BASE_: base.yaml"))


def test_errors_of_the_path(tmp_path):
    assert "No such file" in error_of(tmp_path / "none.yaml")
    assert "directory" in error_of(tmp_path)


def test_python_tags_are_refused_and_not_run(write, tmp_path):
    trace = tmp_path / "trace"
    for tag, argument in [
        ("python/object/apply:os.system", f"['touch {trace}']"),
        ("python/object/apply:eval", f"[\"open('{trace}', 'w')\"]"),
        ("python/name:os.system", "''"),
        ("python/tuple", "[1, 2]"),
    ]:
        message = error_of(write(f"SEED: 1\nMODEL: {{PIXEL_MEAN: !!{tag} {argument}}}"))
        assert "line 2" in message
        assert f"!!{tag}" in message
    assert not trace.exists()


def test_alias_bomb_is_refused(write):
    """Ten lines of YAML that spell a list of 10 ** 9 entries."""
    lines = ["MODEL:", "  PIXEL_MEAN:", "  - &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"  - &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "MODEL.PIXEL_MEAN: got a list with too many" in error_of(write("\n".join(lines)))


def test_renamed_keys_lead_to_known_ones():
    for new in RENAMED.values():
        node = DEFAULTS
        for part in new.split("."):
            node = node[part]
