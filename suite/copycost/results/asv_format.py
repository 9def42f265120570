"""Define the parameters and fields of copycost's benchmarks in asv's result files."""

from __future__ import annotations

#: Parameters that asv varies, named as in the JSON contract, in the order in which asv shows them.
PARAMETERS = ("recipe", "variant", "device", "dtype", "layout", "height", "width", "batch")

#: Fields that asv tracks. Each is a method ``track_…`` of `copycost.asv.Cases`.
TRACKED = (
    "seconds", "seconds_per_image", "seconds_first", "allocations", "allocated_bytes", "peak_bytes", "retained_bytes",
    "input_changed", "max_abs_error",
)  # fmt: skip
