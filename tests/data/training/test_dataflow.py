"""Batches do not depend on who makes them; broken images and dying processes are dealt with."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.training_data import SQUARE, cfg_of, demo_cfg, register, write_dataset
from tfdetect.data.training.augmentation import build_augmentation
from tfdetect.data.training.batching import aspect_ratio_groups
from tfdetect.data.training.dataflow import BatchSource, run_batches
from tfdetect.data.training.mapper import TrainingMapper
from tfdetect.data.training.records import flip_indices, training_metadata, training_records
from tfdetect.data.training.sampler import TrainingSampler
from tfdetect.errors import InputError


def source(cfg, seed=3, shard=(0, 1), skips=False):
    records = training_records(cfg)
    return BatchSource(
        records=records,
        sampler=TrainingSampler(len(records), seed),
        groups=aspect_ratio_groups([(r.height, r.width) for r in records]),
        augmentors=build_augmentation(cfg),
        mapper=TrainingMapper("BGR", "polygon", False, flip_indices(training_metadata(cfg))),
        batch_size=cfg.SOLVER.IMS_PER_BATCH,
        seed=seed,
        shard=shard,
        skips=skips,
    )


def digests(source, first, num_workers, count):
    with contextlib.closing(run_batches(source, first, num_workers)) as batches:
        return [
            hashlib.sha256(
                b"".join(batch.arrays[k].tobytes() for k in sorted(batch.arrays))
            ).hexdigest()
            for batch in itertools.islice(batches, count)
        ]


def test_neither_workers_nor_where_a_run_began_matter():
    """30 batches of 4 are two epochs of the 60 images."""
    cfg = demo_cfg()
    expected = digests(source(cfg), 0, 0, 30)
    assert len(set(expected)) == 30
    assert digests(source(cfg), 0, 3, 30) == expected
    assert digests(source(cfg), 17, 2, 13) == expected[17:]
    assert digests(source(cfg), 17, 0, 13) == expected[17:]
    assert digests(source(cfg, seed=4), 0, 0, 1) != expected[:1]


def test_parts_make_up_the_whole():
    cfg = demo_cfg()
    whole, *parts = (
        [batch.arrays for batch in itertools.islice(run_batches(source(cfg, shard=shard), 0, 0), 5)]
        for shard in ((0, 1), (0, 2), (1, 2))
    )
    for batch, first, second in zip(whole, *parts, strict=True):
        for key in batch:
            if key != "gt_polygons":
                assert batch[key][:2].tobytes() == first[key].tobytes()
                assert batch[key][2:].tobytes() == second[key].tobytes()
        # Points are padded to what each part needs: nothing depends on their number.
        for part, rows in ((first, batch["gt_polygons"][:2]), (second, batch["gt_polygons"][2:])):
            count = part["gt_polygons"].shape[1]
            assert (part["gt_polygons"] == rows[:, :count]).all()
            assert (rows[:, count:, 0] == -1).all()


@pytest.fixture
def broken(tmp_path):
    """Two images that are there, one that vanished and one that is corrupt."""
    annotations = [
        {"image_id": image, "segmentation": SQUARE, "keypoints": [12, 9, 2] * 3}
        for image in (1, 2, 3, 4)
    ]
    path = write_dataset(tmp_path, annotations, ((40, 60),) * 4)
    name = f"broken_images_{tmp_path.name}"
    register(name, path)
    cfg = cfg_of(name, MODEL__ROI_KEYPOINT_HEAD__NUM_KEYPOINTS=3, SOLVER__IMS_PER_BATCH=2)
    # One that is missing from the start is said then: here, after that, and the records are kept.
    training_records(cfg)
    (tmp_path / "images" / "3.png").unlink()
    (tmp_path / "images" / "4.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    return cfg


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_image_stops(broken, num_workers):
    with pytest.raises(InputError, match=r"images/[34].png: .*DATALOADER.ON_ERROR skip"):
        digests(source(broken), 0, num_workers, 4)


def test_a_broken_image_is_replaced(broken):
    skipping = source(broken, skips=True)
    batches = list(itertools.islice(run_batches(skipping, 0, 0), 8))
    assert {r for batch in batches for r in batch.arrays["record"].tolist()} == {0, 1}
    messages = [message for batch in batches for message in batch.skipped]
    assert {"3.png", "4.png"} == {Path(m.split(": ")[0]).name for m in messages}
    assert digests(skipping, 0, 2, 8) == digests(skipping, 0, 0, 8)


def test_nothing_but_broken_images_stops_all_the_same(broken):
    records = source(broken).records[2:]
    hopeless = dataclasses.replace(
        source(broken, skips=True), records=records, sampler=TrainingSampler(2, 0), groups=[0, 0]
    )
    with pytest.raises(InputError, match=r"^DATALOADER.ON_ERROR: 20 images in a row .*\.png"):
        digests(hopeless, 0, 1, 1)


class _Faulty(TrainingMapper):
    def __call__(self, record, transforms):
        raise ZeroDivisionError("a mistake of the programmer")


def test_a_workers_exception_is_shown():
    cfg = demo_cfg()
    faulty = dataclasses.replace(source(cfg), mapper=_Faulty("BGR", None, False, None))
    with pytest.raises(RuntimeError, match=r"(?s)in a worker.*a mistake of the programmer"):
        digests(faulty, 0, 1, 1)


def children() -> set[int]:
    """Of this process, those that run."""
    found = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "pid=,stat="], capture_output=True, text=True
    )
    lines = [line.split() for line in found.stdout.splitlines()]
    return {int(pid) for pid, state in lines if not state.startswith("Z")} - {found.returncode}


def test_workers_end_with_the_iterator():
    batches = run_batches(source(demo_cfg()), 0, 2)
    next(batches)
    running = children()
    assert len(running) >= 2
    batches.close()
    assert not (running & children())


def test_a_killed_worker_is_noticed():
    batches = run_batches(source(demo_cfg()), 0, 1)
    before = children()
    next(batches)
    (worker,) = (pid for pid in children() - before if alive(pid, "python"))
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(InputError, match=r"^DATALOADER.NUM_WORKERS: .*code -9"):
        list(itertools.islice(batches, 10))


def alive(pid: int, command: str = "") -> bool:
    try:
        return command in Path(f"/proc/{pid}/cmdline").read_text() and (
            "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
        )
    except OSError:
        return False


SCRIPT = """
import sys, time, multiprocessing
sys.path.insert(0, {root!r})
from tests.data.training.test_dataflow import source, run_batches, demo_cfg
batches = run_batches(source(demo_cfg()), 0, 2)
next(batches)
assert "tensorflow" not in sys.modules
print(*(process.pid for process in multiprocessing.active_children()), flush=True)
time.sleep(60)
"""


def test_no_orphans_after_kill_9():
    script = SCRIPT.format(root=str(ROOT))
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    assert all(map(alive, workers))
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))
