"""The tables of docs/results/fastest-variants.md, from a run:  python docs/examples/faster.py RUN"""

import sys
from pathlib import Path

from copycost.model import numbers
from copycost.results import load

SHOWN = (
    "numpy-new", "numpy-out", "numpy-blocked", "numpy-table", "numexpr-out", "numba-out", "tf-xla", "tf-variable-xla",
)  # fmt: skip

_, measurements = load.load(Path(sys.argv[1]))
groups: dict[tuple, dict] = {}
for m in measurements:
    if m.status == "ok":
        groups.setdefault((m.recipe, m.dtype, m.batch), {})[m.variant] = m


def time(m):
    return "–" if m is None else f"{numbers.seconds(m.seconds)} {m.spread()}"


def times(base, m):
    return "–" if base is None else f"{numbers.three(base.seconds / m.seconds)} ×"


# What was chosen for its time is shown without an interval: its own would not allow for the choice.
recipes = list(dict.fromkeys(recipe for recipe, *_ in groups))
order = sorted(
    (key for key in groups if "numpy-new" in groups[key]), key=lambda key: (recipes.index(key[0]), key[1], key[2])
)
HEAD = ("recipe", "dtype", "batch", "fastest", "time", "of copy speed", "NumPy alone", "against `numpy-new`",
        "against `keras-numpy`")  # fmt: skip
print(f"| {' | '.join(HEAD)} |\n| --- | --- | ---: | --- | ---: | ---: | --- | ---: | ---: |")
for key in order:
    group = groups[key]
    best = min(group.values(), key=lambda m: m.seconds)
    numpy = min((m for m in group.values() if m.runtime == "numpy"), key=lambda m: m.seconds)
    recipe, dtype, batch = key
    print(
        f"| `{recipe}` | {dtype} | {batch} | `{best.variant}` | {numbers.seconds(best.seconds)} "
        f"| {numbers.percent(best.copy_fraction)} | `{numpy.variant}` {numbers.seconds(numpy.seconds)} "
        f"| {times(group['numpy-new'], best)} | {times(group.get('keras-numpy'), best)} |"
    )
print("\nBatch 32, times:\n")
print("| recipe | dtype |" + "".join(f" `{name}` |" for name in SHOWN))
print("| --- | --- |" + " ---: |" * len(SHOWN))
for recipe, dtype, batch in order:
    if batch == 32:
        cells = "".join(f" {time(groups[recipe, dtype, batch].get(name))} |" for name in SHOWN)
        print(f"| `{recipe}` | {dtype} |{cells}")
