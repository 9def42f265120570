"""Find the vector extensions of this CPU."""

from __future__ import annotations

import re


def cpu_flags(
    names: str = "avx avx2 fma avx512f avx512bw avx512_vnni avx512_bf16 amx_tile hypervisor",
) -> list[str]:
    """Return the vector extensions of this CPU, as Linux names them, among those that libraries check for."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            found = re.search(r"^flags\s*:\s*(.+)$", file.read(), re.MULTILINE)
    except OSError:  # another system
        return []
    return sorted(set(found[1].split() if found else ()) & set(names.split()))
