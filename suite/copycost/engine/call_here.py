"""Make the calls of one case in this process, so that a profiler that has started the process sees them."""

from __future__ import annotations

from copycost import registry
from copycost.cases import images
from copycost.cases.case import Case
from copycost.catalog import discovery, loading
from copycost.engine.prepared_call import PreparedCall
from copycost.engine.references import (
    Build,
    ExpectedResults,
    Noted,
    argument,
    made_dtype,
    made_inputs,
    refer,
    refer_as_given,
)
from copycost.machine.nvtx_range import CALL, nvtx_range
from copycost.model.vocabulary import Writes

#: Calls before those within the range: the first ones compile, trace and fill pools.
_WARM = 3

#: Calls within the range.
CALLS = 3


def call_here(case: Case, photographs: images.Photographs, threads: int) -> None:
    """Make a few calls, then `CALLS` within a range that profilers see.

    Raises
    ------
    RuntimeUnavailable
        If the runtime cannot run on the device.
    Exception
        What the variant raises.
    """
    for source in dict.fromkeys((case.recipe.source, case.variant.source)):
        loading.load(source)
    runtime = discovery.runtime(case.variant.runtime)
    runtime.start(case.device, threads)
    prepare = registry.variants[case.recipe.name, case.variant.name].prepare
    reference = registry.recipes[case.recipe.name].reference
    assert prepare is not None  # both were registered in this process
    assert reference is not None
    shape = (case.batch, case.height, case.width)
    pixels = [
        images.batch(photographs, shape, case.dtype, case.layout, seed=part) for part in range(case.recipe.inputs)
    ]
    build: Build = argument
    dtype = case.computed_dtype
    make = registry.recipes[case.recipe.name].make
    if make is not None:
        arrays, build = made_inputs(make, pixels[0], seed=0)
        pixels, dtype = list(arrays), made_dtype(case.recipe, arrays, dtype)
    truth: ExpectedResults | None = None
    if case.variant.writes == Writes.OUT:  # the reference shows the buffer
        noted = Noted(reference)
        if case.recipe.as_given:
            expected = refer_as_given(noted, pixels, build=build)
        else:
            expected = refer(noted, pixels, case.layout, dtype, build=build, is_made=make is not None)
        truth = ExpectedResults([expected], dtype, noted.is_tuple)
    prepared = PreparedCall(
        runtime, prepare, case.variant.writes, case.device, [tuple(pixels)], truth,
        truth.blank_out() if truth is not None else None, build=build,
    )  # fmt: skip
    for _ in range(_WARM):
        prepared.fenced_call(0)()
    calls = [prepared.fenced_call(0) for _ in range(CALLS)]  # on inputs that are made before the range
    with nvtx_range(CALL):
        for call in calls:
            call()
