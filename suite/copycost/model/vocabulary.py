"""Words with which recipes, variants and cases are described."""

from __future__ import annotations

#: Where a variant writes its result.
WRITES = ("new", "out", "input")

#: Dtypes of an input.
DTYPES = ("uint8", "float16", "float32", "float64")

#: Orders of the axes of an input.
LAYOUTS = ("channels_last", "channels_first")

#: Kinds of devices.
DEVICES = ("cpu", "gpu")
