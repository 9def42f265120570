"""The atlas: what machines reach on the same input, by the fastest right variant on the CPU and on the GPU of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from copycost.results.contribution import Contribution, Figures


@dataclass(frozen=True)
class Entry:
    """The fastest variant of one machine on one device.

    Attributes
    ----------
    contribution : Contribution
    device : str
    fastest : Figures
    images_per_second : float
    low, high : float or None
        95 % interval of it.
    images_per_joule : float or None
        Of the GPU's energy alone, without what it uses when idle.
    images_per_currency : float or None
        Images for one unit of the currency of the machine's price.
    """

    contribution: Contribution
    device: str
    fastest: Figures
    images_per_second: float
    low: float | None
    high: float | None
    images_per_joule: float | None
    images_per_currency: float | None


@dataclass(frozen=True)
class Chapter:
    """Machines that have measured the same input by the same method.

    Attributes
    ----------
    recipe, dtype, layout : str
    batch : int or None
    height, width : int
    engine : int
        Version of the measuring method.
    entries : tuple of Entry
        Fastest first.
    """

    recipe: str
    dtype: str
    layout: str
    batch: int | None
    height: int
    width: int
    engine: int
    entries: tuple[Entry, ...]

    @property
    def title(self) -> str:
        """Return the input in words: ``tf 32×224×224 float32``."""
        shape = "×".join(str(part) for part in (self.batch, self.height, self.width) if part is not None)
        layout = "" if self.layout == "channels_last" else f" {self.layout}"
        return f"{self.recipe} {shape} {self.dtype}{layout}"


def atlas(contributions: Sequence[Contribution]) -> list[Chapter]:
    """Return the chapters of an atlas: those that most machines have measured first."""
    best: dict[tuple[str, str, str, int | None, int, int, int], dict[tuple[int, str], Figures]] = {}
    for number, contribution in enumerate(contributions):
        for case in contribution.cases:
            key = (case.recipe, case.dtype, case.layout, case.batch, case.height, case.width,
                   contribution.machine.engine)  # fmt: skip
            place = best.setdefault(key, {})
            known = place.get((number, case.device))
            if known is None or case.seconds < known.seconds:
                place[number, case.device] = case
    chapters = []
    for key, found in best.items():
        entries = [_entry(contributions[number], device, case) for (number, device), case in found.items()]
        entries.sort(key=lambda entry: -entry.images_per_second)
        chapters.append(Chapter(*key, tuple(entries)))
    machines = {id(chapter): len({id(entry.contribution) for entry in chapter.entries}) for chapter in chapters}
    return sorted(chapters, key=lambda chapter: (-machines[id(chapter)], chapter.title, -chapter.engine))


def _entry(contribution: Contribution, device: str, case: Figures) -> Entry:
    images = case.batch or 1
    price = contribution.price
    return Entry(
        contribution, device, case, images / case.seconds,
        images / case.seconds_high if case.seconds_high else None,
        images / case.seconds_low if case.seconds_low else None,
        images / case.joules if case.joules else None,
        3600 * images / case.seconds / price.amount if price else None,
    )  # fmt: skip
