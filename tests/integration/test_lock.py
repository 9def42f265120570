"""`copycost lock`: a higher figure of a function fails, a lower one is written."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from conftest import Command

from copycost.gate import lock
from copycost.gate.counted import Counted
from copycost.gate.lock import Entry

SCALE = "import numpy as np\n\n\ndef scale(x):\n    y = x / np.float32(127.5)\n    y -= 1\n    return y\n"

#: Changes of `scale`, and what is then more.
CHANGES = {
    "a copy": ("return y", "return y.copy()", "more  copies 1 → 2"),
    "an argument": ("    y = x", "    x[0] = 0\n    y = x", "more  changes nothing → x"),
    "a dtype": ("np.float32(127.5)", "np.float64(127.5)", "more  bytes 576 KiB → 1.19 MiB"),
    "a temporary": ("y -= 1", "y = y - 1", "more  allocations 1 → 2"),
}

SHAPE = ("--input", "4x96x128x3:float32")


@pytest.fixture
def locked(command: Command, tmp_path: Path) -> Path:
    """A file with a function, and its lock."""
    (tmp_path / "scale.py").write_text(SCALE)
    done = command("lock", "scale.py::scale", *SHAPE)
    assert done.returncode == 0, done.stderr
    assert "1 allocation, 1 copy, 576 KiB, changes nothing" in done.stdout
    return tmp_path / "copycost.lock"


def test_the_lock_is_toml_that_a_reviewer_reads(locked: Path) -> None:
    table = tomllib.loads(locked.read_text())["scale.py::scale"]
    nbytes = 4 * 96 * 128 * 3 * 4
    assert table == {
        "input": ["4x96x128x3:float32"], "allocations": 1, "copies": 1, "bytes": nbytes, "peak": nbytes, "changes": []
    }  # fmt: skip
    assert locked.read_text().startswith("# What each function requests")


def test_what_has_not_changed_is_as_locked(command: Command, locked: Path) -> None:
    text = locked.read_text()
    done = command("lock")
    assert (done.returncode, done.stdout) == (0, "1 function: as locked\n")
    assert locked.read_text() == text


@pytest.mark.parametrize("name", CHANGES)
def test_more_fails_with_the_line_that_requests_it(command: Command, locked: Path, name: str) -> None:
    old, new, says = CHANGES[name]
    path = locked.with_name("scale.py")
    path.write_text(path.read_text().replace(old, new, 1))
    done = command("lock", "--json", "it.json")
    assert done.returncode == 1
    assert says in done.stdout
    assert "1 function: 1 more" in done.stdout
    (found,) = json.loads(locked.with_name("it.json").read_text())["functions"]
    assert any(difference["is_more"] for difference in found["differences"])
    if name != "an argument":
        assert "(scale.py:" in done.stdout


def test_less_passes_and_is_written_by_update(command: Command, locked: Path) -> None:
    path = locked.with_name("scale.py")
    path.write_text("def scale(x):\n    x /= 127.5\n    x -= 1\n    return x\n")
    done = command("lock")
    assert done.returncode == 1  # fewer requests, but it changes its argument
    path.write_text("def scale(x):\n    return x[:2] * 2\n")
    done = command("lock")
    assert done.returncode == 0, done.stdout
    assert "less  bytes 576 KiB → 288 KiB" in done.stdout
    assert "1 less: copycost lock --update writes it" in done.stdout
    assert command("lock", "--update").returncode == 0
    assert tomllib.loads(locked.read_text())["scale.py::scale"]["bytes"] == 2 * 96 * 128 * 3 * 4
    assert command("lock").stdout == "1 function: as locked\n"


def test_a_second_function_leaves_the_first_one_as_it_is(command: Command, locked: Path) -> None:
    locked.with_name("other.py").write_text(
        "def f(x, n):\n    return x * n\n\n\ndef make(random):\n    return random.normal(size=5000), 3\n"
    )
    assert command("lock", "other.py::f", "--inputs", "other.py::make").returncode == 0
    tables = tomllib.loads(locked.read_text())
    assert list(tables) == ["other.py::f", "scale.py::scale"]
    assert tables["other.py::f"]["inputs"] == "other.py::make"
    assert tables["other.py::f"]["bytes"] == 40_000
    assert command("lock").stdout == "2 functions: as locked\n"


def test_a_function_that_is_gone_fails(command: Command, locked: Path) -> None:
    locked.with_name("scale.py").write_text("def scaled(x):\n    return x\n")
    done = command("lock")
    assert done.returncode == 1
    assert "scale has no scale: expected one of scaled" in done.stdout


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "is not a lock"), ("x = 1\n", "x is no table"), ('["f.py::f"]\nbytess = 1\n', "has no key 'bytess'"),
        ('["f.py::f"]\nbytes = "1"\n', "values of other types"), ('["f.py::f"]\nbytes = -1\n', "values of other types"),
        ('["f.py::f"]\nchanges = [1]\n', "values of other types"),
    ],
)  # fmt: skip
def test_a_damaged_lock_is_one_line(command: Command, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "copycost.lock").write_text(text)
    done = command("lock")
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "no file copycost.lock: copycost lock FUNCTION creates it"),
        (("absent.py::f",), "no file absent.py"),
        (("f",), "'f' is no function: expected file.py::function or module:function"),
        (("--input", "8:float32"), "are for new functions: name one"),
        (("numpy:clip", "--input", "8:float31"), "'8:float31' is not an input"),
        (("numpy:no_such",), "numpy:no_such: numpy has no no_such"),
        (("os.path:join", "--input", "8:uint8"), "os.path:join: os.path:join raised TypeError"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_writes_nothing(
    command: Command, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    done = command("lock", *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert not (tmp_path / "copycost.lock").exists()


def test_names_of_functions_are_quoted() -> None:
    entries = [Entry(Counted('a"b\\c/µ.py::f', ("8:uint8",)), {"allocations": 0}, ('x["k"]',))]
    table = tomllib.loads(lock.text(entries))
    assert table == {'a"b\\c/µ.py::f': {"input": ["8:uint8"], "allocations": 0, "changes": ['x["k"]']}}


def test_a_lock_in_another_folder_names_files_from_there(command: Command, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "scale.py").write_text(SCALE)
    (tmp_path / "locks").mkdir()
    words = ("--file", "locks/it.lock")
    assert command("lock", "src/scale.py:scale", *SHAPE, *words).returncode == 0
    assert list(tomllib.loads((tmp_path / "locks" / "it.lock").read_text())) == ["../src/scale.py::scale"]
    assert command("lock", *words).stdout == "1 function: as locked\n"
