"""`pytest --copycost` and the marker, in a project that knows nothing of copycost but a marker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = """
import numpy as np
import pytest

N = 1_000_000


@pytest.fixture
def image():
    return np.zeros((250, 1000), np.float32)


def test_copies(image):
    assert (image + np.float32(1)).copy().sum() == 250_000


def lightened(image):
    image += 1
    return image


def test_changes(image):
    assert lightened(image).sum() == 250_000


@pytest.mark.parametrize("images", [[np.zeros((250, 1000), np.float32)]])
def test_writes(image, images):
    image += 1
    images[0][:100, 1] = 3
    assert image.sum() == 250_000


def test_releases(image):
    for _ in range(3):
        image + np.float32(1)


def test_needs_no_array():
    assert bytes(3 * N)[0] == 0


class TestMethod:
    @pytest.mark.parametrize("k", [1, 2])
    def test_in_a_class(self, image, k):
        assert np.sqrt(image * np.float32(k)).shape == image.shape


def test_fails(image):
    assert image.sum() == 1


def test_skips(image):
    pytest.skip("for a reason")
"""


def run(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_project.py").write_text(text)
    # pytest-benchmark does not time where pytest-xdist is at work, as it may be on this test.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, str(folder)],
        cwd=folder, capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip


def rows(output: str) -> dict[str, str]:
    """The line of each test in the summary."""
    lines = output.partition("copycost: requests of")[2].splitlines()
    return {line.split("::")[-1].partition(",")[0]: " ".join(line.split()) for line in lines if "::" in line}


@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_every_test_is_listed_without_a_line_changed(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = run(tmp_path, PROJECT, "--copycost", "-p", "no:randomly", *options)
    assert done.returncode == 1, done.stdout
    assert "1 failed, 7 passed, 1 skipped" in done.stdout
    found = rows(done.stdout)
    assert found["test_copies"].startswith("1.91 MiB 1.91 MiB 2 "), found
    assert found["test_changes"].endswith("test_changes, changes image")
    assert found["test_writes[images0]"].endswith("test_writes[images0]")  # nobody is surprised by its own lines
    assert found["test_releases"].startswith("2.86 MiB 977 KiB 3 "), found
    assert found["test_needs_no_array"].startswith("2.86 MiB 2.86 MiB – "), found
    assert found["test_in_a_class[2]"].startswith("1.91 MiB 1.91 MiB 2 ")
    assert not {"test_fails", "test_skips"} & found.keys()


def test_without_the_option_nothing_is_counted(tmp_path: Path) -> None:
    done = run(tmp_path, PROJECT)
    assert "1 failed, 7 passed, 1 skipped" in done.stdout
    assert "copycost:" not in done.stdout


MARKED = """
import numpy as np
import pytest


@pytest.fixture
def image():
    return np.zeros((250, 1000), np.float32)


@pytest.mark.copycost(max_bytes=1_100_000, max_copies=1, unchanged=True)
def test_within_all(image):
    image + np.float32(1)


@pytest.mark.copycost(max_bytes=900_000)
def test_bytes(image):
    image + np.float32(1)


@pytest.mark.copycost(max_copies=0)
def test_copies(image):
    image + np.float32(1)


@pytest.mark.copycost(unchanged=True)
def test_unchanged(image):
    image += 1


@pytest.mark.copycost(max_copies=0)
def test_no_array():
    pass


@pytest.mark.copycost(max_byte=1)
def test_unknown(image):
    pass


@pytest.mark.copycost
def test_nothing(image):
    pass
"""


def test_a_marker_fails_what_is_beyond_its_limits(tmp_path: Path) -> None:
    done = run(tmp_path, MARKED, "--strict-markers", "-rf")
    assert "6 failed, 1 passed" in done.stdout, done.stdout
    reasons = {
        line.split("::")[1].partition(" - ")[0]: line for line in done.stdout.splitlines() if " - Failed: " in line
    }
    for name, words in {
        "test_bytes": "it requests 1,000,000 bytes, more than 900,000",
        "test_copies": "copies of its largest array: 1, more than 0",
        "test_unchanged": "it changes image",
        "test_no_array": "need an array among the arguments",
        "test_unknown": "max_byte: expected max_bytes, max_copies or unchanged",
        "test_nothing": "is given nothing: expected",
    }.items():
        assert words in done.stdout, (name, reasons)
    assert "image + np.float32(1)  (test_project.py:" in done.stdout  # where it was requested


BENCHMARKS = """
import numpy as np
import pytest

x = np.zeros((250, 1000), np.float32)


def test_a_call(benchmark):
    assert benchmark(np.add, x, np.float32(1)).sum() == 250_000


def test_pedantic(benchmark):
    def changes(y):
        y += 1

    benchmark.pedantic(changes, setup=lambda: ((x.copy(),), {}), rounds=3)


@pytest.mark.copycost(max_copies=0)
def test_limited(benchmark):
    benchmark(np.add, x, np.float32(1))
"""


def test_benchmarks_are_counted_besides_their_time(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark")
    done = run(tmp_path, BENCHMARKS, "--copycost", "--benchmark-max-time=0.1", "--benchmark-min-rounds=2")
    assert "1 failed, 2 passed" in done.stdout, done.stdout
    found = rows(done.stdout)
    assert found["test_a_call"].startswith("977 KiB 977 KiB 1 "), found
    assert found["test_pedantic"].endswith("changes y")
    assert "copies of its largest array: 1, more than 0" in done.stdout
    assert "Name (time in" in done.stdout
    # As they are without copycost.
    assert "3 passed" in run(tmp_path, BENCHMARKS.replace("@pytest.mark.copycost(max_copies=0)", ""), "-q").stdout


def test_a_test_with_the_fixture_has_the_instruments_to_itself(tmp_path: Path) -> None:
    text = """
import numpy as np


def test_fixture(copycost):
    assert copycost(lambda x: x + 1, np.ones(10_000, np.float32)).allocations == 1
"""
    done = run(tmp_path, text, "--copycost")
    assert "1 passed" in done.stdout, done.stdout


def test_what_cannot_be_counted_fails_no_test_that_passes(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark")
    text = """
import memray
import numpy as np
import pytest

calls = []


def once(x):
    calls.append(1)
    if len(calls) > 1:
        raise RuntimeError("called twice")
    return x


def test_once(benchmark):
    benchmark.pedantic(once, args=(np.ones(3),), rounds=1)


@pytest.fixture
def busy(tmp_path):
    with memray.Tracker(tmp_path / "trace"):
        yield


def test_busy(busy):
    pass


@pytest.mark.copycost(max_bytes=1)
def test_limited(busy):
    pass
"""
    done = run(tmp_path, text, "--copycost")
    assert "1 failed, 2 passed" in done.stdout, done.stdout
    found = rows(done.stdout)
    assert (
        "counting raised RuntimeError: called twice" in found["test_once (counting raised RuntimeError: called twice)"]
    )
    assert any("test_busy (memray: " in line for line in found.values())
    assert "its limits cannot be checked: memray: " in done.stdout


def test_a_fixture_of_ones_own_named_benchmark_stays_what_it_is(tmp_path: Path) -> None:
    text = """
import pytest


@pytest.fixture
def benchmark():
    return "mine"


def test_it(benchmark):
    assert benchmark.upper() == "MINE"
"""
    assert "1 passed" in run(tmp_path, text, "--copycost", "-p", "no:benchmark").stdout


def test_a_marker_that_cannot_be_checked_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark")
    text = """
import unittest
import pytest

limited = pytest.mark.copycost(max_bytes=1)


class TestOld(unittest.TestCase):
    @limited
    def test_method(self):
        pass


@limited
def test_with_the_fixture(copycost):
    pass


@limited
async def test_coroutine():
    pass


@limited
def test_without_a_call(benchmark):
    pass
"""
    done = run(tmp_path, text)
    assert " passed" not in done.stdout.splitlines()[-1], done.stdout
    for words in ("no test function of pytest", "uses the fixture copycost", "a coroutine", "no call of its benchmark"):
        assert words in done.stdout


def test_a_benchmark_is_set_up_as_without_the_option(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark")
    text = """
import numpy as np

waiting = []


def test_in_turns(benchmark):
    benchmark.group = "mine"

    def setup():
        assert not waiting
        waiting.append(np.ones(2_000, np.float32))
        return (waiting[-1],), {}

    def target(x):
        waiting.pop().__iadd__(1)

    benchmark.pedantic(target, setup=setup, rounds=3)
    assert benchmark.group == "mine"
    assert not waiting
"""
    done = run(tmp_path, text, "--copycost")
    assert "1 passed" in done.stdout, done.stdout
    assert "benchmark 'mine'" in done.stdout
    assert rows(done.stdout)["test_in_turns"].endswith("changes x")


def test_garbage_is_collected_and_odd_values_do_no_harm(tmp_path: Path) -> None:
    text = """
import gc
import numpy as np
import pytest


@pytest.fixture
def odd():
    loop = {"x": np.ones(2_000)}
    loop["self"] = loop
    return loop


def lightened(image):
    image += 1


def test_gc(odd):
    assert gc.isenabled()
    lightened(odd["x"])
"""
    done = run(tmp_path, text, "--copycost")
    assert "1 passed" in done.stdout, done.stdout
    assert rows(done.stdout)["test_gc"].endswith("changes odd['x']")


def test_one_tracker_serves_many_tests_and_none_is_on_beside_a_timed_one(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark")
    (tmp_path / "conftest.py").write_text("""
from copycost_meter import host_allocations

begun = []


class Counted(host_allocations.Recording):
    def __init__(self):
        begun.append(1)
        super().__init__()


host_allocations.Recording = Counted


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"trackers: {len(begun)}")
""")
    text = """
import numpy as np
import pytest


@pytest.mark.parametrize("n", range(1, 31))
def test_many(n):
    np.ones(n * 1_000)


def test_timed(benchmark):
    import sys
    from memray import Tracker
    benchmark(lambda: None)
    with Tracker("trace"):  # no other one is active
        pass


@pytest.mark.parametrize("n", range(1, 31))
def test_more(n):
    np.ones(n * 1_000)
    assert n != 7
"""
    done = run(tmp_path, text, "--copycost", "-p", "no:randomly", "-vv")
    assert "1 failed, 60 passed" in done.stdout, done.stdout
    assert "trackers: 2" in done.stdout
    found = rows(done.stdout)
    for name in ("many", "more"):
        sizes = {n: found[f"test_{name}[{n}]"].split()[:2] for n in range(1, 31) if f"test_{name}[{n}]" in found}
        assert len(sizes) == 30 if name == "many" else 29
        assert sizes[3] == ["23.4", "KiB"]
        assert sizes[30] == ["234", "KiB"]
    assert "test_more[7]" not in found


def test_what_a_test_does_to_the_meter_fails_no_test(tmp_path: Path) -> None:
    text = """
import os
import unittest
import numpy as np
import pytest


@pytest.fixture
def image():
    return np.ones(10_000)


def test_first(image):
    image + 1


def test_of_files(image, monkeypatch):
    monkeypatch.setattr(os.path, "getsize", lambda name: None)
    monkeypatch.setattr(os, "unlink", lambda name: None)
    image + 1


class TestCase(unittest.TestCase):
    def test_counts(self):
        from copycost_meter import count
        assert count(np.copy, np.ones(10_000)).allocations == 1


def test_last(image):
    image + 1
"""
    done = run(tmp_path, text, "--copycost", "-p", "no:randomly")
    assert "4 passed" in done.stdout, done.stdout
    found = rows(done.stdout)
    assert {name for name, line in found.items() if "78.1 KiB" in line} == {"test_first", "test_of_files", "test_last"}
