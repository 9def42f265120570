"""The meter alone: it counts to the byte, needs nothing of copycost, and costs little to import."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from copycost_meter import count, host_allocations
from copycost_meter.asv import also

SUITE = Path(__file__).parents[2] / "suite"

#: Elements and bytes of the arrays below.
K, N = 50_000, 200_000

#: Bytes of the buffer in which NumPy casts an operand, 8,192 elements at a time.
BUFFER = 65_536


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape or (K,), np.float32)


def in_place(x: np.ndarray) -> np.ndarray:
    x *= 2
    return x


def two_temporaries(x: np.ndarray) -> np.ndarray:
    first = x * 2
    second = x + 1
    return first + second


def kept(x: np.ndarray, store: list[np.ndarray] = []) -> None:  # noqa: B006  # the leak is meant
    store.append(x.copy())


def one_after_the_other(x: np.ndarray) -> float:
    return float(sum((x * factor)[0] for factor in range(3)))


def rows_of(x: np.ndarray, n: int) -> list[np.ndarray]:
    return [row.copy() for row in x[:n]]


#: A call, its arguments, and the known number, bytes and peak of its requests, and the copies as large as the largest
#: array. What NumPy requests is the bytes of an array: there is no header in the same request.
ORACLES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], tuple[int, int, int, int]]] = {
    "a sum is a new array": (np.add, (floats(), 1), (1, N, N, 1)),
    "a sum into out is none": (lambda x, out: np.add(x, 1, out=out), (floats(), floats()), (0, 0, 0, 0)),
    "in place is none": (in_place, (floats(),), (0, 0, 0, 0)),
    "a copy": (np.copy, (floats(),), (1, N, N, 1)),
    "a view is none": (lambda x: x[::2], (floats(),), (0, 0, 0, 0)),
    "a copy of half": (lambda x: x[::2].copy(), (floats(),), (1, N // 2, N // 2, 0)),
    "reversed is a view": (lambda x: x[::-1], (floats(),), (0, 0, 0, 0)),
    "reversed and made contiguous": (lambda x: np.ascontiguousarray(x[::-1]), (floats(),), (1, N, N, 1)),
    "contiguous already": (np.ascontiguousarray, (floats(),), (0, 0, 0, 0)),
    "an index of integers copies": (lambda x: x[np.arange(10)], (floats(),), (0, 0, 0, 0)),
    "a transpose is a view": (np.transpose, (floats(100, 500),), (0, 0, 0, 0)),
    "a transpose made contiguous": (lambda x: x.T.copy(), (floats(100, 500),), (1, N, N, 1)),
    "reshape of a transpose copies": (lambda x: x.T.reshape(-1), (floats(100, 500),), (1, N, N, 1)),
    "ravel of contiguous is a view": (np.ravel, (floats(100, 500),), (0, 0, 0, 0)),
    "flatten always copies": (lambda x: x.flatten(), (floats(100, 500),), (1, N, N, 1)),
    "astype copies": (lambda x: x.astype(np.float32), (floats(),), (1, N, N, 1)),
    "astype without a copy": (lambda x: x.astype(np.float32, copy=False), (floats(),), (0, 0, 0, 0)),
    "astype to float64 is twice as large": (lambda x: x.astype(np.float64), (floats(),), (1, 2 * N, 2 * N, 1)),
    "astype to float16 is half": (lambda x: x.astype(np.float16), (floats(),), (1, N // 2, N // 2, 0)),
    "asarray is none": (np.asarray, (floats(),), (0, 0, 0, 0)),
    "array copies": (np.array, (floats(),), (1, N, N, 1)),
    "two operations on arrays too small for a reuse": (lambda x: x * 2 + 1, (floats(),), (2, 2 * N, 2 * N, 2)),
    "two temporaries and a result": (two_temporaries, (floats(),), (3, 3 * N, 3 * N, 3)),
    "three temporaries, one after the other": (one_after_the_other, (floats(),), (3, 3 * N, N, 3)),
    "float64 constants of an array promote": (
        lambda x: x * np.ones(1), (floats(),), (2, 2 * N + BUFFER, 2 * N + BUFFER, 1)
    ),
    "float32 constants of an array do not": (lambda x: x * np.ones(1, np.float32), (floats(),), (1, N, N, 1)),
    "a comparison is a byte an element": (lambda x: x > 0.5, (floats(),), (1, K, K, 0)),
    "zeros": (lambda: np.zeros(K, np.float32), (), (1, N, N, 0)),
    "empty": (lambda: np.empty(K, np.float32), (), (1, N, N, 0)),
    "stacking two": (np.stack, ([floats(), floats()],), (1, 2 * N, 2 * N, 1)),
    "concatenating two": (np.concatenate, ([floats(), floats()],), (1, 2 * N, 2 * N, 1)),
    "repeat": (partial(np.repeat, repeats=3), (floats(),), (1, 3 * N, 3 * N, 1)),
    "broadcast is a view": (lambda x: np.broadcast_to(x, (3, K)), (floats(),), (0, 0, 0, 0)),
    "broadcast and copied": (lambda x: np.broadcast_to(x, (3, K)).copy(), (floats(),), (1, 3 * N, 3 * N, 1)),
    "where": (lambda x: np.where(x > 0.5, x, x), (floats(),), (2, N + K, N + K, 1)),
    "clip": (lambda x: np.clip(x, 0, 1), (floats(),), (1, N, N, 1)),
    "clip into out": (lambda x: np.clip(x, 0, 1, out=x), (floats(),), (0, 0, 0, 0)),
    "padding": (lambda x: np.pad(x, ((0, 0), (1, 1))), (floats(100, 500),), (1, 502 * 400, 502 * 400, 1)),
    "a request below the threshold is none": (lambda x: x[:1000].copy(), (floats(),), (0, 0, 0, 0)),
    "a request at the threshold": (lambda x: x[:1024].copy(), (floats(),), (1, 4096, 4096, 0)),
    "ten rows": (partial(rows_of, n=10), (floats(50, 1024),), (10, 40960, 40960, 0)),
    "a bytes object has a header": (lambda: bytes(N), (), (1, N + 33, N + 33, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", ORACLES)
def test_a_known_request_is_counted_to_the_byte(name: str) -> None:
    call, arguments, known = ORACLES[name]
    c = count(call, *arguments)
    assert (c.allocations, c.allocated_bytes, c.peak_bytes, c.copies or 0) == known, c
    assert not c.varies
    assert c.kept_bytes == 0


def test_a_request_of_the_size_of_a_later_mark_is_no_mark() -> None:
    recording = host_allocations.Recording()
    for k in range(20):
        recording.call(lambda: bytes(host_allocations._MARK + 30) if k == 2 else bytes(N + k))  # noqa: B023
    sizes = [[event.bytes for event in events if event.bytes > N] for events, _ in recording.end()]
    assert sizes == [[host_allocations._MARK + 63 if k == 2 else N + k + 33] for k in range(20)]


def test_what_stays_after_the_result_is_kept() -> None:
    c = count(kept, floats())
    assert (c.allocations, c.allocated_bytes, c.kept_bytes) == (1, N, N)


def test_counts_are_those_of_a_row_of_copycost() -> None:
    """By the engine, which makes its own calls in a process of its own."""
    import copycost

    cases = copycost.select(recipes=["tf"], variants=["numpy-new", "numpy-out"], batches=[1], dtypes=["float32"])
    rows = copycost.run(cases, blocks=0)
    nbytes = 224 * 224 * 3 * 4
    known = {row.variant: row.allocated_bytes for row in rows.itertuples()}
    image = floats(1, 224, 224, 3)
    new = count(lambda x: x / np.float32(127.5) - np.float32(1), image)
    assert new.allocated_bytes is not None
    assert new.allocated_bytes in (nbytes, 2 * nbytes)  # whether NumPy elides depends on its build
    assert known["numpy-out"] == 0
    assert known["numpy-new"] in (nbytes, 2 * nbytes)


@pytest.mark.slow
def test_a_thousand_counts_are_the_same() -> None:
    script = (
        "import numpy as np\n"
        "from copycost_meter.count_allocations import Calls, count_each\n"
        "from copycost_meter.libraries.numpy import LIBRARY\n"
        "x = np.ones(50_000, np.float32)\n"
        "calls = [Calls(lambda i: lambda: x * 2) for _ in range(250)]\n"
        "counts = count_each(calls, LIBRARY.instruments('cpu'), windows=4)\n"
        "found = [summary.allocated_bytes for c in counts for summary in c.host()]\n"
        "print(len(found), set(found))\n"
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script], env=alone(), capture_output=True, text=True, timeout=300)
    assert done.stdout == f"1000 {{{N}}}\n", done.stderr


def alone(*folders: Path) -> dict[str, str]:
    """An environment in which copycost's packages come from folders, or from `suite/`."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders or (SUITE,)))}


def test_the_meter_works_where_copycost_is_not(tmp_path: Path) -> None:
    shutil.copytree(SUITE / "copycost_meter", tmp_path / "copycost_meter")
    script = (
        "import sys\n"
        "sys.modules['copycost'] = None\n"  # to import it raises ImportError
        "import numpy as np\n"
        "import copycost_meter\n"
        "assert copycost_meter.__file__.startswith(sys.argv[1])\n"
        "c = copycost_meter.count(np.copy, np.ones(50_000, np.float32))\n"
        "print(c.allocated_bytes, 'pandas' in sys.modules, 'matplotlib' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env=alone(tmp_path), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout == f"{N} False False\n", done.stderr


def test_a_call_without_arrays_needs_no_numpy() -> None:
    script = (
        "import sys\n"
        "sys.modules['numpy'] = None\n"
        "from copycost_meter import count\n"
        f"c = count(lambda: bytearray({N}))\n"
        "print(c.allocated_bytes, c.missing)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=alone(), capture_output=True, text=True, timeout=120)
    assert done.stdout == f"{N + 1} None\n", done.stderr


def test_without_memray_a_count_is_missing_and_a_changed_array_is_found() -> None:
    script = (
        "import sys\n"
        "sys.modules['memray'] = None\n"
        "import numpy as np\n"
        "from copycost_meter import count\n"
        "c = count(lambda x: np.add(x, 1, x), np.ones(50_000))\n"
        "print(c.allocations, c.missing, c.changed)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=alone(), capture_output=True, text=True, timeout=120)
    assert done.stdout == "None memray is not installed ('x',)\n", done.stderr


def test_importing_the_meter_imports_nothing_of_weight() -> None:
    """asv and pytest import it in every process: it uses only modules that they have imported."""
    script = (
        "import asv_runner.run, importlib, re, sys\n"
        "before = set(sys.modules)\n"
        "import copycost_meter, copycost_meter.asv, copycost_meter._version\n"
        "print(sorted(name for name in set(sys.modules) - before if not name.startswith('copycost_meter')))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=alone(), capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n", done.stdout + done.stderr


@pytest.mark.parametrize("version", ["3.9", "3.13"])
def test_the_meter_can_be_imported_by_other_pythons(version: str) -> None:
    python = shutil.which(f"python{version}")
    done = python and subprocess.run(
        [python, "-c", "import copycost_meter.counting, copycost_meter.device, copycost_meter.asv, copycost_meter"],
        env=alone(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    if not done or "command not found" in done.stderr:
        pytest.skip(f"there is no Python {version}")
    assert done.returncode == 0, done.stderr


class Timed:
    def time_scale(self, n: int) -> int:
        return n

    def allocbytes_own(self) -> None: ...

    def time_own(self) -> None: ...


def test_also_adds_siblings_and_keeps_what_is_there() -> None:
    own = Timed.allocbytes_own
    Timed.time_scale.params = [1, 2]  # type: ignore[attr-defined]
    also("allocbytes", "changed")(Timed)
    sibling = vars(Timed)["allocbytes_scale"]
    assert (sibling.__name__, sibling.__qualname__) == ("allocbytes_scale", "Timed.allocbytes_scale")
    assert sibling.__code__ is Timed.time_scale.__code__
    assert sibling.params == [1, 2]
    assert Timed.allocbytes_own is own
    assert {"changed_scale", "changed_own"} <= vars(Timed).keys()


def test_also_says_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match=r"^also\('allocs'\): expected some of alloc, allocbytes, "):
        also("allocs")
    with pytest.raises(ValueError, match=r"^also: Nothing has no benchmark whose name begins with time_$"):
        also("alloc")(type("Nothing", (), {}))


def test_also_in_a_package_reaches_every_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "benchmarks_of_others"
    (folder / "deeper").mkdir(parents=True)
    for name in ("__init__.py", "deeper/__init__.py"):
        (folder / name).write_text("")
    (folder / "a_counts.py").write_text(
        'from copycost_meter import also_in\n\nalso_in(__package__, "alloc", "changed")\n'
    )
    (folder / "deeper" / "sizes.py").write_text(
        "class Sizes:\n    def time_one(self): ...\n    def track_two(self): ...\n"
    )
    (folder / "loose.py").write_text("from .deeper.sizes import Sizes\n\n\ndef time_loose(): ...\n")
    (folder / "broken.py").write_text("import not_there_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("benchmarks_of_others.a_counts")
    loose = importlib.import_module("benchmarks_of_others.loose")
    assert {name for name in vars(loose.Sizes) if not name.startswith("_")} == {
        "time_one", "track_two", "alloc_one", "changed_one",
    }  # fmt: skip
    assert {name for name in vars(loose) if "loose" in name and not name.startswith("_")} == {
        "time_loose", "alloc_loose", "changed_loose",
    }  # fmt: skip
    assert "also_in: benchmarks_of_others.broken: ModuleNotFoundError" in capsys.readouterr().err


def test_a_count_is_read_by_a_program() -> None:
    """Every figure is a number, a text or None."""
    c = count(np.copy, floats())
    assert json.loads(json.dumps(vars(c)))["allocated_bytes"] == N
