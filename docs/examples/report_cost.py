"""What a report costs: time, CPU time, memory and the size of the page for 500 to 100,000 measurements.

The rows are those of a run, repeated with other heights and recipes.

    python docs/examples/report_cost.py reports/sample/run
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sample = Path(sys.argv[1])
lines = [json.loads(line) for line in (sample / "measurements.jsonl").read_text().splitlines()]
print("| measurements | time | CPU time | memory | page |\n| ---: | ---: | ---: | ---: | ---: |")
for size in (500, 10_000, 100_000):
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        run.mkdir()
        (run / "environment.json").write_text((sample / "environment.json").read_text())
        with open(run / "measurements.jsonl", "w") as file:
            for k in range(size):
                row, again = lines[k % len(lines)], k // len(lines)
                # No two cases are the same: other sizes, and with every twentieth another recipe.
                more = {"height": row["height"] + again % 20, "recipe": row["recipe"] + "'" * (again // 20)}
                file.write(json.dumps(row | more) + "\n")
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "copycost", "report", run, "--html", Path(folder) / "page"],
            stdout=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - start
        cpu = used.ru_utime + used.ru_stime
        page = (Path(folder) / "page" / "index.html").stat().st_size
        memory = used.ru_maxrss / 2**20
        print(f"| {size:,} | {took:.1f} s | {cpu:.1f} s | {memory:.2f} GiB | {page / 1e6:.1f} MB |", flush=True)
        assert status == 0
