"""Names of the files that the processes of a group of cases share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Files:
    """Files with the inputs and references of a group of cases.

    Attributes
    ----------
    inputs : tuple of tuple of str
        ``.npy`` files with the inputs, in the case's dtype and layout: one file per array of an input. The second
        input is the twin of the first.
    twins : tuple of str or None
        ``.npy`` files with the indices at which the first two inputs differ. None if they differ in their shapes.
    references : tuple of str
        Path of each input's reference: see `save_references`.
    is_made : bool
        Whether the recipe has made the inputs, so that integers of less than two axes are not pixels.
    is_tuple : bool
        Whether a call receives a tuple, also of one array.
    dtype : str
        Dtype in which variants compute: the required one of a floating-point result.
    images : str
        ``.npy`` file with the images that the first input was made from. Empty if the recipe does not make inputs.
    """

    inputs: tuple[tuple[str, ...], ...] = ()
    twins: tuple[str, ...] | None = ()
    references: tuple[str, ...] = ()
    is_made: bool = False
    is_tuple: bool = False
    dtype: str = ""
    images: str = ""
