"""Specification of each field of a measurement: unit, description, and JSON Schema of its value.

The JSON Schema of a run, the columns of the CSV and the table in ``docs/reference/columns.md`` are generated from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from copycost.model.vocabulary import (
    DTYPES,
    DeviceKind,
    Layout,
    Mark,
    MemorySpace,
    ResultShares,
    Status,
    StopReason,
    Writes,
)


@dataclass(frozen=True)
class FieldSpec:
    """Specification of one field of a measurement.

    Attributes
    ----------
    unit : str
        Empty for a field without a unit.
    doc : str
        Description in one phrase of Markdown. Adjacent fields with the same description form a family.
    schema : mapping
        JSON Schema of the value, without its description.
    cell : bool
        Whether the value fits into a cell of the CSV, which has one number or text per cell.
    required : bool
        Whether a document without the field is invalid. Fields that were added to the contract later are not required,
        so that older documents stay valid.
    explained : bool
        Whether null is valid only with a reason in ``missing``.
    """

    unit: str
    doc: str
    schema: Mapping[str, Any]
    cell: bool = True
    required: bool = True
    explained: bool = False


def _optional(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema that also allows null."""
    if "enum" in schema:
        return {"enum": [*schema["enum"], None]}
    return {**schema, "type": [schema["type"], "null"]}


def _figure(unit: str, doc: str, schema: Mapping[str, Any], *, cell: bool = True, required: bool = True) -> FieldSpec:
    """Return the specification of a figure, which is null with a reason where it could not be measured."""
    return FieldSpec(unit, doc, _optional(schema), cell, required, explained=True)


def _times(name: str, doc: str, *, required: bool = True) -> dict[str, FieldSpec]:
    """Return the specifications of a time and of the limits of its interval."""
    spec = _figure("s", f"{doc}, and its 95 % interval", _POSITIVE, required=required)
    return dict.fromkeys((name, f"{name}_low", f"{name}_high"), spec)


def _of_space(space: MemorySpace) -> dict[str, FieldSpec]:
    """Return the specifications of the six figures of allocations for one memory space."""
    doc = f"the same as without `{space}_`, for the {space}'s memory only"
    return {f"{space}_{name}": replace(spec, doc=doc) for name, spec in _ALLOCATIONS.items()}


def _one_of(words: Iterable[str]) -> str:
    """Return words as Markdown: ``a``, ``b`` or ``c``."""
    *first_words, last_word = (f"`{word}`" for word in words)
    return f"{', '.join(first_words)} or {last_word}"


def _word(words: Iterable[str]) -> dict[str, Any]:
    """Return the JSON Schema of a value that is one of the words."""
    return {"enum": [str(word) for word in words]}


_TEXT = {"type": "string"}
_NAME = {"type": "string", "minLength": 1}
_TRUTH = {"type": "boolean"}
_COUNT = {"type": "integer", "minimum": 0}
_AT_LEAST_ONE = {"type": "integer", "minimum": 1}
_POSITIVE = {"type": "number", "exclusiveMinimum": 0}
_NOT_NEGATIVE = {"type": "number", "minimum": 0}

#: The figures of allocations over all memory spaces; those of one space have the same names, with its name before them.
_ALLOCATIONS = {
    "allocations": _figure("", "number of requests of 4,096 bytes and more in one steady call, in all memory", _COUNT),
    "allocated_bytes": _figure("B", "bytes of the requests that `allocations` counts", _COUNT),
    "peak_bytes": _figure("B", "the most bytes alive at once, beyond those alive before the call", _COUNT),
    # A call that frees more than it allocates retains less than nothing.
    "retained_bytes": _figure(
        "B",
        "the bytes that stay, including the result; negative where a call frees more than it allocates",
        {"type": "integer"},
    ),
    "small_allocations": _figure("", "number of requests of less than 4,096 bytes", _COUNT),
    "small_bytes": _figure("B", "bytes of the requests that `small_allocations` counts", _COUNT),
}

#: Field of a measurement → its specification, in the order of the fields.
SPECS: dict[str, FieldSpec] = {
    "recipe": FieldSpec("", "what is computed", _TEXT),
    "variant": FieldSpec("", "how the recipe is computed", _NAME),
    "runtime": FieldSpec("", "the library whose arrays the variant receives", _NAME),
    "writes": FieldSpec("", f"where the result goes: {_one_of(Writes)}", _word(Writes)),
    "device": FieldSpec("", _one_of(DeviceKind), _word(DeviceKind)),
    "dtype": FieldSpec("", f"dtype of the input: {_one_of(DTYPES)}", _word(DTYPES)),
    "layout": FieldSpec("", f"layout of the input: {_one_of(Layout)}", _word(Layout)),
    "batch": FieldSpec(
        "images", "number of images; missing for one image without a batch axis", _optional(_AT_LEAST_ONE)
    ),
    "height": FieldSpec("pixels", "size of the input images", _AT_LEAST_ONE),
    "width": FieldSpec("pixels", "size of the input images", _AT_LEAST_ONE),
    "channels": FieldSpec("", "channels of the input images", _AT_LEAST_ONE),
    "threads": FieldSpec("", "number of threads given to every runtime", _AT_LEAST_ONE),
    "status": FieldSpec("", f"outcome of the case: {_one_of(Status)}", _word(Status)),
    "reason": FieldSpec("", "explanation of the status", _optional(_TEXT)),
    "known": FieldSpec("", "evidence that a library's path is known to be wrong here, or to raise", _optional(_TEXT)),
    "includes_transfers": FieldSpec("", "whether a call on a device takes and returns host arrays", _TRUTH),
    "missing": FieldSpec(
        "", "mapping of field → why it has no value", {"type": "object", "additionalProperties": _NAME}, cell=False
    ),
    "ranges": FieldSpec(
        "",
        "mapping of field → smallest and largest value, where traced calls or processes differ or the peaks of two "
        "instruments may coincide",
        {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
        },
        cell=False,
    ),
    **_times("seconds", "time per call: median over the medians of blocks"),
    "least_change": FieldSpec(
        "fraction",
        "minimum detectable effect: the smallest slowdown that another run with as many blocks, in the same condition "
        "of the machine, would show four times in five",
        _optional(_NOT_NEGATIVE),
        required=False,
    ),
    **_times("launch_seconds", "host time until a call is queued on a device", required=False),
    **_times("device_seconds", "device time by the device's clock", required=False),
    **_times("cold_seconds", "host time until the fence with an empty device cache", required=False),
    **_times("cold_device_seconds", "device time with an empty device cache", required=False),
    "seconds_first": _figure("s", "time of the first call, which traces and compiles", _POSITIVE),
    "calls": _figure("", "total number of timed calls", _AT_LEAST_ONE),
    "blocks": _figure("", "number of blocks, each a fresh process", _AT_LEAST_ONE),
    "stopped_by": _figure("", f"why timing stopped: {_one_of(StopReason)}", _word(StopReason)),
    "samples": _figure(
        "s",
        "time per call of each sample, one list for each block",
        {"type": "array", "items": {"type": "array", "minItems": 1, "items": _POSITIVE}},
        cell=False,
    ),
    "marks": FieldSpec(
        "",
        "what disturbed each sample, one list for each block; an empty text where the system reports nothing",
        _optional({"type": "array", "items": {"type": "array", "items": _word(Mark)}}),
        cell=False,
        required=False,
    ),
    "clocks_mhz": _figure(
        "MHz",
        "clock of the GPU's processors in each block: the median over its samples, or without NVML at its end",
        {"type": "array", "items": _optional(_COUNT)},
        cell=False,
        required=False,
    ),
    "temperatures_c": _figure(
        "°C",
        "highest temperature of the GPU in each block, or without NVML at its end",
        {"type": "array", "items": _optional({"type": "integer"})},
        cell=False,
        required=False,
    ),
    "slowed": _figure(
        "",
        "why the GPU's clocks were lower than they could be, one list for each block",
        {"type": "array", "items": {"type": "array", "items": _TEXT}},
        cell=False,
        required=False,
    ),
    **dict.fromkeys(
        ("joules", "joules_low", "joules_high"),
        _figure(
            "J",
            "energy of a call on a GPU, without what the idle device uses, and its 95 % interval",
            {"type": "number"},
            required=False,
        ),
    ),
    "images_per_second": _figure("1/s", "images processed per second", _POSITIVE),
    "bytes_moved": _figure("B", "bytes of input and result, counted once each", _AT_LEAST_ONE),
    "bytes_per_second": _figure("B/s", "`bytes_moved` over `seconds`", _POSITIVE),
    "copy_fraction": _figure(
        "fraction",
        "speed of a call as a fraction of the speed, counting bytes read and bytes written, at which the machine (on "
        "a GPU, the device) copied in the same blocks",
        _POSITIVE,
    ),
    **_ALLOCATIONS,
    **_of_space(MemorySpace.HOST),
    **_of_space(MemorySpace.DEVICE),
    "device_rounded_bytes": _figure(
        "B", "bytes that the device's pool reserved for `device_allocated_bytes`", _COUNT, required=False
    ),
    "driver_allocations": _figure(
        "", "number of the pool's requests to the driver, made when the pool had no memory left", _COUNT, required=False
    ),
    "driver_bytes": _figure("B", "bytes of the requests that `driver_allocations` counts", _COUNT, required=False),
    "transferred_bytes": _figure(
        "B", "bytes that one call copies between the host's memory and the device's", _COUNT, required=False
    ),
    "input_changed": _figure("", "whether the given array holds other values after the call", _TRUTH),
    "result_shares": _figure("", f"whose memory holds the result: {_one_of(ResultShares)}", _word(ResultShares)),
    "result_dtype": _figure("", "dtype of the result", _TEXT),
    "result_contiguous": _figure("", "whether the result is contiguous", _TRUTH),
    "max_abs_error": _figure("the result's", "largest distance from the float64 reference", _NOT_NEGATIVE),
    "max_ulp": _figure(
        "ULP",
        "largest distance from the float64 reference in units in the last place; reported, never judged",
        _NOT_NEGATIVE,
    ),
    "code": _figure("", "code that defines the measured call, ready to be copied", _TEXT, cell=False, required=False),
    "timeline": _figure(
        "B",
        "requests and releases (negative) of one call in order, each with what requested it",
        {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["bytes", "space", "op"],
                "additionalProperties": False,
                "properties": {
                    "bytes": {"type": "integer"},
                    "space": _word((MemorySpace.HOST, MemorySpace.DEVICE)),
                    "op": _TEXT,
                },
            },
        },
        cell=False,
        required=False,
    ),
    "instruments": FieldSpec(
        "", "instruments that gave these numbers; a device's clock is the last one", {"type": "array", "items": _TEXT}
    ),
    "audited": FieldSpec(
        "",
        "time of the audit and of the allocation trace, in UTC; earlier than the run where an earlier run made them",
        _optional(_TEXT),
        required=False,
    ),
}
