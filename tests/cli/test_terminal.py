"""Commands at a terminal: what it cannot print, closed pipes, Ctrl-C at any moment, odd names."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

import convert_d2.command
import tfdetect.cli.export
import tfdetect.cli.train
from tests.support.paths import DEMO, ROOT
from tfdetect.cli.command import run_command

IMPORTS = "from tfdetect.cli.command import run_command\nfrom tfdetect.errors import InputError\n"
NOT_UTF8 = os.fsdecode(b"b\xffd")


def script(body, **options):
    """A process that runs `body` as a command's main."""
    # nohup, under which the tests may run, has its children ignore SIGHUP.
    hangup = "signal.signal(signal.SIGHUP, signal.SIG_DFL)"
    code = f"import os, signal, sys, time\n{hangup}\n{IMPORTS}{body}\nrun_command(main)\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes)


def ended(process, timeout=60):
    out, err = process.communicate(timeout=timeout)
    assert b"Traceback" not in (out or b"") + (err or b""), err
    assert b"Exception ignored" not in (err or b""), err
    return process.returncode, out, err


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "utf-8"},
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LANG": "C", "LC_ALL": "", "PYTHONUTF8": "0"},
    ],
)
def test_what_a_terminal_cannot_print_is_escaped(environment):
    body = r"""
def main():
    print("gr\xfcn \u65e5\U0001f600 b\udcffd")
    raise InputError("gr\xfcn \u65e5\U0001f600 b\udcffd")
"""
    status, out, err = ended(script(body, env=environment))
    assert status == 2
    assert err.startswith(b"error: gr")
    for printed in (out, err):
        assert rb"b\udcffd" in printed
        assert len(printed.splitlines()) == 1


def test_a_closed_pipe_stops_printing_and_not_the_work(tmp_path):
    body = f"""
def main():
    for index in range(100000):
        print(index, flush=index % 1000 == 0)
        print(index, file=sys.stderr)
    open({str(tmp_path / "written")!r}, "w").close()
    return 3
"""
    with open(os.devnull, "w") as nowhere:
        process = script(body, stderr=nowhere)
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert process.wait(60) == 3
    assert (tmp_path / "written").exists()
    process = script(body, stderr=subprocess.STDOUT)
    process.stdout.close()
    assert process.wait(60) == 3


def test_a_full_disk_is_said():
    with open("/dev/full", "w") as full:
        status, _, err = ended(script("def main(): print('text')", stdout=full))
    assert status == 1
    assert err.decode().splitlines() == [
        "error: the output cannot be written (No space left on device)"
    ]


def test_streams_that_were_closed_before(tmp_path):
    """A file that is opened must not become stdout or stderr."""
    body = f"""
def main():
    with open({str(tmp_path / "file")!r}, "w") as file:
        print("to nobody", flush=True)
        print("to nobody", file=sys.stderr, flush=True)
        os.write(1, b"to nobody"), os.write(2, b"to nobody")
        file.write("content")
"""
    command = f'exec {sys.executable} -c "$0" <&- >&- 2>&-'
    code = (
        f"import os, sys\nfrom tfdetect.cli.command import run_command\n{body}\nrun_command(main)"
    )
    done = subprocess.run(["bash", "-c", command, code], cwd=ROOT, check=False)
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == "content"


BUSY = {
    "computing": "print('ready', flush=True)\n    while True: sum(range(100))",
    "waiting": "print('ready', flush=True)\n    time.sleep(60)",
    "importing": "sys.path.insert(0, FOLDER)\n    import careless",
    "in a destructor": """class Slow:
        def __del__(self):
            print('ready', flush=True)
            end = time.monotonic() + 1.5
            while time.monotonic() < end: pass
    Slow()
    time.sleep(60)""",
}


@pytest.mark.parametrize(
    ("busy", "number"),
    [
        *((busy, signal.SIGINT) for busy in BUSY),
        ("waiting", signal.SIGTERM),
        ("importing", signal.SIGTERM),
        ("waiting", signal.SIGHUP),
    ],
)
def test_a_signal_ends_a_command(tmp_path, busy, number):
    (tmp_path / "careless.py").write_text(
        "import time\nprint('ready', flush=True)\ntry:\n    time.sleep(60)\nexcept BaseException:\n"
        "    pass\ntime.sleep(60)\n"
    )
    body = f"""
FOLDER = {str(tmp_path)!r}
def main():
    try:
        {BUSY[busy].replace(chr(10), chr(10) + "    ")}
    finally:
        open(FOLDER + "/tidied", "w").close()
"""
    process = script(body)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    process.send_signal(number)  # as `timeout` does, to the process and to its group
    status, _, err = ended(process)
    assert status == 128 + number
    assert err == b"interrupted\n"
    assert (tmp_path / "tidied").exists() == (busy != "importing")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_an_import_in_the_middle_of_work(tmp_path, number):
    """TensorFlow is loaded, so that something may be half written."""
    (tmp_path / "careless.py").write_text(
        "import time\nprint('ready', flush=True)\ntry:\n    time.sleep(1.5)\n"
        "except BaseException:\n    pass\n"
    )
    body = f"""
import importlib.machinery, types
FOLDER = {str(tmp_path)!r}
def main():
    sys.modules["tensorflow"] = module = types.ModuleType("tensorflow")
    module.__spec__ = importlib.machinery.ModuleSpec("tensorflow", None)
    try:
        sys.path.insert(0, FOLDER)
        import careless
        time.sleep(60)
    finally:
        open(FOLDER + "/tidied", "w").close()
"""
    process = script(body)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    process.send_signal(number)
    status, _, err = ended(process)
    assert status == 128 + number
    assert err == b"interrupted\n"
    assert (tmp_path / "tidied").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_is_repeated_until_the_end(number):
    """The second one may arrive while the interpreter ends, when signals kill again."""
    process = script("def main():\n    print('ready', flush=True)\n    time.sleep(60)")
    assert process.stdout.readline() == b"ready\n"
    while process.poll() is None:
        process.send_signal(number)
    status, _, err = ended(process)
    assert (status, err) == (128 + number, b"interrupted\n")


def test_a_signal_that_the_parent_has_ignored_stays_ignored():
    """As nohup does, or a shell with what it runs in the background."""
    body = "def main():\n    print('ready', flush=True)\n    time.sleep(1)"
    process = script(body, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 0


def test_what_is_held_is_done_whole(tmp_path):
    body = f"""
from tfdetect.interrupts import hold_interrupts
def main():
    with hold_interrupts():
        print('ready', flush=True)
        time.sleep(1)
        open({str(tmp_path / "whole")!r}, "w").close()
    time.sleep(60)
"""
    process = script(body)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 130
    assert (tmp_path / "whole").exists()


COMMANDS = {
    "predict.py": ["predict.py"],
    "train.py": ["train.py"],
    "convert_d2.py": ["convert_d2.py"],
    "export": ["-m", "tfdetect.export"],
    "to Detectron2": ["-m", "convert_d2.export"],
    "build": ["-m", "tfdetect", "build-operators"],
    "shapes": ["-m", "tfdetect.data.shapes"],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=list(COMMANDS))
def test_help_through_a_closed_pipe(words):
    command = '"$@" --help | true; echo "${PIPESTATUS[0]}"'
    words = ["bash", "-c", command, "-", sys.executable, *words]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")


def predict(model_dir, *arguments, **options):
    words = [sys.executable, ROOT / "predict.py", "--model", model_dir, *arguments]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ROOT, **options}
    return subprocess.Popen([str(word) for word in words], **options)


def test_ctrl_c_while_predicting(model_dir, tmp_path):
    """Nothing is half written, and what is not written is said; another time while it starts."""
    arguments = ("--input", DEMO / "images", "--json", tmp_path / "found.json")
    process = predict(model_dir, *arguments, "--output", tmp_path / "pictures")
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    status, _, err = ended(process)
    assert status == 130
    (line,) = err.decode().splitlines()
    said = r"interrupted: \d+ of 60 images are done; .*found.json is not written"
    assert re.fullmatch(said, line)
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]
    assert not [path for path in (tmp_path / "pictures").iterdir() if path.suffix != ".jpg"]

    process = predict(model_dir, *arguments)
    time.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    status, out, err = ended(process)
    assert (status, out, err) == (143, b"", b"interrupted\n")


def test_head_and_names_that_are_not_utf8(model_dir, tmp_path):
    folder = tmp_path / NOT_UTF8
    folder.mkdir()
    model = shutil.copytree(model_dir, tmp_path / f"{NOT_UTF8} model")
    for index, name in enumerate((f"{NOT_UTF8}.jpg", "grün 日本.jpg", "plain.jpg")):
        shutil.copy(DEMO / "images" / f"{index:06}.jpg", folder / name)
    arguments = ("--input", folder, "--json", folder / "found.json", "--output", folder / "out")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = predict(model, *arguments, env=environment)
    assert rb"b\udcffd" in process.stdout.readline()
    process.stdout.close()
    assert process.wait(100) == 0
    assert process.stderr.read() == b""
    names = [record["file_name"] for record in json.loads((folder / "found.json").read_text())]
    assert names == [f"{NOT_UTF8}.jpg", "grün 日本.jpg", "plain.jpg"]
    assert sorted(path.name for path in (folder / "out").iterdir()) == sorted(names)


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (
            convert_d2.command.main,
            (
                *("--config-file", DEMO / "joint_rcnn" / "config.yaml", "--output", "OUT"),
                *("--weights", DEMO / "joint_rcnn" / "model_final.pkl"),
            ),
        ),
        (tfdetect.cli.export.main, ("--model", "x", "--output", "OUT")),
        (
            tfdetect.cli.train.main,
            (
                *("--config-file", DEMO / "joint_rcnn" / "config.yaml", "--register", "mine"),
                *(DEMO / "annotations.json", DEMO / "images", "DATASETS.TRAIN", "('mine',)"),
                *("OUTPUT_DIR", "OUT"),
            ),
        ),
    ],
)
def test_where_tensorflow_would_write(tmp_path, capfd, main, arguments):
    output = str(tmp_path / NOT_UTF8)
    words = [output if word == "OUT" else str(word) for word in arguments]
    with pytest.raises(SystemExit) as raised:
        run_command(lambda: main(words))
    assert raised.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "names in UTF-8" in line
    assert not any(tmp_path.iterdir())
