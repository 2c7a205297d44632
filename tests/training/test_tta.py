"""TEST.AUG in training: Detectron2's `test_with_TTA`."""

from __future__ import annotations

import json
import shutil

import pytest
import tensorflow as tf

import tfdetect.cli.train
import tfdetect.training.evaluation
from tests.support.paths import DEMO
from tfdetect.config import load_config
from tfdetect.data.registry import register_coco_dataset
from tfdetect.errors import InputError
from tfdetect.inference.predictor import Predictor
from tfdetect.training.devices import Workers
from tfdetect.training.evaluation import Evaluation, Outcome
from tfdetect.training.hooks import TrainingState
from tfdetect.training.hooks.builtin import TTAEvalHook
from tfdetect.training.preparation import prepare
from tfdetect.training.test_data import open_test_data

NAMES = {"class_names": ["person", "circle", "square", "triangle"]}
CONFIG = DEMO / "joint_rcnn" / "config.yaml"


@pytest.mark.parametrize("sets", [("tta_a",), ("tta_a", "tta_b")])
def test_names_of_metrics_and_results(tmp_path, monkeypatch, sets):
    """Those of Detectron2's train_net.py; the other evaluation is without, whatever is set."""
    for name in sets:
        register_coco_dataset(name, DEMO / "annotations.json", DEMO / "images")
    opts = ["DATASETS.TEST", sets, "OUTPUT_DIR", str(tmp_path), "TEST.AUG.ENABLED", True]
    cfg = load_config(CONFIG, [*opts, "MODEL.MASK_ON", False, "MODEL.KEYPOINT_ON", False])
    asked = []

    def of_model(cfg, model, metadata):
        asked.append(cfg.TEST.AUG.ENABLED)

    monkeypatch.setattr(tfdetect.training.evaluation.Predictor, "of_model", of_model)
    monkeypatch.setattr(Evaluation, "_predict", lambda self, data: ([], [0, 1]))
    worker = Workers(tf.distribute.get_strategy(), 0, 1, 1)
    for tta, suffix in ((False, ""), (True, "_TTA")):
        outcome = Evaluation(cfg, None, NAMES, worker, open_test_data(cfg, NAMES), tta=tta)()
        prefixes = [f"{name}{suffix}/bbox" for name in sets] if len(sets) > 1 else [f"bbox{suffix}"]
        for prefix in prefixes:
            assert f"{prefix}/AP" in outcome.metrics
        assert {name.rpartition("/")[0] for name in outcome.metrics} == set(prefixes)
        for name in sets:
            assert (tmp_path / f"inference{suffix}" / name).is_dir()
    assert asked == [False, True]


class Events:
    def __init__(self):
        self.lines = []

    def write(self, iteration, metrics):
        self.lines.append((iteration, metrics))


def state(folder, **values):
    return TrainingState(
        cfg=load_config(CONFIG),
        model=tf.Module(),
        workers=Workers(tf.distribute.get_strategy(), 0, 1, 1),
        folder=folder,
        events=Events(),
        start=0,
        max_iter=6,
        iteration=6,
        **values,
    )


def test_in_the_end_alone(tmp_path):
    """Its metrics join those of the evaluation without, which TEST.EXPECTED_RESULTS may name."""
    plain = Outcome({"bbox/AP": 30.0}, iteration=5)
    hook = TTAEvalHook(lambda: Outcome({"bbox_TTA/AP": 32.0}))
    unfinished = state(tmp_path, evaluation=plain)
    hook.before_train(unfinished)
    hook.after_step(unfinished)
    hook.after_train(unfinished)
    assert unfinished.evaluation is plain
    finished = state(tmp_path, evaluation=plain, finished=True)
    hook.after_train(finished)
    assert finished.evaluation == Outcome({"bbox/AP": 30.0, "bbox_TTA/AP": 32.0}, iteration=5)
    assert finished.events.lines == [(5, {"bbox_TTA/AP": 32.0})]

    def fail():
        raise RuntimeError("no memory\nat all")

    finished = state(tmp_path, evaluation=plain, finished=True)
    TTAEvalHook(fail).after_train(finished)
    assert finished.evaluation.metrics == plain.metrics
    (error,) = finished.evaluation.errors
    assert str(error) == "evaluation failed (RuntimeError: no memory)"


@pytest.mark.parametrize("eval_only", [False, True])
@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["TEST.AUG.MIN_SIZES", ()], r"^TEST\.AUG\.MIN_SIZES: is \(\)"),
        (["MODEL.CONVENTIONS", "torchvision"], r"^TEST\.AUG\.ENABLED: there is no"),
    ],
)
def test_rejected_at_the_start(tmp_path, opts, message, eval_only):
    register_coco_dataset("tta_a", DEMO / "annotations.json", DEMO / "images")
    sets = ["DATASETS.TRAIN", ("tta_a",), "DATASETS.TEST", ("tta_a",)]
    rest = ["OUTPUT_DIR", str(tmp_path), "MODEL.WEIGHTS", "", "TEST.AUG.ENABLED", True]
    cfg = load_config(CONFIG, [*sets, *rest, *opts])
    with pytest.raises(InputError, match=message):
        prepare(cfg, resume=False, eval_only=eval_only)


@pytest.mark.full
def test_eval_only(model_dir, tmp_path, caplog):
    """train.py measures a model without and with, which is what a Predictor finds."""
    content = json.loads((DEMO / "annotations.json").read_text())
    content["images"] = content["images"][:3]
    wanted = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in wanted]
    (tmp_path / "images").mkdir()
    for image in content["images"]:
        shutil.copy(DEMO / "images" / image["file_name"], tmp_path / "images")
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    aug = ["TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(160,)", "TEST.AUG.MAX_SIZE", "320"]
    command = ["--config-file", str(CONFIG), "--eval-only", "--register", "tta_val"]
    command += [str(tmp_path / "annotations.json"), str(tmp_path / "images")]
    command += ["MODEL.WEIGHTS", str(model_dir), "OUTPUT_DIR", str(tmp_path / "out"), *aug]
    assert tfdetect.cli.train.main([*command, "DATASETS.TEST", "('tta_val',)"]) == 0
    results = [
        json.loads(
            (tmp_path / "out" / name / "tta_val" / "coco_instances_results.json").read_text()
        )
        for name in ("inference", "inference_TTA")
    ]
    image = tfdetect.data.images.read_image(tmp_path / "images" / content["images"][0]["file_name"])
    found = Predictor(model_dir, opts=aug)(image)
    of_first = [r["score"] for r in results[1] if r["image_id"] == content["images"][0]["id"]]
    assert sorted(of_first) == pytest.approx(sorted(found.scores.tolist()), abs=1e-5)
    assert len(results[0]) != len(results[1])
