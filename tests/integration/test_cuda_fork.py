"""CUDA that a file has initialised during import does not work in a fork: a driver made for the tests shows it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from copycost.catalog import import_context
from copycost.engine.fork_server import cuda_is_initialised
from copycost.engine.worker import ForkServer
from copycost.model.source import Source

COMPILER = shutil.which("cc") or shutil.which("gcc")

#: Answers of ``cuDeviceGetCount``: CUDA_SUCCESS and CUDA_ERROR_NOT_INITIALIZED.
SUCCESS, NOT_INITIALIZED = 0, 3


@pytest.fixture
def driver(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A library of the driver's name that always gives the same answer."""
    if COMPILER is None:
        pytest.skip("no C compiler")
    (tmp_path / "cuda.c").write_text(f"int cuDeviceGetCount(int *count) {{ *count = 1; return {request.param}; }}\n")
    library = tmp_path / "libcuda.so.1"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, tmp_path / "cuda.c"], check=True)
    return library


def test_this_process_has_not_initialised_cuda() -> None:
    assert not cuda_is_initialised()


@pytest.mark.parametrize(("driver", "initialised"), [(SUCCESS, True), (NOT_INITIALIZED, False)], indirect=["driver"])
def test_the_driver_is_asked_whether_it_is_initialised(driver: Path, initialised: bool) -> None:
    script = (
        "import ctypes, sys; from copycost.engine.fork_server import cuda_is_initialised as asked;"
        "before = asked(); ctypes.CDLL(sys.argv[1]); print(before, asked())"
    )
    done = subprocess.run([sys.executable, "-c", script, driver], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", str(initialised)], done.stderr


@pytest.mark.parametrize(("driver", "forkable"), [(SUCCESS, False), (NOT_INITIALIZED, True)], indirect=["driver"])
def test_a_file_that_initialises_cuda_gets_processes_of_its_own(driver: Path, forkable: bool, tmp_path: Path) -> None:
    path = tmp_path / "asks.py"
    path.write_text(f"import ctypes\nctypes.CDLL({str(driver)!r})\n")
    fork_server = ForkServer("numpy", Source(str(path)), import_context.child_environment())
    try:
        fork_server.ready()
        assert fork_server.forkable == forkable
    finally:
        fork_server.close()


def test_children_number_devices_as_nvidia_smi_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert import_context.child_environment()["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
