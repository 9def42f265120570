"""The certification of a machine: on the CPU here, and on the fake device, of which each fault must be found."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import test_allocations
import test_gpu
from conftest import Command, read_json
from test_fakegpu import fakegpu, installed

from copycost.machine import devices
from copycost.model.vocabulary import DeviceKind
from copycost.results.store import RunError
from copycost.studies.certify import evidence, run, steps
from copycost.studies.certify.evidence import Row
from copycost.studies.certify.step import STEPS, Each, Subject
from copycost.studies.certify.steps import memory

assert installed  # a fixture
assert steps

CPU, GPU = DeviceKind.CPU, DeviceKind.GPU


def rows(name: str, device: DeviceKind, runtime: str | None = None, limit: float | None = None) -> dict[str, Row]:
    """What a step finds, by its statements."""
    step = STEPS[name]
    found = list(run.run_step(step, Subject(device, runtime), limit or step.seconds))
    assert found[-1].statement == "the step is completed"
    return {row.statement: row for row in found}


def faults(found: dict[str, Row]) -> list[Row]:
    return [row for row in found.values() if not row.holds]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "runtime", "statements"),
    [
        ("machine", None, 1), ("host-clock", None, 2), ("copy-speed", None, 1), ("fence", "numpy", 1),
        ("fence", "jax", 1), ("allocations", "numpy", 5), ("allocations", "tensorflow", 5), ("results", "numexpr", 1),
        ("same-code", "numba", 1),
    ],
)  # fmt: skip
def test_a_step_holds_on_the_cpu(name: str, runtime: str | None, statements: int) -> None:
    if runtime is not None and importlib.util.find_spec(runtime) is None:
        pytest.skip(f"{runtime} is not installed")
    found = rows(name, CPU, runtime)
    if name == "copy-speed":  # another test may have one of the CPUs
        assert found.pop("copying on all threads is not slower than on one").figures["bytes_per_second"] > 0
        statements -= 1
    assert not faults(found)
    assert len(found) == statements + 1


def test_the_known_allocations_are_those_of_the_tests_that_count_them() -> None:
    """On the CPU and on a GPU; what no test of a variant has is about host arrays that go to a device and back."""
    tested = test_gpu.ORACLE | test_allocations.ORACLE
    assert {name: tested.get(name) for name in memory.KNOWN} == {
        name: None if name in ("cupy-pageable", "cupy-pinned") else known for name, known in memory.KNOWN.items()
    }


@pytest.fixture
def fake(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the steps find the fake device."""
    for name, value in installed.items():
        monkeypatch.setenv(name, value)


GPU_STEPS = [step for step in STEPS.values() if GPU in step.devices]


@pytest.mark.slow
@pytest.mark.parametrize("name", [step.name for step in GPU_STEPS])
def test_a_step_holds_on_the_fake_device(name: str, fake: None) -> None:
    runtime = None if STEPS[name].each == Each.MACHINE else "fakegpu"
    found = rows(name, GPU, runtime)
    assert not faults(found)
    assert len(found) > 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", fakegpu.FAULTS)
def test_each_fault_of_a_device_is_found(fault: str, fake: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAULT", fault)
    step, statement = fakegpu.FAULTS[fault]
    found = rows(step, GPU, "fakegpu", 8 if fault == "hangs" else None)
    assert not found[statement].holds
    if fault == "hangs":
        assert found[statement].reason == "it took more than 8 s"


def test_every_step_on_a_device_has_a_fault_of_the_device_but_these() -> None:
    """They depend on nvidia-smi, on the host, or on chance."""
    told = {step for step, _ in fakegpu.FAULTS.values()}
    assert {step.name for step in GPU_STEPS} - told == {"machine", "forks", "host-clock", "same-code", "faults"}


def test_a_device_for_one_process_is_a_fault(fake: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SMI", json.dumps([{"compute_mode": "Exclusive_Process", "temperature.gpu": "[N/A]"}]))
    assert [row.statement for row in faults(rows("machine", GPU))] == [
        "the driver reports clock, temperature and free memory", "several processes may use the device",
    ]  # fmt: skip


def test_a_step_that_cannot_test_anything_is_a_fault() -> None:
    found = rows("device-clock", GPU, "numpy")
    assert [row.reason for row in faults(found)] == ["numpy has no functions for a GPU"]


@pytest.mark.skipif(devices.gpus()[1] is None, reason="there is a device")
def test_without_a_device_every_step_is_a_fault(command: Command, tmp_path: Path) -> None:
    done = command("certify", "--device", "gpu", "--json", "found.json")
    assert command("certify", "--device", "gpu").returncode == done.returncode == 1
    assert [evidence.read(path)["device"] for path in (tmp_path / "reports").iterdir()] == ["gpu"]
    assert "Traceback" not in done.stdout + done.stderr
    document = evidence.read(tmp_path / "found.json")
    jsonschema.validate(document, evidence.SCHEMA)
    assert document["finished"]
    assert {row["step"] for row in document["rows"]} == {step.name for step in GPU_STEPS}
    assert not any(row["holds"] for row in document["rows"])
    assert {row["reason"] for row in document["rows"]} == {devices.gpus()[1]}


@pytest.mark.parametrize("kind", ["pipe", "link", "standard output"])
def test_what_the_evidence_is_written_to_stays_what_it_is(kind: str, command: Command, tmp_path: Path) -> None:
    """A pipe, as `/dev/null` is a device; a link, whose target is written; and standard output."""
    name, text = "out", ""
    if kind == "pipe":
        os.mkfifo(tmp_path / "out")
        with open(os.open(tmp_path / "out", os.O_RDWR | os.O_NONBLOCK), "rb", buffering=0) as reader:
            done = command("certify", "--device", "gpu", "--json", name)
            text = reader.read(65536).decode()
        assert (tmp_path / "out").is_fifo()
    elif kind == "link":
        (tmp_path / "out").symlink_to("target.json")
        done = command("certify", "--device", "gpu", "--json", name)
        assert (tmp_path / "out").is_symlink()
        text = (tmp_path / "target.json").read_text()
    else:
        done = command("certify", "--device", "gpu", "--json", "-")
        text = done.stdout
    assert done.returncode == 1
    jsonschema.validate(read_json(text), evidence.SCHEMA)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_what_was_found_is_kept_when_it_is_stopped(number: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "copycost", "certify", "--json", str(path)],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"MARK": str(path)},
    )
    while not path.exists() or len(evidence.read(path)["rows"]) < 4:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(timeout=60) == (-9 if number == signal.SIGKILL else 130)
    document = read_json(path.read_text())
    jsonschema.validate(document, evidence.SCHEMA)
    assert not document["finished"]
    assert [row["step"] for row in document["rows"]][:3] == ["machine", "machine", "host-clock"]
    end = time.monotonic() + 30
    while running := _marked(f"MARK={path}"):
        assert time.monotonic() < end, running
        time.sleep(0.1)


def _marked(mark: str) -> list[str]:
    """The commands of the processes that have the mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text())
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--device", "tpu"), "unknown device tpu: expected cpu, gpu, or one GPU, e.g. gpu:1"),
        (("--json", "nowhere/found.json"), "nowhere is not a folder"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], message: str, command: Command) -> None:
    done = command("certify", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 2}', '{"schema": 1, "device": "cpu", "rows": []}'])
def test_another_file_is_no_evidence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(RunError, match="does not hold what copycost certify writes"):
        evidence.read(path)
