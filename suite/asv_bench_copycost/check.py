"""Check that asv finds the plugin, and that its instrument counts: asv itself says nothing if it does not."""

from __future__ import annotations

import importlib
import importlib.util
from importlib import metadata

#: Name by which asv_runner finds the plugin: of the distribution, and of the package.
NAME = "asv_bench_copycost"

#: Size of the known request that tests the instrument, in bytes.
_KNOWN_BYTES = 1_000_000


def findings() -> list[tuple[bool, str]]:
    """Return whether each part of the plugin works, and a line that says so or why not."""
    return [_distribution(), _runner(), _types(), _instrument()]


def _distribution() -> tuple[bool, str]:
    # As asv_runner looks: the name as it is written, without normalization.
    names = {dist.metadata["Name"] for dist in metadata.distributions()}
    if NAME in names:
        return True, f"the distribution {NAME} {metadata.version(NAME)} is installed"
    other = sorted(name for name in names if name and name.lower().replace("-", "_") == NAME)
    if other:
        return False, f"the distribution is named {other[0]}, and asv finds {NAME} only: it was built by an old tool"
    return False, f"no distribution {NAME} is installed: asv finds plugins by the names of distributions"


def _runner() -> tuple[bool, str]:
    try:
        return True, f"asv_runner {metadata.version('asv_runner')} runs the benchmarks"
    except metadata.PackageNotFoundError:
        return False, "asv_runner is not installed: asv installs it in the environments that it makes"


def _types() -> tuple[bool, str]:
    try:
        found = importlib.import_module("asv_runner.benchmarks").benchmark_types
    except ImportError as error:
        return False, f"asv_runner.benchmarks: {error}"
    prefixes = [cls.prefix for cls in found if cls.__module__.startswith(f"{NAME}.")]
    if prefixes:
        return True, f"asv has registered {len(prefixes)} types: {', '.join(prefix + '_' for prefix in prefixes)}"
    try:
        importlib.import_module(f"{NAME}.benchmarks.counts")
    except ImportError as error:
        return False, f"asv has registered no type: {error}"
    return False, "asv has registered no type, although the plugin can be imported: it is not installed"


def _instrument() -> tuple[bool, str]:
    if importlib.util.find_spec("memray") is None:
        return False, "memray is not installed: alloc_, allocbytes_, peakbytes_, keptbytes_ and copies_ are n/a"
    from copycost_meter import count

    found = count(bytearray, _KNOWN_BYTES)
    if found.allocated_bytes is None:
        return False, f"memray does not count: {found.missing}"
    text = f"memray {metadata.version('memray')} counts {found.allocated_bytes:,} bytes of a known {_KNOWN_BYTES:,}"
    return _KNOWN_BYTES <= found.allocated_bytes < _KNOWN_BYTES + 4096, text
