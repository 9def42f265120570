"""Measure the parts of all routes: cases in a session, transfers and models in processes of their own."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from copycost.cases.case import Case
from copycost.cases.images import Photographs
from copycost.catalog import discovery
from copycost.engine.plan import Plan
from copycost.engine.session import Session
from copycost.engine.time_account import TimeAccount
from copycost.engine.worker import CaseFailure, Job
from copycost.engine.worker_pool import WorkerPool
from copycost.model import numbers
from copycost.model.measurement import Measurement
from copycost.model.source import Source
from copycost.model.vocabulary import DeviceKind, Layout, Status
from copycost.registry import Variant
from copycost.stats.intervals import estimate
from copycost.stats.sums import Bounded, paired
from copycost.studies.place.probes import Model, ModelJob, Transfer, TransferJob
from copycost.studies.place.routes import (
    Crossing,
    Inputs,
    Measured,
    Memory,
    Missing,
    crossings,
    inputs_of,
    inputs_of_measurement,
)

K = TypeVar("K")
R = TypeVar("R")

#: Fresh processes for each transfer and each model.
BLOCKS = 5

#: Time limit for one answer of a process, in seconds.
_TIMEOUT = 120.0

#: The variant that is measured inside a model.
INSIDE = "tf-graph"


def measure(
    cases: Sequence[Case],
    inside: Variant | None,
    plan: Plan,
    photographs: Photographs,
    model_on: DeviceKind,
    no_gpu: str | None,
    on_step: Callable[[str], None] = lambda step: None,
) -> Measured:
    """Measure all parts of the routes, or until Ctrl-C.

    Parameters
    ----------
    cases : sequence of Case
        Cases of one recipe on the CPU, and on the GPU if the model is there.
    inside : Variant or None
        The variant to measure inside a model.
    plan : Plan
    photographs : Photographs
    model_on : DeviceKind
    no_gpu : str or None
        Why nothing is measured on a GPU. None if it is.
    on_step : callable
        ``on_step(step)`` reports progress. It can be called from any thread.
    """
    measurements: list[Measurement] = []
    transfers: dict[Crossing, Bounded | Missing] = {}
    models: dict[Inputs, Bounded | Missing] = {}
    interrupted = False
    try:
        with Session(plan, photographs, lambda case, step: on_step(f"{step} {case.label()}")) as session:
            measurements += session.measure(cases)  # appends each as it comes, so that an interrupt loses none
        pool = WorkerPool(plan.threads, TimeAccount(), {})
        try:
            if no_gpu is None:
                transfers |= _transfers(pool, plan, cases, measurements, on_step)
            models |= _models(pool, plan, cases, measurements, inside, model_on, on_step)
        finally:
            pool.close()
    except KeyboardInterrupt:
        interrupted = True
    return Measured(model_on, tuple(cases), tuple(measurements), transfers, models, no_gpu, interrupted)


def _transfers(
    pool: WorkerPool,
    plan: Plan,
    cases: Sequence[Case],
    measurements: Sequence[Measurement],
    on_step: Callable[[str], None],
) -> dict[Crossing, Bounded | Missing]:
    """Time all transfers with one runtime that can: one that has worked on the device if there is one."""
    wanted = crossings(cases, measurements)
    worked = {m.runtime for m in measurements if m.device == DeviceKind.GPU and m.status == Status.OK}
    able = [
        name
        for name in sorted(discovery.runtimes(), key=lambda name: (name not in worked, name))
        if (runtime := discovery.runtime(name)).gpu is not None
        and runtime.gpu.upload is not None
        and not discovery.not_installed(runtime)
    ]
    found: dict[Crossing, Bounded | Missing] = dict.fromkeys(
        wanted, Missing("no runtime that times transfers is installed, such as CuPy, PyTorch or JAX")
    )
    for name in able:
        found = _transfers_by(pool, plan, name, wanted, on_step)
        if not all(isinstance(seconds, Missing) for seconds in found.values()):
            break
    return found


def _transfers_by(
    pool: WorkerPool, plan: Plan, name: str, wanted: Sequence[Crossing], on_step: Callable[[str], None]
) -> dict[Crossing, Bounded | Missing]:
    """Time all transfers with a runtime."""
    jobs = {
        (nbytes, memory): TransferJob(name, plan.threads, nbytes, memory == Memory.PINNED) for nbytes, memory in wanted
    }

    def report(crossing: Crossing) -> None:
        on_step(f"transfer of {numbers.size(crossing[0])} from {crossing[1]} memory")

    found = _in_blocks(pool, name, Source("copycost"), jobs, Transfer.sample, report)
    return {
        crossing: samples if isinstance(samples, Missing) else _bounded(samples) for crossing, samples in found.items()
    }


def _bounded(samples: Sequence[Sequence[float]]) -> Bounded | Missing:
    seconds = estimate(samples)
    if seconds.low is None or seconds.high is None:
        return Missing("an interval needs two blocks")
    return Bounded(seconds.value, seconds.low, seconds.high)


def _models(
    pool: WorkerPool,
    plan: Plan,
    cases: Sequence[Case],
    measurements: Sequence[Measurement],
    inside: Variant | None,
    model_on: DeviceKind,
    on_step: Callable[[str], None],
) -> dict[Inputs, Bounded | Missing]:
    """Time the variant inside a model, for all images of the cases."""
    by_inputs = {inputs_of(case): case for case in cases}
    first = cases[0]
    why = None
    if inside is None:
        why = f"recipe {first.recipe.name} has no variant {INSIDE}"
    elif inside.runtime != "tensorflow":
        why = f"{INSIDE} of recipe {first.recipe.name} is not for TensorFlow"
    elif first.recipe.inputs != 1:
        why = f"recipe {first.recipe.name} takes {first.recipe.inputs} inputs"
    elif first.layout != Layout.CHANNELS_LAST:
        why = "TensorFlow has no convolution of channels first on the CPU"
    else:
        why = discovery.not_installed(discovery.runtime("tensorflow"))
    if inside is None or why is not None:
        return dict.fromkeys(by_inputs, Missing(why or ""))
    # What is too large for every case is too large for the model.
    skipped: dict[Inputs, str] = {}
    for inputs in by_inputs:
        rows = [m for m in measurements if inputs_of_measurement(m) == inputs]
        if rows and all(m.status == Status.SKIPPED for m in rows):
            skipped[inputs] = rows[0].remarks()
    jobs = {
        inputs: ModelJob(
            first.recipe.name, inside.name, model_on, plan.threads, case.shape, case.dtype, str(case.computed_dtype)
        )
        for inputs, case in by_inputs.items()
        if case.dtype in inside.accepts and inputs not in skipped
    }
    found = _in_blocks(
        pool, "tensorflow", inside.source, jobs, Model.sample, lambda inputs: on_step(f"model, {inputs.images} images")
    )
    unmeasured = Missing(f"{INSIDE} is for {', '.join(inside.accepts)} only")
    return {
        inputs: samples if isinstance(samples, Missing) else paired(samples)
        for inputs in by_inputs
        for samples in (found.get(inputs, Missing(skipped[inputs]) if inputs in skipped else unmeasured),)
    }


def _in_blocks(
    pool: WorkerPool,
    runtime: str,
    source: Source,
    jobs: Mapping[K, Job],
    sample: Callable[..., R],
    on_step: Callable[[K], None],
) -> dict[K, list[R] | Missing]:
    """Do every job in `BLOCKS` fresh processes, in random order, one at a time; return the samples, or why not."""
    found: dict[K, list[R] | Missing] = {key: [] for key in jobs}
    for _ in range(BLOCKS):
        for key in random.sample(list(jobs), len(jobs)):
            samples = found[key]
            if isinstance(samples, Missing):
                continue
            on_step(key)
            try:
                worker = pool.worker(runtime, source)
                try:
                    worker.open(jobs[key], _TIMEOUT)
                    samples.append(worker.ask(_TIMEOUT, sample)[0])
                finally:
                    pool.close_worker(worker)
            except CaseFailure as failure:
                took_too_long = f"it took more than {_TIMEOUT:.0f} s"
                found[key] = Missing(took_too_long if failure.status == Status.TIMEOUT else failure.reason)
    return found
