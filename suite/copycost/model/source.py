"""Where a recipe or a variant is defined."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """A module, or a Python file, that registers recipes and variants.

    Attributes
    ----------
    name : str
        Name of the module, or path of the file.
    side : str
        Side of a gate that it belongs to, ``"base"`` or ``"head"``, where both sides have modules of the same names;
        else empty.
    """

    name: str
    side: str = ""

    @property
    def is_file(self) -> bool:
        """Whether it is a file and not a module."""
        return self.name.endswith(".py")

    @property
    def is_shipped(self) -> bool:
        """Whether it is a module of copycost."""
        return not self.is_file and self.name.partition(".")[0] == "copycost"

    @property
    def label(self) -> str:
        """Name for people: a file without its folder."""
        return Path(self.name).name if self.is_file else self.name

    def __str__(self) -> str:
        return self.name
