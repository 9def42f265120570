"""`copycost judge`: one verdict on two functions, by results, arguments, memory and time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Command

from copycost.gate import verdict
from copycost.gate.verdict import EXIT, Word

BEFORE = """
import numpy as np

def scale(x):
    return x / 127.5 - 1.0

def over_input(x):
    x /= 127.5
    x -= 1

def to_bytes(x):
    return (255 * (x / 255) ** 0.5).astype(np.uint8)

def crop(x, size, names):
    return x[:size].copy(), len(names)

def slow(x):
    for _ in range(20):
        y = x / 127.5 - 1.0
    return y

def not_finite(x):
    return np.log(x - x)

def random(x):
    return np.random.default_rng().normal(size=x.shape)

def raises(x):
    raise ValueError("no such image")
"""

AFTER = """
import numpy as np

from copycost import variant

@variant(recipe="tf", runtime="numpy", writes="new")
def mine(example):
    return lambda x: x / 127.5 - 1

scaled = {}

def once(x):
    y = x / np.float32(127.5)
    y -= 1
    return y

def wrong(x):
    return x / 127.4 - 1

def other_dtype(x):
    return x.astype(np.float64) / 127.5 - 1

def remembered(x):
    key = x.tobytes()
    if key not in scaled:
        for _ in range(60):
            scaled[key] = once(x)
    return scaled[key].copy()

def by_sum(x):
    key = float(x.sum(dtype=np.float64))
    if key not in scaled:
        scaled[key] = once(x)
    return scaled[key].copy()

def changes(x):
    x /= 127.5
    x -= 1
    return x

def over_input(x):
    np.subtract(np.divide(x, 127.5, out=x), 1, out=x)

def by_table(x):
    return (255 * (np.arange(256) / 255) ** 0.5).astype(np.uint8)[x]

def off_by_one(x):
    return by_table(x) + (x == 100)

def crop(x, size, names):
    return np.array(x[:size]), len(names)

def raises(x):
    raise ValueError("later")

def dies(x):
    import os
    os._exit(3)
"""

INPUTS = """
def make(random):
    return random.uniform(0, 1, (200, 300)), 50, ["a", "b"]

def not_constant(random):
    return random.uniform(0, 1, (200, 300)), random.integers(1000), []

def nothing(random):
    return 3

def raises(random):
    raise OSError("no file")
"""

FLOATS = ("--input", "4x96x128x3:float32")
BYTES = ("--input", "4x96x128x3:uint8")
MADE = ("--inputs", "inputs.py::make")


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    for name, text in (("before", BEFORE), ("after", AFTER), ("inputs", INPUTS)):
        (tmp_path / f"{name}.py").write_text(text)


@pytest.mark.parametrize(
    ("base", "head", "options", "says"),
    [
        ("scale", "once", FLOATS, "better: not timed, equal up to rounding, requests 1.12 MiB → 576 KiB"),
        ("scale", "wrong", FLOATS, "wrong: off by up to"),
        ("scale", "other_dtype", FLOATS, "wrong: returned float64, not float32"),
        ("scale", "remembered", FLOATS, "it remembers results"),
        ("scale", "by_sum", FLOATS, "wrong: returned the result of another input: off by up to"),
        ("scale", "changes", FLOATS, "worse: changes its arguments, returns memory of its arguments, not timed"),
        ("over_input", "over_input", FLOATS, "same: not timed, equal up to rounding, requests as much (0 B)"),
        ("to_bytes", "by_table", BYTES, "better: not timed, equal, requests"),
        ("to_bytes", "off_by_one", BYTES, "wrong: off by up to 1, where 0 is allowed"),
        ("to_bytes", "off_by_one", (*BYTES, "--error", "1"), "same: not timed, equal up to rounding"),
        ("crop", "crop", MADE, "same: not timed, equal, requests as much (117 KiB)"),
        ("scale", "raises", FLOATS, "wrong: raised ValueError: later"),
        ("scale", "dies", FLOATS, "wrong: its process ended with status 3"),
    ],
)  # fmt: skip
def test_results_arguments_and_memory_need_no_clock(
    command: Command, base: str, head: str, options: tuple[str, ...], says: str
) -> None:
    done = command("judge", f"before.py::{base}", f"after.py::{head}", *options, "--exact")
    assert says in done.stdout, done.stderr
    word = Word(done.stdout.partition(":")[0])
    assert done.returncode == EXIT[word]


@pytest.mark.parametrize(
    ("base", "head", "options", "says"),
    [
        ("not_finite", "once", FLOATS, "before.py::not_finite cannot be the reference: failed: the reference: "),
        ("random", "once", FLOATS, "raised ValueError: gives other results for the same input"),
        ("raises", "once", FLOATS, "before.py::raises: raised ValueError: no such image"),
        ("absent", "once", FLOATS, "before.py::absent: before has no absent: expected one of scale, over_input"),
        ("scale", "absent", FLOATS, "after.py::absent: after has no absent"),
        ("crop", "crop", ("--inputs", "inputs.py::not_constant"), "only arrays may change from call to call"),
        ("crop", "crop", ("--inputs", "inputs.py::nothing"), "returns no NumPy array"),
        ("crop", "crop", ("--inputs", "inputs.py::raises"), "the function that makes the inputs raised OSError"),
        ("scale", "once", (*FLOATS, *MADE), "--input and --inputs cannot both be given"),
        ("scale", "once", (*FLOATS, "--device", "gpu"), "numpy is not measured on gpu"),
    ],
)  # fmt: skip
def test_a_base_that_is_no_reference_is_a_usage_error(
    command: Command, base: str, head: str, options: tuple[str, ...], says: str
) -> None:
    done = command("judge", f"before.py::{base}", f"after.py::{head}", *options, "--exact")
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_time_decides(command: Command, tmp_path: Path) -> None:
    """Twenty times the work is no matter of a machine's speed."""
    done = command(
        "judge", "before.py::slow", "after.py::once", *FLOATS, "--budget", "60", "--json", tmp_path / "it.json"
    )
    document = json.loads((tmp_path / "it.json").read_text())
    assert done.returncode == 0, done.stdout + done.stderr
    assert (document["verdict"], document["exit_status"]) == ("better", 0)
    assert document["ratio"]["sure_high"] < 0.5
    assert document["head"]["samples"]
    assert "× faster (" in done.stdout
    done = command("judge", "after.py::once", "before.py::slow", *FLOATS, "--budget", "60")
    assert done.returncode == 1
    assert done.stdout.startswith("worse: ")
    assert "× slower (" in done.stdout


def test_files_with_one_name_are_two_modules(command: Command, tmp_path: Path) -> None:
    for side, factor in (("old", 2), ("new", 3)):
        package = tmp_path / side / "pkg"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "constants.py").write_text(f"FACTOR = {factor}\n")
        (package / "scale.py").write_text("from .constants import FACTOR\n\ndef scale(x):\n    return x * FACTOR\n")
    same = command("judge", "old/pkg/scale.py::scale", "old/pkg/scale.py:scale", *FLOATS, "--exact")
    assert same.stdout.startswith("same"), same.stderr
    other = command("judge", "old/pkg/scale.py::scale", "new/pkg/scale.py::scale", *FLOATS, "--exact")
    assert other.stdout.startswith("wrong: off by up to"), other.stderr


def test_a_module_of_an_installed_package(command: Command) -> None:
    done = command("judge", "numpy:sort", "before.py::scale", *FLOATS, "--exact")
    assert done.stdout.startswith("wrong"), done.stderr
    done = command("judge", "numpy:clip", "numpy:clip", "--inputs", "inputs.py::clipped", "--exact")
    assert "inputs has no clipped" in done.stderr


def test_arrays_of_another_library(command: Command, tmp_path: Path) -> None:
    (tmp_path / "layers.py").write_text(
        "import tensorflow as tf\n\n\ndef eager(x):\n    return x / 127.5 - 1\n\n\n"
        "@tf.function\ndef graph(x):\n    return x / 127.5 - 1\n"
    )
    options = ("--library", "tensorflow", *FLOATS, "--exact")
    done = command("judge", "layers.py::eager", "layers.py::graph", *options)
    assert done.stdout.startswith("better: not timed"), done.stderr
    assert done.returncode == 0


def test_an_unsure_verdict_says_what_would_decide_it() -> None:
    from copycost.analysis.compare import Comparison, Row
    from copycost.gate.judge import Judged
    from copycost.model.measurement import Measurement
    from copycost.model.vocabulary import Verdict
    from copycost.stats.ratios import Difference

    blocks = [[1.0]] * 9
    m = Measurement("r", "v", "numpy", "new", "cpu", "float32", "channels_last", 1, 8, 8, 3, 2, "ok", samples=blocks)
    ratio = Difference(0.01, 0.02, 8, 9, 0.06).ratio(0.01)
    rows = [Row(m, "", "seconds", 1.0, 1.01, Verdict.UNSURE, ratio), Row(m, "", "allocated_bytes", 0, 0, Verdict.SAME)]
    judgement = verdict.conclude(Judged(m, m, Comparison(rows, (), (), None, True, 0.01, 0.03), "budget", 20.0))
    assert judgement.word == Word.UNSURE
    assert judgement.exit_status == 3
    # The half-width of the interval must fall from 0.067 to ln 1.03 − 0.01.
    half = ratio.sure_high / ratio.sure_low
    assert judgement.needs_seconds is not None
    assert 20 < judgement.needs_seconds < 300
    assert half > 1
    assert "would decide it" in judgement.sentence


@pytest.mark.parametrize(
    ("returned", "word"),
    [("'std': b, 'mean': a", "same"), ("'std': a, 'average': a", "wrong"), ("'mean': a, 'std': b, 'n': 3", "wrong")],
)
def test_a_dict_is_compared_by_its_keys(command: Command, tmp_path: Path, returned: str, word: str) -> None:
    code = "def f(x):\n    a, b = x.mean(), x.std()\n    return {{{}}}\n"
    (tmp_path / "old.py").write_text(code.format("'mean': a, 'std': b"))
    (tmp_path / "new.py").write_text(code.format(returned))
    done = command("judge", "old.py::f", "new.py::f", "--input", "64x64:float32", "--exact")
    assert done.stdout.startswith(word), done.stdout + done.stderr


def test_a_base_that_is_not_deterministic_is_no_reference(command: Command, tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(
        "import numpy as np\n\n\ndef old(x):\n    return np.float32(x.mean() + np.random.uniform(0, 1))\n\n\n"
        "def new(x):\n    return np.float32(x.mean() + 0.5)\n"
    )
    done = command("judge", "f.py::old", "f.py::new", "--input", "64x64:float32", "--exact")
    assert done.returncode == 2
    assert "gives other results for the same input" in done.stderr


def test_a_file_with_the_name_of_another_module_is_the_file(command: Command, tmp_path: Path) -> None:
    for name in ("tabnanny", "symtable", "numpy"):
        (tmp_path / "own").mkdir(exist_ok=True)
        (tmp_path / "own" / f"{name}.py").write_text("def check(x):\n    return x * 2\n")
        done = command("judge", f"own/{name}.py::check", f"own/{name}.py::check", *FLOATS, "--exact")
        assert done.stdout.startswith("same"), done.stdout + done.stderr


def interrupted(folder: Path, *words: str, begun: Callable[[], bool]) -> tuple[subprocess.CompletedProcess[str], float]:
    """Judge, interrupt it once it has begun, and return what came of it and the seconds until it had ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "copycost", "judge", *words],
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not begun():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    return subprocess.CompletedProcess(words, process.returncode, out, err), time.monotonic() - start


def test_an_interrupt_ends_an_import(tmp_path: Path) -> None:
    """A function's module that waits for 100 s does not hold it up, and its process ends with it."""
    (tmp_path / "waits.py").write_text(
        "import os\nimport pathlib\nimport time\n\npathlib.Path('begun').write_text(str(os.getpid()))\n"
        "time.sleep(100)\n\n\ndef f(x):\n    return x\n"
    )
    done, seconds = interrupted(tmp_path, "waits.py::f", "waits.py::f", begun=(tmp_path / "begun").exists)
    assert done.returncode == 130
    assert done.stderr.endswith("Interrupted.\n")
    assert seconds < 50
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "begun").read_text()), 0)


def test_an_interrupted_verdict_has_the_exit_status_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(
        "import time\n\n\ndef f(x):\n    with open('calls', 'a') as file:\n        file.write('.')\n"
        "    time.sleep(0.02)\n    return x * 2\n"
    )
    calls = tmp_path / "calls"
    words = ("f.py::f", "f.py::f", "--input", "8x8:float32", "--budget", "300", "--tolerance", "0.0001")
    done, _ = interrupted(
        tmp_path, *words, "--json", "it.json", begun=lambda: calls.exists() and calls.stat().st_size > 200
    )
    assert done.returncode == 130
    document = json.loads((tmp_path / "it.json").read_text())
    assert (document["exit_status"], document["stopped_by"]) == (130, "interrupted")
