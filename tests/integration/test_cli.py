"""The command as a user has it: in a process, in an empty folder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner
from conftest import BAD, read_json

from copycost import registry
from copycost.catalog import discovery
from copycost.cli.app import cli
from copycost.results import load

Command = Callable[..., "subprocess.CompletedProcess[str]"]

SMALL = ("--recipe", "tf", "--device", "cpu", "--batch", 1, "--size", "32x24", "--dtype", "float32", "--budget", 1)


def schema() -> jsonschema.Draft202012Validator:
    text = resources.files("copycost.results").joinpath("schema.json").read_text()
    return jsonschema.Draft202012Validator(json.loads(text))


def test_a_run_writes_what_it_says(command: Command, tmp_path: Path) -> None:
    done = command("run", *SMALL, "--variant", "numpy-[!bt]*", "--out", "here", "--json", "run.json")
    assert done.returncode == 0, done.stderr
    every = command("show", "here").stdout
    assert "numpy-inplace" in every
    assert "changes its input" in every
    assert "s outside timed calls, over 5 measured cases" in done.stdout
    document = read_json((tmp_path / "run.json").read_text())
    schema().validate(document)
    assert len(document["measurements"]) == 5
    assert (tmp_path / "here" / "measurements.csv").read_text().count("\n") == 6
    assert command("report", "here", "run.json", "--html", "page").returncode == 0
    assert "numpy-inplace" in (tmp_path / "page" / "index.html").read_text()
    assert "/" not in document["environment"]["image"]


def test_json_on_standard_output_is_all_there_is(command: Command) -> None:
    done = command("run", *SMALL, "--variant", "prints", "--variant", "numpy-out", "--with", BAD, "--json", "-")
    assert done.returncode == 0, done.stderr
    document = read_json(done.stdout)
    schema().validate(document)
    assert {m["variant"]: m["status"] for m in document["measurements"]} == {"prints": "ok", "numpy-out": "ok"}


def test_the_schema_refuses_a_figure_that_is_missing_without_a_reason(command: Command) -> None:
    document = read_json(command("run", *SMALL, "--variant", "numpy-out", "--json", "-").stdout)
    (row,) = document["measurements"]
    schema().validate(document)
    for field in ("seconds", "device_peak_bytes", "max_ulp"):
        broken = row | {field: None, "missing": {}}
        assert not schema().is_valid(document | {"measurements": [broken]}), field
    assert not schema().is_valid(document | {"measurements": [row | {"status": "fine"}]})
    assert not schema().is_valid(document | {"measurements": [row | {"status": "failed", "reason": None}]})


def test_a_fault_is_exit_status_1_and_a_known_one_is_not(command: Command) -> None:
    done = command("run", *SMALL, "--with", BAD, "--variant", "wrong-constant")
    assert done.returncode == 1
    assert "1 case is at fault" in done.stdout
    known = [*SMALL[:-4], "--dtype", "uint8", "--budget", 1]
    done = command("run", *known, "--variant", "keras-tensor", "--json", "-")
    assert done.returncode == 0, done.stderr
    (row,) = read_json(done.stdout)["measurements"]
    assert (row["status"], row["known"]) == ("failed", "docs/results/known-issues.md#keras-tensor-on-uint8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--recipe", "cafe"], ["unknown recipe 'cafe'", "caffe"]),
        (["run", "--variant", "numpy-ot"], ["unknown variant 'numpy-ot'", "numpy-out"]),
        (["run", "--device", "tpu"], ["unknown device 'tpu'", "gpu or cpu"]),
        (["run", "--profile", "quik"], ["unknown profile 'quik'", "quick"]),
        (["run", "--dtype", "float31"], ["unknown dtype 'float31'", "float32"]),
        (["run", "--layout", "channel_last"], ["channels_last"]),
        (["run", "--size", "224"], ["'224' is not a size", "224x224"]),
        (["run", "--size", "0x224"], ["invalid size 0x224"]),
        (["run", "--batch", "0"], ["invalid batch 0"]),
        (["run", "--batch", "many"], ["'many' is not a batch: expected a number of images, or none"]),
        (["run", "--budget", "0"], ["--budget"]),
        (["run", "--budget", "nan"], ["--budget"]),
        (["run", "--timeout", "inf"], ["--timeout"]),
        (["run", "--image", ""], ["--image is empty"]),
        (["run", "--with", "text.jpg"], ["text.jpg is not a .py file"]),
        (["run", "--with", "magnitude.py"], ["invalid magnitude nan"]),
        (["run", "--with", "tolerance.py"], ["invalid tolerance -1: expected a finite number from 0"]),
        (["run", "--with", "evidence.py"], ["known['float32'] is 5"]),
        (["run", "--with", "numbered.py"], ["invalid variant name 3"]),
        (["run", "--json", "empty", "--out", "o"], ["empty cannot be written to"]),
        (["run", "--timeout", "-1"], ["--timeout"]),
        (["run", "--threads", "0"], ["--threads"]),
        (["run", "--image", "absent.jpg"], ["image not found: absent.jpg"]),
        (["run", "--image", "text.jpg"], ["text.jpg is not an image"]),
        (["run", "--image", "empty"], ["no image in the folder empty"]),
        (["run", "--with", "absent.py"], ["absent.py"]),
        (["run", "--with", "broken.py"], ["broken.py does not import", "NameError", "line 2"]),
        (["run", "--with", "syntax.py"], ["syntax.py does not import", "SyntaxError", "line 1"]),
        (["run", "--with", "exiting.py"], ["exiting.py ended the process that imported it (status 4)"]),
        (["run", "--with", "leaving.py"], ["leaving.py does not import", "SystemExit"]),
        (["run", "--with", "misnamed.py"], ["unknown recipe 'caffee'", "caffe"]),
        (["run", "--with", "taken.py"], ["'numpy-out'", "twice"]),
        (["run", "--with", "nowhere.py"], ["unknown writes 'output'", "out"]),
        (["run", "--out", "text.jpg/run"], ["cannot be written to"]),
        (["run", "--json", "absent/run.json", "--out", "o"], ["absent/run.json cannot be written to"]),
        (["run", "--resume"], ["--resume needs --out"]),
        (["run", "--resume", "--out", "empty"], ["empty holds no run to resume"]),
        (["report", "absent", "--html", "x"], ["no run at absent"]),
        (["report", "text.jpg", "--html", "x"], ["text.jpg is not a run"]),
        (["list", "recipe"], ["recipes"]),
        (["runn"], ["No such command 'runn'"]),
    ],
)
def test_bad_input_is_one_clear_line_before_anything_is_measured(
    command: Command, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("no pixels here")
    (tmp_path / "broken.py").write_text("x = 1\ny = undefined\n")
    (tmp_path / "syntax.py").write_text("def (:\n")
    (tmp_path / "exiting.py").write_text("import os; os._exit(4)\n")
    (tmp_path / "leaving.py").write_text("raise SystemExit(0)\n")
    head = "from copycost import variant\n@variant(recipe='{}', runtime='numpy', writes='{}')\ndef {}(example): ...\n"
    (tmp_path / "misnamed.py").write_text(head.format("caffee", "new", "mine"))
    (tmp_path / "taken.py").write_text(head.format("tf", "new", "numpy_out"))
    (tmp_path / "nowhere.py").write_text(head.format("tf", "output", "mine"))
    (tmp_path / "magnitude.py").write_text("from copycost import recipe\nrecipe('m', magnitude=float('nan'))(abs)\n")
    (tmp_path / "tolerance.py").write_text("from copycost import recipe\nrecipe('m', tolerance=-1)(abs)\n")
    (tmp_path / "evidence.py").write_text(head.replace("')", "', known={{'float32': 5}})").format("tf", "new", "mine"))
    (tmp_path / "numbered.py").write_text(head.replace("')", "', name=3)").format("tf", "new", "mine"))
    begun = time.monotonic()
    done = command(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert time.monotonic() - begun < 30
    assert "Traceback" not in done.stderr
    error = next(line for line in done.stderr.splitlines() if line.startswith("Error"))
    for word in words:
        assert word in error
    assert not done.stdout
    assert len(done.stderr.splitlines()) <= 3
    assert not (tmp_path / "reports").exists()  # nothing was begun


def test_the_examples_of_the_documentation(command: Command, tmp_path: Path) -> None:
    docs = Path(__file__).parents[2] / "docs"
    _, _, rest = (docs / "how-to" / "add-a-variant.md").read_text().partition("```python\n")
    (tmp_path / "my_variants.py").write_text(rest.partition("```")[0])
    done = command("run", *SMALL, "--dtype", "uint8", "--with", "my_variants.py", "--variant", "lookup", "--json", "-")
    found = {m["dtype"]: m["status"] for m in read_json(done.stdout)["measurements"]}
    assert found == {"float32": "skipped", "uint8": "ok"}
    empty = [*SMALL, "--recipe", "identity", "--with", docs / "examples" / "empty.py"]
    done = command("run", *empty, "--variant", "empty", "--json", "-")
    (row,) = read_json(done.stdout)["measurements"]
    assert (row["status"], row["result_shares"], row["allocations"]) == ("ok", "input", 0)


def test_a_folder_with_another_package_of_that_name(tmp_path: Path) -> None:
    """A checkout, or somebody's own ``copycost``, where the installed command is run: it measures by itself."""
    (tmp_path / "copycost").mkdir()
    (tmp_path / "copycost" / "__init__.py").write_text("raise ImportError('this is not what was installed')\n")
    (tmp_path / "project.py").write_text("SCALE = 127.5\n")
    (tmp_path / "variants").mkdir()
    (tmp_path / "variants" / "mine.py").write_text(
        "import numpy as np\nimport project\nfrom copycost import variant\n"
        "@variant(recipe='tf', runtime='numpy', writes='new')\n"
        "def mine(example):\n    scale, one = np.float32(project.SCALE), np.float32(1)\n"
        "    return lambda x: x / scale - one\n"
    )
    script = [sys.executable, "-P", "-c", "from copycost.cli.app import main; main()"]
    arguments = ["run", "--with", "variants/mine.py", "--variant", "mine", *map(str, SMALL)]
    done = subprocess.run([*script, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_lists(command: Command) -> None:
    assert {"caffe", "tf", "torch"} <= set(command("list", "recipes").stdout.split())
    variants = command("list", "variants").stdout
    assert all(name in variants for name in ("numpy-inplace", "keras-tensor", "tf-variable-xla", "cupy-fused"))
    assert "cpu" in command("list", "devices").stdout
    cases = command("list", "cases", "--recipe", "tf", "--batch", 1, "--dtype", "uint8").stdout.splitlines()
    assert len(cases) == sum(
        len(v.devices or discovery.runtime(v.runtime).devices) for v in registry.variants.values() if v.recipe == "tf"
    )
    assert any("skipped: a float32 result does not fit over a uint8 input" in line for line in cases)
    assert "lookup" in command("list", "variants", "--with", BAD).stdout


def test_doctor_looks_at_the_machine(command: Command) -> None:
    done = command("doctor", env={"TF_ENABLE_ONEDNN_OPTS": "0"})
    assert done.returncode == 0
    for word in ("load", "governor", "huge pages", "oneDNN", "memray", "CPUs"):
        assert word in done.stdout
    assert "every large tensor is a request to the C library" in done.stdout


@pytest.mark.parametrize("setting", [None, "0", "1"])
def test_doctor_says_whether_tensorflow_turns_onednn_on(
    setting: str | None, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As TensorFlow says itself."""
    pytest.importorskip("tensorflow")
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if setting is not None:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", setting)
    script = "from tensorflow.python.util import _pywrap_util_port; print(_pywrap_util_port.IsMklEnabled())"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    (line,) = [line for line in command("doctor").stdout.splitlines() if "TensorFlow's oneDNN" in line]
    assert f" {'on' if said == 'True' else 'off'}" in line


def test_a_narrow_terminal_keeps_names_and_times(command: Command) -> None:
    done = command("run", *SMALL, "--variant", "numpy-[!bt]*", "--out", "here", env={"COLUMNS": "50"})
    assert done.returncode == 0
    every = command("show", "here", env={"COLUMNS": "50"})
    assert max(map(len, [*done.stdout.splitlines(), *every.stdout.splitlines()])) <= 50
    assert "numpy-expression" in every.stdout
    assert "µs" in done.stdout
    assert "µs" in every.stdout


SAMPLE = Path(__file__).parents[2] / "reports" / "sample" / "run"


@pytest.mark.parametrize(
    "words",
    [
        ("list", "variants"),
        ("list", "recipes"),
        ("list", "devices"),
        ("list", "cases", "--recipe", "add", "--batch", "1", "--variant", "tf-*"),
        ("show", SAMPLE),
        ("compare", SAMPLE, SAMPLE),
        ("claims", "--list"),
        ("doctor",),
        ("profile", "tf", "numpy-new", "1×32×32×3"),
    ],
    ids=lambda words: " ".join(map(str, words[:2])).replace(str(SAMPLE), "RUN"),
)
def test_a_terminal_of_any_width_shows_whole_words(words: tuple[object, ...]) -> None:
    """Those of a terminal that is wide enough for all, but for figures, which differ from call to call."""

    def shown(width: int) -> list[str]:
        terminal = {"COLUMNS": str(width), "TTY_COMPATIBLE": "1", "NO_COLOR": "1", "TERM": "xterm"}
        done = CliRunner().invoke(cli, [str(word) for word in words], env=terminal, catch_exceptions=False)
        assert done.exit_code == 0, done.stderr
        return re.sub(r"\x1b\[[\d;]*m|─+", "", done.stdout).splitlines()

    def whole(lines: list[str]) -> set[str]:
        found = {word.rstrip(":") for line in lines for word in line.split()}  # a status is a cell, or begins a remark
        units = {"ns", "µs", "ms", "s", "bytes", "KiB", "MiB"}
        return {word for word in found - units if not re.search(r"\d|…$", word)}

    every = whole(shown(400))
    assert every
    for width in (60, 80, 100):
        lines = shown(width)
        assert max(map(len, lines)) <= width
        assert whole(lines) <= every


def begin(tmp_path: Path, *arguments: object) -> subprocess.Popen[str]:
    """A run that takes long, once its first measurement is on disk."""
    command = [
        sys.executable, "-m", "copycost", "run", "--recipe", "tf", "--device", "cpu", "--variant", "numpy-[!bt]*",
        "--size", "32x24", "--dtype", "float32", "--out", "here", *map(str, arguments),
        *[word for batch in range(1, 13) for word in ("--batch", str(batch))],
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    measurements = tmp_path / "here" / "measurements.jsonl"
    until = time.monotonic() + 60
    while not (measurements.exists() and measurements.read_text().count("\n") >= 5):
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process


def test_a_killed_run_is_readable_and_resumes(command: Command, tmp_path: Path) -> None:
    process = begin(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    measurements = tmp_path / "here" / "measurements.jsonl"
    before = [m.to_dict() for m in load.load(tmp_path / "here")[1]]
    assert 5 <= len(before) < 60
    assert command("report", "here", "--html", "page").returncode == 0
    # As if it had been killed while it wrote.
    with open(measurements, "a") as file:
        file.write('{"recipe": "tf", "vari')
    assert command("report", "here", "--html", "page").returncode == 0

    wrong = command("run", "--resume", "--out", "here", "--batch", 7)
    assert wrong.returncode == 2
    assert "was started with batch" in wrong.stderr
    assert command("run", "--resume", "--out", "here", "--threads", 1).returncode == 2
    assert "with --with nothing" in command("run", "--resume", "--out", "here", "--with", BAD).stderr
    done = command("run", "--resume", "--out", "here", "--json", "all.json")
    assert done.returncode == 0, done.stderr
    after = read_json((tmp_path / "all.json").read_text())["measurements"]
    assert len(after) == 60
    assert after[: len(before)] == before  # nothing that was measured is measured again
    assert len({(m["variant"], m["batch"]) for m in after}) == 60


@pytest.mark.parametrize("after", [0.1, 0.5, 1.5, 3.0])
def test_ctrl_c_before_anything_is_measured(tmp_path: Path, after: float) -> None:
    command = [
        sys.executable,
        "-m",
        "copycost",
        "run",
        *map(str, SMALL),
        "--batch",
        "64",
        "--budget",
        "60",
        "--out",
        "here",
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    # Until Python has come to our own code, which it may not have on a busy machine, the signal is Python's to answer.
    # Python then ends by the signal, which a shell reports as 130 too.
    assert process.returncode in (130, -signal.SIGINT, *((1,) if after < 1 else ())), err
    if after > 0.3:  # before, Python itself may be starting
        assert "Traceback" not in err


def test_json_goes_into_what_is_there(command: Command, tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to("target.json")
    assert command("run", *SMALL, "--variant", "numpy-out", "--json", "link.json").returncode == 0
    assert (tmp_path / "link.json").is_symlink()
    assert read_json((tmp_path / "target.json").read_text())["schema"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_everything_finished_on_disk(command: Command, tmp_path: Path, number: int) -> None:
    process = begin(tmp_path, "--json", "run.json")
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "To continue: copycost run --resume --out here" in " ".join(out.split())
    document = read_json((tmp_path / "run.json").read_text())
    schema().validate(document)
    assert len(document["measurements"]) >= 5
    assert command("report", "here", "--html", "page").returncode == 0


def test_a_second_run_into_a_folder_is_refused(command: Command, tmp_path: Path) -> None:
    process = begin(tmp_path)
    try:
        for arguments in (["--out", "here"], ["--out", "here", "--resume"]):
            second = command("run", *SMALL, *arguments)
            assert second.returncode == 2
            assert "another process is writing to here" in second.stderr
    finally:
        process.kill()
        process.communicate()
    finished = command("run", *SMALL, "--out", "here")
    assert finished.returncode == 2
    assert "here holds a run" in finished.stderr
