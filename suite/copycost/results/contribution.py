"""What a machine contributes to an atlas: a small file of JSON that names the hardware, but no host, user or file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from copycost import registry
from copycost.catalog import discovery
from copycost.model.measurement import Measurement
from copycost.model.vocabulary import MEASURED
from copycost.results import documents
from copycost.results.store import RunError

SCHEMA = 1

#: Value of ``kind``, by which a contribution is told from other JSON.
_KIND = "copycost contribution"

#: Maximum number of bytes of a file.
_LARGEST = 1 << 25


@dataclass(frozen=True)
class Machine:
    """The hardware and the software that were measured.

    Attributes
    ----------
    cpu : str
    cpus : int
    memory_bytes : int or None
    gpus : tuple of str
        Names.
    driver : str or None
        Version of the GPUs' driver.
    system : str
    python : str
    libraries : mapping of str to str
        Versions.
    threads : int
    engine : int
        Version of the measuring method. Times of different ones must not be compared.
    copycost : str
    month : str
        Year and month of the run: ``2026-01``.
    """

    cpu: str
    cpus: int
    memory_bytes: int | None
    gpus: tuple[str, ...]
    driver: str | None
    system: str
    python: str
    libraries: Mapping[str, str]
    threads: int
    engine: int
    copycost: str
    month: str


@dataclass(frozen=True)
class Price:
    """Price of an hour of the machine, in a currency such as ``"EUR"``."""

    amount: float
    currency: str


@dataclass(frozen=True)
class Figures:
    """Figures of one case, as in `Measurement`."""

    recipe: str
    variant: str
    device: str
    dtype: str
    layout: str
    batch: int | None
    height: int
    width: int
    seconds: float
    seconds_low: float | None
    seconds_high: float | None
    allocated_bytes: int | None
    joules: float | None


@dataclass(frozen=True)
class Contribution:
    """Figures of a machine.

    Attributes
    ----------
    name : str
        Given by whoever contributes it.
    machine : Machine
    price : Price or None
    cases : tuple of Figures
    """

    name: str
    machine: Machine
    price: Price | None
    cases: tuple[Figures, ...]


def make(
    name: str, environment: Mapping[str, Any], measurements: Iterable[Measurement], price: Price | None
) -> Contribution:
    """Return what a run contributes: its right results of shipped variants, and the hardware.

    Raises
    ------
    RunError
        If there is no such result.
    """
    discovery.load_shipped()
    shipped = {key for key, variant in registry.variants.items() if variant.source.is_shipped}
    cases = tuple(
        Figures(**{field.name: _plain(getattr(m, field.name)) for field in fields(Figures)})
        for m in measurements
        if m.status in MEASURED and m.known is None and m.seconds is not None and (m.recipe, m.variant) in shipped
    )
    if not cases:
        raise RunError("the run has no time of a right result of a variant that ships with copycost")
    if missing := {"cpus", "python", "libraries", "threads", "engine", "copycost", "time"} - environment.keys():
        raise RunError(f"the run does not say its {min(missing)}")
    gpus = [gpu for gpu in environment.get("gpus") or () if isinstance(gpu, Mapping)]
    machine = Machine(
        environment.get("cpu") or "unknown", environment["cpus"], environment.get("memory_bytes"),
        tuple(str(gpu.get("name")) for gpu in gpus), next((gpu.get("driver") for gpu in gpus), None),
        environment.get("os") or "unknown", environment["python"], dict(environment["libraries"]),
        environment["threads"], environment["engine"], environment["copycost"], str(environment["time"])[:7],
    )  # fmt: skip
    return Contribution(name, machine, price, cases)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value  # a word of a vocabulary


def text(contribution: Contribution) -> str:
    """Return a contribution as the text of a file: rows of values, with their names once."""
    document = asdict(contribution)
    columns = [field.name for field in fields(Figures)]
    document["cases"] = {"columns": columns, "rows": [list(case.values()) for case in document["cases"]]}
    return json.dumps({"schema": SCHEMA, "kind": _KIND} | document, allow_nan=False, indent=1) + "\n"


_TEXT: dict[str, Any] = {"type": "string"}
_OPTIONAL_TEXT: dict[str, Any] = {"type": ["string", "null"]}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 1}
_OPTIONAL_COUNT: dict[str, Any] = {"type": ["integer", "null"], "minimum": 0}
_OPTIONAL_NUMBER: dict[str, Any] = {"type": ["number", "null"], "minimum": 0}

#: JSON Schema of a file, but for the rows, of which each column is checked.
_is_contribution = documents.checker(
    {
        "type": "object",
        "required": ["schema", "kind", "name", "machine", "price", "cases"],
        "properties": {
            "name": _TEXT,
            "kind": _TEXT,
            "machine": {
                "type": "object",
                "required": [field.name for field in fields(Machine)],
                "properties": {
                    "cpus": _COUNT, "threads": _COUNT, "memory_bytes": _OPTIONAL_COUNT, "driver": _OPTIONAL_TEXT,
                    "engine": {"type": "integer", "minimum": 0}, "gpus": {"type": "array", "items": _TEXT},
                    "libraries": {"type": "object", "additionalProperties": _TEXT},
                    **dict.fromkeys(("cpu", "system", "python", "copycost", "month"), _TEXT),
                },
            },
            "cases": {
                "type": "object",
                "required": ["columns", "rows"],
                "properties": {
                    "columns": {"type": "array", "items": _TEXT},
                    "rows": {"type": "array", "items": {"type": "array"}},
                },
            },
        },
    }
)  # fmt: skip

_is_price = documents.checker(
    {
        "type": "object",
        "required": ["amount", "currency"],
        "properties": {"amount": {"type": "number", "minimum": 0}, "currency": _TEXT},
    }
)

#: Checks of the columns of the rows.
_COLUMNS = {
    **{name: documents.checker(_TEXT) for name in ("recipe", "variant", "device", "dtype", "layout")},
    **{name: documents.checker(_COUNT) for name in ("height", "width")},
    "batch": documents.checker({"type": ["integer", "null"], "minimum": 1}),
    "seconds": documents.checker({"type": "number", "minimum": 0}),
    "allocated_bytes": documents.checker(_OPTIONAL_COUNT),
    **{name: documents.checker(_OPTIONAL_NUMBER) for name in ("seconds_low", "seconds_high", "joules")},
}


def read(path: Path) -> Contribution:
    """Read a contribution, which may be a stranger's.

    Raises
    ------
    RunError
        If the file is none. The message is one line.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise RunError(f"{path} is larger than {_LARGEST >> 20} MiB")
        document = documents.read(path)
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise RunError(f"{path} is no contribution: {error}") from None
    if not isinstance(document, dict) or document.get("kind") != _KIND:
        raise RunError(f"{path} is no contribution")
    if document.get("schema") != SCHEMA:
        raise RunError(f"{path} has schema {documents.short(document.get('schema'))}; this version reads {SCHEMA}")
    if not _is_contribution(document):
        raise RunError(f"{path} is no contribution: a field is missing or has another type")
    price, machine, cases = document["price"], document["machine"], document["cases"]
    if price is not None and not (_is_price(price) and price["amount"] > 0):
        raise RunError(f"{path} is no contribution: price is {documents.short(price)}")
    names = [field.name for field in fields(Figures)]
    if cases["columns"] != names or any(len(row) != len(names) for row in cases["rows"]):
        raise RunError(f"{path} is no contribution: its columns are others")
    for row in cases["rows"]:
        for name, value in zip(names, row, strict=True):
            if not _COLUMNS[name](value) or (name == "seconds" and value == 0):
                raise RunError(f"{path} is no contribution: {name} is {documents.short(value)}")
    own = {field.name: machine[field.name] for field in fields(Machine)}
    return Contribution(
        document["name"][:80], Machine(**{**own, "gpus": tuple(own["gpus"])}),
        Price(price["amount"], price["currency"][:8]) if price else None,
        tuple(Figures(**dict(zip(names, row, strict=True))) for row in cases["rows"]),
    )  # fmt: skip
