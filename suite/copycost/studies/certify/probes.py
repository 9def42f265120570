"""Provide prepared calls and measurements that several steps share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from copycost import registry
from copycost.cases import images
from copycost.cases.feasibility import skip_reason
from copycost.cases.selection import find_definitions, select
from copycost.catalog import discovery, loading
from copycost.engine.plan import Plan
from copycost.engine.session import Session
from copycost.machine import devices
from copycost.model.measurement import Measurement
from copycost.model.runtime import Device, Runtime
from copycost.model.vocabulary import Writes
from copycost.registry import Variant
from copycost.studies.certify.step import NothingToCheck, Subject


def started(subject: Subject) -> Runtime:
    """Return the subject's runtime, started on the device in this process."""
    assert subject.runtime is not None
    runtime = discovery.runtime(subject.runtime)
    runtime.start(subject.device, devices.cpus())
    return runtime


def started_device(subject: Subject) -> tuple[Runtime, Device]:
    """Return the subject's runtime, started on the GPU in this process, and its functions for the GPU."""
    runtime = started(subject)
    if runtime.gpu is None:
        raise NothingToCheck(f"{runtime.name} has no functions for a GPU")
    return runtime, runtime.gpu


def plain_variant(runtime: str) -> Variant:
    """Return a variant of recipe tf that leaves its input alone, with a new array as result if there is one.

    Raises
    ------
    NothingToCheck
        If the runtime has none.
    """
    variants = [
        variant
        for (recipe, _), variant in find_definitions().variants.items()
        if recipe == "tf" and variant.runtime == runtime and variant.writes != Writes.INPUT
    ]
    if not variants:
        raise NothingToCheck(f"{runtime} has no variant of recipe tf that leaves its input alone")
    return next((variant for variant in variants if variant.writes == Writes.NEW), variants[0])


def prepare(variant: Variant, example: Any) -> Callable[..., Any]:
    """Import a variant of recipe tf into this process and prepare its call."""
    loading.load(variant.source)
    function = registry.variants["tf", variant.name].prepare
    assert function is not None  # it was registered in this process
    return function(example)


def measure(
    subject: Subject,
    *,
    recipes: tuple[str, ...] = ("tf",),
    variants: Collection[str] = (),
    dtypes: tuple[str, ...] = ("float32",),
    batch: int = 1,
    size: tuple[int, int] = (224, 224),
    blocks: int = 0,
    seconds: float = 1.0,
    files: tuple[Path, ...] = (),
) -> list[Measurement]:
    """Measure the cases of the subject's runtime that apply to it. Without blocks, they are audited and traced only.

    Parameters
    ----------
    subject : Subject
    recipes, dtypes, batch, size, files
        As of `select`.
    variants : collection of str, optional
        Names of the variants to measure, where there are such variants.
    blocks : int, optional
    seconds : float, optional
        Time for blocks.

    Raises
    ------
    NothingToCheck
        If no case applies.
    """
    cases = select(
        recipes=recipes, devices=[subject.device], batches=[batch], sizes=[size], dtypes=dtypes,
        files=files,
    )  # fmt: skip
    chosen = [
        case
        for case in cases
        if case.variant.runtime == subject.runtime
        and (not variants or case.variant.name in variants)
        and skip_reason(case, None, sys.maxsize) is None
    ]
    if not chosen:
        raise NothingToCheck(f"{subject.runtime} has no variant for this device")
    plan = Plan(devices.cpus(), blocks, seconds, 120.0, devices.gpus()[1], "shipped")
    with Session(plan, images.read()) as session:
        return list(session.measure(chosen))


def to_the_fence(runtime: Runtime, call: Callable[[], Any], fence: Callable[[], None] | None = None) -> float:
    """Return the seconds of the host from a call to the fence after it."""
    runtime.fence()
    start = perf_counter()
    call()
    (fence or runtime.fence)()
    return perf_counter() - start


def device_seconds(device: Device, call: Callable[..., Any], prepare: Callable[[], tuple[Any, ...]] = tuple) -> float:
    """Return the device's time of a call: the median of a few samples, in seconds.

    Raises
    ------
    NothingToCheck
        If the runtime has no clock on the device, or the clock sees no work.
    """
    if device.seconds is None:
        raise NothingToCheck("the runtime has no clock on the device")
    samples = [device.seconds(call, prepare, 3) for _ in range(5)]
    times = [sample for sample in samples if sample]
    if len(times) < len(samples):
        raise NothingToCheck("the device's clock sees no work")
    return median(times)


def distinct(nbytes: int) -> np.ndarray:
    """Return an array of float32 that differs from element to element, of this size in bytes."""
    return np.arange(nbytes // 4, dtype=np.float32)
