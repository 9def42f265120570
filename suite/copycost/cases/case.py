"""A case: a recipe, a variant, and the kind of array that the variant receives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from copycost.model.vocabulary import DeviceKind, Layout
from copycost.recipes import result_dtype
from copycost.registry import Recipe, Variant

CHANNELS = 3

#: Number of inputs that a case is measured on: a batch, its twin (see `copycost.cases.images.twin`), and another batch.
INPUTS = 3


class CaseError(ValueError):
    """Raised for a selection that matches nothing, or an invalid value of an axis. The message is one line."""


@dataclass(frozen=True)
class Case:
    """Recipe × variant × batch × height × width × dtype × layout × device.

    ``batch`` is None for one image without a batch axis.
    """

    recipe: Recipe
    variant: Variant
    device: DeviceKind
    dtype: str
    layout: Layout
    batch: int | None
    height: int
    width: int

    @property
    def key(self) -> tuple[Any, ...]:
        """Identity of the case within a run."""
        return (*self.group, self.variant.name)

    @property
    def group(self) -> tuple[Any, ...]:
        """Identity of the group of cases that are timed together."""
        return (
            self.recipe.name, self.device, self.dtype, self.layout, self.batch, self.height, self.width,
        )  # fmt: skip

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of each input."""
        image = (self.height, self.width, CHANNELS)
        if self.layout == Layout.CHANNELS_FIRST:
            image = (CHANNELS, self.height, self.width)
        return image if self.batch is None else (self.batch, *image)

    @property
    def elements(self) -> int:
        """Number of elements of all inputs."""
        return self.recipe.inputs * (self.batch or 1) * self.height * self.width * CHANNELS

    @property
    def nbytes(self) -> int:
        """Bytes of all inputs."""
        return self.elements * np.dtype(self.dtype).itemsize

    @property
    def result_dtype(self) -> np.dtype:
        """Required dtype of the result, unless the reference returns integers or booleans."""
        return np.dtype(self.recipe.dtype) if self.recipe.dtype else result_dtype(self.dtype)

    @property
    def computed_dtype(self) -> np.dtype:
        """Float dtype that the recipe is computed in."""
        return computed_dtype(self.recipe, self.dtype)

    def label(self) -> str:
        """Return a short description of the case."""
        number = "" if self.batch is None else f"{self.batch}×"
        layout = "" if self.layout == Layout.CHANNELS_LAST else f" {self.layout}"
        return (
            f"{self.recipe.name} {self.variant.name} {number}{self.height}×{self.width}×{CHANNELS}"
            f" {self.dtype}{layout} {self.device}"
        )


def computed_dtype(recipe: Recipe, dtype: str | np.dtype) -> np.dtype:
    """Return the float dtype that a recipe is computed in for an input of this dtype."""
    required = np.dtype(recipe.dtype) if recipe.dtype else result_dtype(dtype)
    return required if required.kind == "f" else result_dtype(dtype)


def as_row(case: Case) -> dict[str, Any]:
    """Return the fields of a measurement that describe the case."""
    return {
        "recipe": case.recipe.name,
        "variant": case.variant.name,
        "runtime": case.variant.runtime,
        "writes": case.variant.writes,
        "device": case.device,
        "dtype": case.dtype,
        "layout": case.layout,
        "batch": case.batch,
        "height": case.height,
        "width": case.width,
        "channels": CHANNELS,
        "known": case.variant.known.get(case.dtype),
        "includes_transfers": case.variant.includes_transfers,
    }
