"""The state of a GPU around every sample, read from a library that is made for the tests, in the place of NVML."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, read_json
from test_fakegpu import ARGUMENTS, HERE, installed

assert installed  # a fixture

COMPILER = shutil.which("cc") or shutil.which("gcc")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a library of NVML's name."""
    if COMPILER is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("nvml")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", HERE / "nvml.c"], check=True)
    return folder


def environment(library: Path, state: str, **more: str) -> dict[str, str]:
    return {"LD_LIBRARY_PATH": str(library), "FAKE_NVML": state, **more}


SCRIPT = """
import json
from copycost.machine import devices
conditions = [devices.condition() for _ in range(4)]
print(json.dumps([vars(conditions[0]), [devices.during(a, b).slowed for a, b in zip(conditions, conditions[1:])]]))
"""


def conditions(library: Path, state: str, **more: str) -> Any:
    path = {"PATH": os.pathsep.join([str(HERE), os.environ["PATH"]])}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60,
        env=os.environ | path | environment(library, state, **more),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_state_is_that_of_nvml(library: Path) -> None:
    """nvidia-smi, which takes longer, says 1,500 MHz, 40 °C and 1,000 MiB."""
    first, during = conditions(library, "1980 61 8 0")
    assert (first["clock_mhz"], first["temperature_c"], first["free_bytes"]) == (1980, 61, 1100 * 2**20)
    assert first["slowed"] == ["hardware slowdown"]
    assert during == [["hardware slowdown"]] * 3


def test_what_slowed_the_device_between_two_readings_is_seen(library: Path) -> None:
    """Though at the readings themselves nothing does: the counter has grown."""
    first, during = conditions(library, "1980 61 0 3")
    assert first["slowed"] == []
    assert during == [[], ["power cap"], []]


def test_what_the_device_does_not_report_is_missing(library: Path) -> None:
    first, _ = conditions(library, "1980 0 0 0")
    assert first["temperature_c"] is None


@pytest.mark.parametrize("more", [{"FAKE_NVML": "no state"}, {"FAKE_SMI": json.dumps([{"uuid": "GPU-other"}])}])
def test_without_nvml_or_for_a_device_it_does_not_know_nvidia_smi_is_asked(library: Path, more: dict[str, str]) -> None:
    first, _ = conditions(library, **{"state": "1980 61 0 0", **more} if "FAKE_SMI" in more else {"state": "no state"})
    assert (first["clock_mhz"], first["temperature_c"]) == (1500, 40)


def test_the_samples_that_were_slowed_are_marked(command: Command, library: Path, installed: dict[str, str]) -> None:
    """And no others of their block; clocks and temperatures are those of the samples."""
    arguments = (*ARGUMENTS[:2], "--variant", "fake-fused", *ARGUMENTS[4:], "--device", "gpu", "--json", "-")
    done = command("run", *arguments, env=installed | environment(library, "1410 55 0 3"))
    (m,) = read_json(done.stdout)["measurements"]
    marks = [mark == "throttled" for block in m["marks"] for mark in block]
    assert 0 < sum(marks) < len(marks)
    assert m["slowed"] == [["power cap"]] * m["blocks"]
    assert set(m["clocks_mhz"]) == {1410}
    assert set(m["temperatures_c"]) == {55}


def test_the_energy_of_a_call_is_without_that_of_the_idle_device(
    command: Command, library: Path, installed: dict[str, str], tmp_path: Path
) -> None:
    """A joule for each kernel, and 40 W all the time."""
    (tmp_path / "joules").touch()
    state = installed | environment(library, "1410 55 0 0", FAKE_ENERGY=str(tmp_path / "joules"))
    arguments = (*ARGUMENTS[:2], "--variant", "fake-*", *ARGUMENTS[4:-2])
    arguments += ("--blocks", 2, "--device", "gpu", "--json", "-")
    found = {
        m["variant"]: m for m in read_json(command("run", *arguments, "--energy", env=state).stdout)["measurements"]
    }
    assert {m["status"] for m in found.values()} == {"ok"}
    for name, kernels in (("fake-new", 2), ("fake-fused", 1), ("fake-out", 2), ("fake-graph", 1)):
        m = found[name]
        assert m["joules"] == pytest.approx(kernels, rel=0.02)
        assert m["joules_low"] <= m["joules"] <= m["joules_high"]
    assert found["fake-inplace"]["joules"] is None
    (m,) = read_json(command("run", *arguments, "--variant", "fake-fused", env=state).stdout)["measurements"][:1]
    assert m["joules"] is None
    assert "--energy" in m["missing"]["joules"]
    (tmp_path / "joules").unlink()
    done = command("run", *arguments, "--energy", env=installed | environment(library, "1410 55 0 0"))
    assert {m["joules"] for m in read_json(done.stdout)["measurements"]} == {None}
