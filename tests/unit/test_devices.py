"""CUDA devices as `nvidia-smi` tells of them: a real program on the path, which answers as it does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from copycost.machine import devices
from copycost_meter.profilers.xplane import kernel_seconds, of_protobuf

TWO = "0, GPU-aaa, NVIDIA H200, 143771, 580.1, 9.0\\n1, GPU-bbb, NVIDIA A10, [N/A], 580.1, 8.6\\n"


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    path.write_text(f"#!/bin/sh\nprintf '{TWO}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that is told by a variable what there is."""
    path = Path(__file__).parents[1] / "fakegpu"
    monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return path


def test_every_device_is_found(smi: Path) -> None:
    found, none = devices.gpus()
    assert none is None
    assert [(g.name, g.driver, g.compute_capability) for g in found] == [
        ("NVIDIA H200", "580.1", "9.0"),
        ("NVIDIA A10", "580.1", "8.6"),
    ]
    assert [g.memory_bytes for g in found] == [143771 * 2**20, None]


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("1", ["NVIDIA A10"]),
        ("1,0", ["NVIDIA A10", "NVIDIA H200"]),
        ("GPU-bbb", ["NVIDIA A10"]),
        ("0,7,1", ["NVIDIA H200"]),
    ],
)
def test_cuda_visible_devices_is_obeyed(
    smi: Path, monkeypatch: pytest.MonkeyPatch, visible: str, names: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [g.name for g in devices.gpus()[0]] == names


@pytest.mark.parametrize("visible", ["", "-1", "9"])
def test_hidden_devices_are_a_reason(smi: Path, monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found, none = devices.gpus()
    assert not found
    assert "CUDA_VISIBLE_DEVICES" in (none or "")


def test_a_driver_that_fails_is_quoted(smi: Path) -> None:
    smi.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n")
    found, none = devices.gpus()
    assert not found
    assert "Driver/library version mismatch" in (none or "")


def test_no_driver_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.gpus() == ([], "no CUDA device: nvidia-smi not found")


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("| NVIDIA-SMI 580.1    Driver Version: 580.1    CUDA Version: 13.0     |", "13.0"),
        ("| NVIDIA-SMI 590.44   KMD Version: 590.44   CUDA UMD Version: 13.1  |", "13.1"),
        ("| NVIDIA-SMI 580.1    Driver Version: 580.1    CUDA Version: N/A      |", None),
    ],
)
def test_cuda_is_what_the_driver_heads_its_table_with(smi: Path, line: str, version: str | None) -> None:
    smi.write_text(f"#!/bin/sh\necho '{line}'\n")
    assert devices.cuda() == version


def test_without_a_driver_there_is_no_cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.cuda() is None


@pytest.mark.parametrize(
    ("reasons", "slowed"),
    [
        ("0x0000000000000000", False),
        ("0x0000000000000001", False),  # idle
        ("0x0000000000000002", False),  # set by its owner
        ("0x0000000000000004", True),  # power cap
        ("0x0000000000000021", True),  # heat, and idle by now
        ("[N/A]", False),
    ],
)
def test_clocks_that_are_lowered(fake: Path, monkeypatch: pytest.MonkeyPatch, reasons: str, slowed: bool) -> None:
    monkeypatch.setenv("FAKE_SMI", json.dumps([{"clocks_throttle_reasons.active": reasons}]))
    found = devices.condition()
    assert bool(found.slowed) is slowed
    assert (found.clock_mhz, found.temperature_c, found.free_bytes) == (1500, 40, 16000 * 2**20)


def test_a_newer_driver_has_another_name_for_them(smi: Path) -> None:
    smi.write_text(
        "#!/bin/sh\ncase $1 in *throttle*) echo 'not a valid field to query'; exit 2;;"
        " *event*) echo '0, GPU-aaa, 1500, 40, 1000, 0x40';; esac\n"
    )
    assert devices.condition().slowed == ("heat, by hardware",)


def test_the_condition_is_that_of_the_visible_device(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cool = {"index": "1", "uuid": "GPU-bbb", "clocks.sm": "1980", "temperature.gpu": "31"}
    hot = {"clocks_throttle_reasons.active": "0x40", "temperature.gpu": "[N/A]"}
    monkeypatch.setenv("FAKE_SMI", json.dumps([hot, cool]))
    assert devices.condition() == devices.Condition(1500, None, ("heat, by hardware",), 16000 * 2**20)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert devices.condition() == devices.Condition(1980, 31, (), 16000 * 2**20)


def test_one_of_several_is_chosen(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SMI", json.dumps([{}, {"index": "1", "uuid": "GPU-bbb", "name": "Other"}]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    devices.choose(0)
    assert [gpu.name for gpu in devices.gpus()[0]] == ["Other"]
    with pytest.raises(LookupError, match=r"unknown device gpu:1: expected one of gpu:0 \(Other\)"):
        devices.choose(1)


PARTS = [{"name": "MIG 1g.5gb", "uuid": "MIG-one"}, {"name": "MIG 2g.10gb", "uuid": "MIG-two"}]


@pytest.mark.parametrize(
    ("visible", "names"),
    [(None, ["Fake 1 MIG 1g.5gb"]), ("MIG-two", ["Fake 1 MIG 2g.10gb"]), ("1", ["Other"]), ("0", [])],
)
def test_a_device_in_parts(fake: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, names: list[str]) -> None:
    """Of parts a process sees one; the whole cannot be used."""
    there = [{"parts": PARTS}, {"index": "1", "uuid": "GPU-bbb", "name": "Other"}]
    monkeypatch.setenv("FAKE_SMI", json.dumps(there))
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.name for gpu in devices.gpus()[0]] == names


def test_the_time_of_kernels_is_that_of_those_within_a_call() -> None:
    """Two calls of two kernels each, of 2 µs; between them the device is busy with what was prepared."""
    names = {1: SimpleNamespace(name="copycost call"), 2: SimpleNamespace(name="other")}
    host_line = SimpleNamespace(
        name="python", timestamp_ns=100, events=[event(0, 10, 1), event(20, 10, 1), event(0, 99, 2)]
    )
    host = SimpleNamespace(name="/host:CPU", lines=[host_line], event_metadata=names)
    kernels = [event(at, 2, 2) for at in (1, 4, 12, 15, 21, 27)]
    stream = SimpleNamespace(name="Stream #13(Compute)", timestamp_ns=100, events=kernels)
    repeated = SimpleNamespace(name="XLA Ops", timestamp_ns=100, events=kernels)
    device = SimpleNamespace(name="/device:GPU:0", lines=[stream, repeated], event_metadata=names)
    assert kernel_seconds(list(of_protobuf([host, device]))) == pytest.approx(4e-6)
    # The profiler was refused, or the call worked on the CPU: that is not a time of 0.
    assert kernel_seconds(list(of_protobuf([host]))) is None
    device.lines = [repeated]
    assert kernel_seconds(list(of_protobuf([host, device]))) is None


def event(at_us: int, duration_us: int, metadata_id: int) -> SimpleNamespace:
    return SimpleNamespace(offset_ps=at_us * 10**6, duration_ps=duration_us * 10**6, metadata_id=metadata_id)
