"""The parameters and the fields of copycost's benchmarks in asv's result files."""

from __future__ import annotations

#: What asv varies, by the names of the JSON contract and in the order that asv shows them in.
PARAMETERS = ("recipe", "variant", "device", "dtype", "layout", "height", "width", "batch")

#: What asv tracks: each is a method ``track_…`` of `copycost.asv.Cases`.
TRACKED = (
    "seconds", "seconds_per_image", "seconds_first", "allocations", "allocated_bytes", "peak_bytes", "retained_bytes",
    "input_changed", "max_abs_error",
)  # fmt: skip
