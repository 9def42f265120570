"""Make a small asv project with a history: ``python -m peers.toy_project FOLDER [COMMITS]``.

Its environments need no package, and differ in a variable only, so that a cell takes asv's own time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from pathlib import Path

from peers import tools

BENCHMARKS = '''\
"""One figure that is counted, and one that is timed."""

import toy


class Counts:
    def track_length(self):
        for _ in range({loops}):
            pass
        return toy.LENGTH

    track_length.unit = "items"

    def track_times(self, factor):
        return factor * toy.LENGTH

    track_times.params = [2, 3]


class Times:
    def time_sum(self):
        sum(range(1000 * toy.LENGTH))
'''

#: Copies the only module. Nothing is built.
_INSTALL = "python -c \"import shutil, sysconfig; shutil.copy('{build_dir}/toy.py', sysconfig.get_paths()['purelib'])\""


def make(folder: Path, commits: int, environments: int = 2, broken: Collection[int] = (), loops: int = 0) -> Path:
    """Make a repository, and return its folder.

    Parameters
    ----------
    folder : Path
    commits : int
    environments : int, optional
    broken : collection of int, optional
        Commits, by their number, that cannot be installed.
    loops : int, optional
        Iterations of a loop in the benchmark that counts: work for a CPU.
    """
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    configuration = {
        "version": 1, "project": "toy", "repo": ".", "branches": ["main"], "dvcs": "git",
        "environment_type": "virtualenv", "pythons": [python], "benchmark_dir": "benchmarks",
        "env_dir": ".asv/env", "results_dir": ".asv/results", "html_dir": ".asv/html", "launch_method": "forkserver",
        "build_command": [], "uninstall_command": [], "install_command": [_INSTALL],
        "matrix": {}, "exclude": [{"python": ".*"}],
        "include": [{"python": python, "env_nobuild": {"TOY": str(k)}} for k in range(environments)],
    }  # fmt: skip
    (folder / "benchmarks").mkdir(parents=True)
    (folder / "benchmarks" / "__init__.py").touch()
    (folder / "benchmarks" / "toy_benchmarks.py").write_text(BENCHMARKS.format(loops=loops))
    (folder / "asv.conf.json").write_text(json.dumps(configuration, indent=1) + "\n")
    (folder / ".gitignore").write_text(".asv\n")
    tools.git(folder, "init", "-q", "-b", "main")
    for number in range(commits):
        module = folder / "toy.py"
        module.write_text(f"LENGTH = {number + 1}\n")
        if number in broken:
            module.unlink()
        tools.commit(folder, f"length {number + 1}")
    return folder


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
