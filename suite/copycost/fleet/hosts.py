"""Machines: which are alike, and which of them measures a series."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

#: Environment variable with the name of this machine, in place of its host name.
NAME = "COPYCOST_HOST"


def host_name() -> str:
    """Return the name under which this machine's results are stored.

    Raises
    ------
    ValueError
        If it cannot be the name of a folder.
    """
    name = os.environ.get(NAME) or platform.node()
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"invalid name of a host '{name}': expected letters, digits, '_', '.' and '-' ({NAME})")
    return name


def machine_class(record: Mapping[str, object]) -> str:
    """Return a description that machines share if their times can be compared.

    It holds nothing that was measured, nor anything that a restart changes: a class would fall apart.

    Parameters
    ----------
    record : mapping
        asv's record of the machine, as `copycost machine` writes it.
    """

    def known(name: str) -> str:
        value = str(record.get(name) or "")
        return "" if value in ("none", "not told") else value

    driver = known("gpu_driver").partition(".")[0]
    parts = [
        known("cpu"), f"{known('num_cpu')} CPUs" if known("num_cpu") else "", _memory(known("ram")), known("gpu"),
        f"driver {driver}" if driver else "",
    ]  # fmt: skip
    return ", ".join(filter(None, parts)) or "unknown"


def _memory(ram: str) -> str:
    """Return the memory in GiB: kernels reserve a little more or less of it."""
    if not ram.isdigit():
        return ram
    nbytes = int(ram) if int(ram) > 2**32 else int(ram) * 1024  # asv's own records have kilobytes
    return f"{round(nbytes / 2**30)} GiB"


def assign(series: Iterable[str], hosts: Sequence[str], served: Mapping[str, str]) -> dict[str, str]:
    """Return the host of each series.

    A series stays on the host that has served it. Others are spread by rendezvous hashing, so that few of them move
    if a host comes or goes, with at most the same number on each host.

    Parameters
    ----------
    series : iterable of str
    hosts : sequence of str
        Those that can measure it now.
    served : mapping of str to str
        The host that has measured a series last.
    """
    names = sorted(set(series))
    homes = {name: served[name] for name in names if served.get(name) in hosts}
    load = Counter(homes.values())
    most = math.ceil(len(names) / len(hosts))
    for name in names:
        if name not in homes:
            ranked = sorted(hosts, key=lambda host: _score(name, host), reverse=True)
            homes[name] = next((host for host in ranked if load[host] < most), ranked[0])
            load[homes[name]] += 1
    return homes


def _score(series: str, host: str) -> bytes:
    return hashlib.sha256(f"{series}\0{host}".encode()).digest()
