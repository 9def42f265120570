"""Record this machine for asv: asv's own fields plus the GPU, its driver, CUDA and the CPU features.

asv keeps the records in ``~/.asv-machine.json``, by machine name. It copies them into every result, and its pages have
a filter for each key.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from copycost.machine import devices, environment
from copycost.results.store import RunError, replace
from copycost_meter.cpu import cpu_flags

#: Value of a key that does not apply to a machine. asv can only filter by keys that all machines have.
NONE = "none"

_VERSION = 1  # version of asv's file format


def record(name: str | None = None) -> dict[str, str]:
    """Write this machine's record for asv and return it.

    Parameters
    ----------
    name : str, optional
        Name of the machine. The default is the record that asv would use: the host's, or the only one.

    Raises
    ------
    RunError
        If the name is invalid, or the file is not an asv machine file or cannot be written.
    """
    if name is not None and not re.fullmatch(r"[\w.-]+", name):
        raise RunError(
            f"invalid machine name '{name}': expected letters, digits, '_', '.' and '-', as asv names a folder after it"
        )
    path = Path("~/.asv-machine.json").expanduser()
    usual, hardware = _usual(), _hardware()
    try:
        records: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"version": _VERSION}
        if records["version"] != _VERSION:
            raise RunError(f"{path} has version {records['version']} of asv's format: expected version {_VERSION}")
        if name is None:
            # asv looks up the host's name and falls back to the only record.
            names = [key for key in records if key != "version"]
            host = platform.node()
            name = names[0] if len(names) == 1 and host not in names else host
        # Values that a user has written for asv's own fields take precedence.
        entry = usual | records.get(name, {}) | hardware | {"machine": name}
        records[name] = entry
        replace(path, json.dumps(records, indent=4, sort_keys=True) + "\n")
    except (ValueError, KeyError, TypeError):
        raise RunError(f"{path} is not an asv machine file: correct or remove it") from None
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from None
    return entry


def describe() -> dict[str, str]:
    """Return what describes this machine, without a name."""
    return _usual() | _hardware()


def _usual() -> dict[str, str]:
    """Return the fields that asv's own records have."""
    return {
        "os": f"{platform.system()} {platform.release()}",
        "arch": platform.machine(),
        "cpu": environment.processor() or "not told",
        "num_cpu": str(devices.cpus()),
        "ram": str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
    }


def _hardware() -> dict[str, str]:
    """Return the fields that they do not have."""
    gpus, _ = devices.gpus()
    return {
        "cpu_features": " ".join(cpu_flags()) or NONE,
        "gpu": _several(gpu.name for gpu in gpus),
        "gpu_driver": _several(gpu.driver or "not told" for gpu in gpus),
        "cuda": (devices.cuda() or "not told") if gpus else NONE,
    }


def _several(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names)) or NONE
