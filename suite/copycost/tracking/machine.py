"""The machine's record: what asv wants to know of it, and the GPU, its driver, CUDA and the CPU's features beside it.

asv keeps records in ``~/.asv-machine.json``, by the machines' names, copies them into every result, and makes a filter
of each of their keys in its pages.
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

#: What stands where there is no such thing: a key that only some machines have would be no filter.
NONE = "none"

_VERSION = 1  # of asv's format


def record(name: str | None = None) -> dict[str, str]:
    """Write what asv is to know of this machine, and give it.

    Parameters
    ----------
    name : str, optional
        The default is the record that asv would use: the host's, or the only one.

    Raises
    ------
    RunError
        If the file is not asv's, or cannot be written.
    """
    if name is not None and not re.fullmatch(r"[\w.-]+", name):
        raise RunError(f"'{name}' is no name for a machine: asv makes a folder of it")
    path = Path("~/.asv-machine.json").expanduser()
    gpus, _ = devices.gpus()
    usual = {
        "os": f"{platform.system()} {platform.release()}",
        "arch": platform.machine(),
        "cpu": environment.processor() or "not told",
        "num_cpu": str(devices.cpus()),
        "ram": str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
    }
    more = {
        "cpu_features": " ".join(environment.cpu_flags()) or NONE,
        "gpu": _several(gpu.name for gpu in gpus),
        "gpu_driver": _several(gpu.driver or "not told" for gpu in gpus),
        "cuda": (devices.cuda() or "not told") if gpus else NONE,
    }
    try:
        records: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"version": _VERSION}
        if records["version"] != _VERSION:
            raise RunError(f"{path} has version {records['version']} of asv's format; this writes {_VERSION}")
        if name is None:
            # As asv looks for it: by the host's name, and else the only one that there is.
            named = [key for key in records if key != "version"]
            host = platform.node()
            name = named[0] if len(named) == 1 and host not in named else host
        # What somebody has written there of the usual stays.
        mine = usual | records.get(name, {}) | more | {"machine": name}
        records[name] = mine
        replace(path, json.dumps(records, indent=4, sort_keys=True) + "\n")
    except (ValueError, KeyError, TypeError):
        raise RunError(f"{path} is no record of asv's") from None
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from None
    return mine


def _several(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names)) or NONE
