"""What differs between the environments of asv's results, as Markdown tables: python versions.py .asv/results

Times are told where one is half as long again as another, beyond both intervals: environments are measured one after
the other, and a machine is not the same from one quarter of an hour to the next.
"""

import string
import sys

from copycost.model import numbers
from copycost.results import load

CASE = ["recipe", "variant", "dtype", "batch", "height", "width", "layout"]

table = load.read(sys.argv[1])
table = table[(table["status"] == "ok") & (table["device"] == "cpu") & table["allocations"].notna()]
table = table[table["commit"] == table["commit"].iloc[0]]  # the newest
letters = dict(zip(string.ascii_uppercase, sorted(table["environment"].unique()), strict=False))
by_environment = [table[table["environment"] == name].set_index(CASE) for name in letters.values()]
cases = [case for case in by_environment[0].index if all(case in frame.index for frame in by_environment)]

allocations, times = [], []
for case in cases:
    rows = [frame.loc[[case]].iloc[0] for frame in by_environment]
    title = f"| {case[0]} | `{case[1]}` | {case[2]} | {case[3]} |"
    # Of what Eigen allocates, the sizes vary a little from call to call.
    by_bytes = [int(row["allocated_bytes"]) for row in rows]
    if len({row["allocations"] for row in rows}) > 1 or max(by_bytes) > 1.01 * min(by_bytes):
        cells = [f"{row['allocations']}: {numbers.size(int(row['allocated_bytes']))}" for row in rows]
        allocations.append(f"{title} {' | '.join(cells)} |")
    if any(a["seconds_low"] > 1.5 * b["seconds_high"] for a in rows for b in rows):
        cells = [
            f"{numbers.seconds(row['seconds'])} ±{100 * (row['seconds_high'] / row['seconds'] - 1):.0f} %"
            for row in rows
        ]
        times.append(f"{title} {' | '.join(cells)} |")

for letter, name in letters.items():
    print(f"* {letter}: `{name}`")
columns = f"| recipe | variant | dtype | batch | {' | '.join(letters)} |"
for title, lines in (("Allocations differ", allocations), ("Times differ", times)):
    print(f"\n{title} in {len(lines)} of {len(cases)} cases:\n")
    print(columns, f"| --- | --- | --- | ---: |{' ---: |' * len(letters)}", *lines, sep="\n")
