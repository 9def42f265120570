"""CUDA devices as `nvidia-smi` tells of them: a real program on the path, which answers as it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite import devices

TWO = "0, GPU-aaa, NVIDIA H200, 143771, 580.1, 9.0\\n1, GPU-bbb, NVIDIA A10, [N/A], 580.1, 8.6\\n"


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    path.write_text(f"#!/bin/sh\nprintf '{TWO}'\n")
    path.chmod(0o755)
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
    assert devices.gpus() == ([], "no CUDA device: no NVIDIA driver is installed (nvidia-smi not found)")


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
def test_clocks_that_are_lowered(smi: Path, reasons: str, slowed: bool) -> None:
    smi.write_text(f"#!/bin/sh\necho '0, GPU-aaa, {reasons}'\n")
    assert devices.slowed() is slowed


def test_a_newer_driver_has_another_name_for_them(smi: Path) -> None:
    smi.write_text(
        "#!/bin/sh\ncase $1 in *event*) echo '0, GPU-aaa, 0x40';; *) echo 'not a valid field to query'; exit 2;; esac\n"
    )
    assert devices.slowed()


def test_the_clocks_are_those_of_the_visible_device(smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi.write_text("#!/bin/sh\nprintf '0, GPU-aaa, 0x40\\n1, GPU-bbb, 0x0\\n'\n")
    assert devices.slowed()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert not devices.slowed()
