"""`copycost fleet`: an asv project on several hosts, which are processes with made-up names here."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import stat
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("distributed", reason="distributed is not installed")

from copycost.fleet import canary, cluster, hosts, journal, plan, project
from copycost.fleet.canary import Canary
from copycost.fleet.cluster import Cluster
from copycost.fleet.task import Work
from copycost.machine import doctor
from copycost.tracking.project import ProjectError
from peers import tools, toy_project

ROOT = Path(__file__).parents[2]
CELLS = ["fleet", "run", "ALL", "--no-canary"]


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of hosts whose environments of asv are made once for all tests."""
    return os.environ | {"COPYCOST_CACHE_DIR": str(tmp_path_factory.mktemp("cache")), "COLUMNS": "200"}


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """An asv project with three commits and two environments."""
    return toy_project.make(tmp_path / "toy", commits=3)


def fleet(folder: Path, variables: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "copycost", *words], cwd=folder, env=variables, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


def results(folder: Path) -> Path:
    return folder / ".asv" / "results"


def measured(folder: Path) -> Counter[tuple[str, str]]:
    """Return how often the journal has each cell."""
    entries = journal.read(results(folder))
    return Counter((e["commit"], e["environment"]) for e in entries if e["event"] == "cell" and e["state"] == "done")


def counts(folder: Path) -> dict[tuple[str, str], Any]:
    """Return what was counted at each commit in each environment, whatever the host."""
    found = {}
    for path in sorted(results(folder).glob("*/*.json")):
        if path.name != "machine.json":
            document = json.loads(path.read_text())
            row = document["results"]["toy_benchmarks.Counts.track_length"]
            found[document["commit_hash"], document["env_name"]] = row[0]
    return found


def overlaps(folder: Path) -> int:
    """Return how many timed intervals of a host begin before the one before has ended."""
    entries = [e for e in journal.read(results(folder)) if e["event"] == "cell" and e["state"] == "done"]
    number = 0
    for host in {entry["host"] for entry in entries}:
        spans = sorted(entry["timed"] for entry in entries if entry["host"] == host)
        number += sum(first[1] > second[0] for first, second in pairwise(spans))
    return number


class Hosts:
    """A scheduler, and workers with made-up host names, each with lock files of its own."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder, self.variables = folder, variables
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.address = ""

    def start(self, *names: str) -> None:
        """Start the scheduler, unless it runs, and workers."""
        log = open(self.folder / "dask.log", "ab")  # noqa: SIM115  # until the processes end
        if "scheduler" not in self.processes:
            file = self.folder / "scheduler.json"
            file.unlink(missing_ok=True)
            command = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
            self.processes["scheduler"] = subprocess.Popen(
                [sys.executable, *command, "--scheduler-file", str(file)], cwd=self.folder, stdout=log, stderr=log
            )
            end = time.monotonic() + 60
            while not (file.exists() and file.read_text().endswith("}")):
                assert time.monotonic() < end
                time.sleep(0.05)
            self.address = json.loads(file.read_text())["address"]
        for name in names:
            locks = self.folder / f"locks-{name}"
            locks.mkdir(exist_ok=True)
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "copycost", "fleet", "worker", self.address, "--", "--local-directory",
                 str(self.folder / name)],
                cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
                env=self.variables | {"COPYCOST_HOST": name, "COPYCOST_LOCK_DIR": str(locks)},
            )  # fmt: skip
        (self.folder / "fleet.toml").write_text(f'[cluster]\nkind = "address"\naddress = "{self.address}"\n')

    def kill(self, name: str) -> None:
        """Kill the scheduler, or a worker with the nanny that would start it again."""
        process = self.processes.pop(name)
        if name == "scheduler":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        for name in list(self.processes):
            self.kill(name)


@contextmanager
def started(folder: Path, variables: dict[str, str], *names: str) -> Iterator[Hosts]:
    hosts = Hosts(folder, variables)
    try:
        hosts.start(*names)
        yield hosts
    finally:
        hosts.close()


def wait_for(folder: Path, number: int) -> None:
    """Wait until so many cells are measured."""
    end = time.monotonic() + 120
    while sum(measured(folder).values()) < number:
        assert time.monotonic() < end
        time.sleep(0.05)


def nothing_runs_on(host: str) -> None:
    """Wait until no process of a host is left: what its worker has started ends with it."""
    end = time.monotonic() + 20
    while found := [pid for pid in filter(str.isdigit, os.listdir("/proc")) if is_of(pid, host)]:
        assert time.monotonic() < end, found
        time.sleep(0.05)


def is_of(pid: str, host: str) -> bool:
    try:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False
        return f"COPYCOST_HOST={host}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


@pytest.mark.parametrize(
    ("path", "is_own"),
    [
        ("a/1234-py.json", True), ("a/machine.json", True), ("b/1234-py.json", False), ("benchmarks.json", False),
        ("a/../b/x.json", False), ("../x.json", False), ("/etc/x.json", False), ("a/.lock.json", False),
        ("a/x.py", False),
    ],
)  # fmt: skip
def test_a_host_writes_its_own_results_only(path: str, is_own: bool) -> None:
    from copycost.fleet import run

    assert run._is_own(path, "a") is is_own


def test_a_fleet_whose_worker_and_scheduler_are_killed_goes_on(
    toy: Path, tmp_path: Path, variables: dict[str, str]
) -> None:
    """To the cells of a run on one host, each measured once, and no two at a time on one host."""
    alone = tmp_path / "alone"
    shutil.copytree(toy, alone)
    with started(tmp_path, variables, "a", "b", "c") as made_up:
        words = [sys.executable, "-m", "copycost", *CELLS, "--cluster", str(tmp_path / "fleet.toml")]
        with subprocess.Popen(words, cwd=toy, env=variables, stderr=subprocess.PIPE, text=True) as process:
            wait_for(toy, 1)
            made_up.kill("b")
            nothing_runs_on("b")
            wait_for(toy, 2)
            made_up.kill("scheduler")
            _, errors = process.communicate(timeout=120)
        assert process.returncode in (1, 2), errors
        assert "Traceback" not in errors, errors
        done = sum(measured(toy).values())
        assert 2 <= done < 6
        for name in ("a", "c"):
            made_up.kill(name)
        made_up.start("a", "b", "c")
        again = fleet(toy, variables, *CELLS, "--cluster", str(tmp_path / "fleet.toml"))
        assert again.returncode == 0, again.stderr
    assert fleet(alone, variables, *CELLS).returncode == 0
    assert set(measured(toy)) == set(measured(alone))
    assert set(measured(toy).values()) == {1}
    assert counts(toy) == counts(alone)
    assert len(counts(toy)) == 6
    assert overlaps(toy) == 0
    shown = fleet(toy, variables, "fleet", "status", "ALL")
    assert shown.returncode == 0, shown.stdout
    assert "6 of 6 cells measured, 0 missing" in shown.stdout
    nothing = fleet(toy, variables, *CELLS)
    assert nothing.returncode == 0
    assert sum(measured(toy).values()) == 6


def test_without_the_resource_timed_cells_overlap(toy: Path, tmp_path: Path, variables: dict[str, str]) -> None:
    """What keeps them apart is what a timing task asks for, and not that there is one at a time."""
    from copycost.fleet import run
    from copycost.fleet.roster import Settings

    known = project.load(toy)
    hashes = project.commits(known, "ALL")
    shards = project.shards(known, 1, exact=False)
    cells = plan.cells(known, hashes, shards)
    work = Work(known.configuration, known.repository, project.packed(known))
    with started(tmp_path, variables, "a") as made_up:
        with cluster.connected(Cluster("address", address=made_up.address)) as client:
            settings = Settings(is_exclusive=False, is_tested=False)
            left = run.run(known, work, cells, shards, client, settings, lambda event: None)
    assert not any(left.cells.values())
    assert overlaps(toy) > 0


def test_slurm_gets_one_exclusive_process_for_each_host(toy: Path, tmp_path: Path, variables: dict[str, str]) -> None:
    """A made-up sbatch runs the scripts that it is given."""
    programs = tmp_path / "bin"
    programs.mkdir()
    scripts = {
        "sbatch": f'cp "$1" {tmp_path}/jobs/$$\n'
                  f"setsid env COPYCOST_HOST=node$$ bash {tmp_path}/jobs/$$ >{tmp_path}/job$$.log 2>&1 &\n"
                  f'echo $! > {tmp_path}/pids/$$\necho "Submitted batch job $$"\n',
        "scancel": f"for pid in $(cat {tmp_path}/pids/*); do kill -9 -- -$pid 2>/dev/null; done; true\n",
    }  # fmt: skip
    for folder in ("jobs", "pids"):
        (tmp_path / folder).mkdir()
    for name, text in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}")
        (programs / name).chmod(stat.S_IRWXU)
    (tmp_path / "fleet.toml").write_text(
        '[cluster]\nkind = "slurm"\nhosts = 2\n\n'
        '[cluster.options]\nqueue = "bench"\ncores = 2\nmemory = "2GB"\nwalltime = "00:10:00"\ninterface = "lo"\n'
        f'shared_temp_directory = "{tmp_path}"\nlocal_directory = "{tmp_path}"\n'
    )
    env = variables | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    done = fleet(toy, env, *CELLS, "--exact", "--cluster", str(tmp_path / "fleet.toml"))
    assert done.returncode == 2
    assert "asv run --bench just-discover" in done.stderr
    try:
        done = fleet(toy, env, *CELLS, "--cluster", str(tmp_path / "fleet.toml"))
    finally:
        subprocess.run([programs / "scancel"], check=False)
    assert done.returncode == 0, done.stderr
    texts = [path.read_text() for path in sorted((tmp_path / "jobs").iterdir())]
    assert len(texts) == 2
    for text in texts:
        assert "#SBATCH --exclusive\n" in text
        assert "#SBATCH -p bench\n" in text
        assert "#SBATCH -t 00:10:00\n" in text
        assert "--resources cpu=2" in text
        assert " tls://" in text
        assert "--nworkers" not in text
        assert "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False" in text
    assert measured(toy).total() == 6
    assert overlaps(toy) == 0


def test_a_host_with_a_spinning_neighbour_is_refused() -> None:
    spinner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        busy, _ = doctor.cpu_use(1.0)
    finally:
        spinner.kill()
        spinner.wait()
    cpus = os.cpu_count() or 1
    assert busy * cpus > 0.5
    spoiled = Canary("same", "as fast", 1e10, busy * cpus, 2)
    assert "other processes use" in canary.unfit(spoiled)[0]


@pytest.mark.parametrize(
    ("found", "speeds", "reasons"),
    [
        (Canary("same", "as fast", 1e10, 0.01, 2), (), 0),
        (Canary("unsure", "who knows", 1e10, 0.2, 2), (1.1e10, 1e10), 0),
        (Canary("worse", "1.2 × slower", 1e10, 0.01, 2), (), 1),
        (Canary("same", "as fast", 0.7e10, 0.01, 2), (1e10, 1e10, 0.9e10), 1),
        (Canary("same", "as fast", 1e10, 0.5, 2), (), 1),
        (Canary("same", "as fast", 1e10, 0.5, 128), (), 0),
        (Canary("better", "1.1 × faster", 0.5e10, 3.0, 4), (1e10,), 3),
    ],
)
def test_what_makes_a_host_unfit(found: Canary, speeds: Sequence[float], reasons: int) -> None:
    assert len(canary.unfit(found, speeds)) == reasons


def test_a_cell_that_fails_on_every_host_is_left_and_said(tmp_path: Path, variables: dict[str, str]) -> None:
    folder = toy_project.make(tmp_path / "toy", commits=2, broken=(1,))
    done = fleet(folder, variables, *CELLS)
    assert done.returncode == 1
    assert done.stderr.count("failed on") == 2  # two environments, one host
    assert "Traceback" not in done.stderr
    assert len(measured(folder)) == 2
    shown = fleet(folder, variables, "fleet", "plan", "ALL")
    assert shown.returncode == 1
    assert "2 of 4 cells measured, 2 missing, of which 2 failed when they were tried" in shown.stdout


def test_counts_and_shards_have_every_benchmark(toy: Path, variables: dict[str, str]) -> None:
    """Also those with parameters; and what was only counted is still to be timed."""
    assert fleet(toy, variables, *CELLS).returncode == 0
    host = next(path.parent for path in results(toy).glob("*/machine.json"))
    listed = json.loads((results(toy) / "benchmarks.json").read_text())
    shutil.rmtree(host)
    (results(toy) / journal.NAME).unlink()
    done = fleet(toy, variables, *CELLS, "--exact")
    assert done.returncode == 0, done.stderr
    for path in host.glob("*TOY*.json"):
        rows = json.loads(path.read_text())["results"]
        assert set(rows) == {name for name in listed if ".Counts." in name}
        (length,) = rows["toy_benchmarks.Counts.track_length"][0]
        assert rows["toy_benchmarks.Counts.track_times"][0] == [2 * length, 3 * length]
    assert fleet(toy, variables, "fleet", "plan", "ALL", "--exact").returncode == 0
    done = fleet(toy, variables, "fleet", "plan", "ALL")
    assert "0 of 6 cells measured" in done.stdout
    done = fleet(toy, variables, *CELLS, "--shards", "2")
    assert done.returncode == 0, done.stderr
    for path in host.glob("*TOY*.json"):
        assert set(json.loads(path.read_text())["results"]) == set(listed) - {"version"}
    assert fleet(toy, variables, "fleet", "plan", "ALL").returncode == 0


def test_a_benchmark_that_a_commit_lacks_is_not_measured_for_ever(toy: Path, variables: dict[str, str]) -> None:
    """It is listed from before, and no result can ever be there."""
    assert fleet(toy, variables, "fleet", "run", "HEAD", "--no-parents", "--no-canary").returncode == 0
    path = toy / "benchmarks" / "toy_benchmarks.py"
    path.write_text(path.read_text().replace("track_length", "track_size"))
    done = fleet(toy, variables, *CELLS)
    assert done.returncode == 0, done.stderr
    assert len(measured(toy)) == 6
    number = measured(toy).total()
    assert fleet(toy, variables, *CELLS).returncode == 0
    assert measured(toy).total() == number


def test_what_a_killed_fleet_measures_ends_with_it(tmp_path: Path, variables: dict[str, str]) -> None:
    """The benchmark would take minutes."""
    folder = toy_project.make(tmp_path / "toy", commits=1, environments=1, loops=10**10)
    env = variables | {"COPYCOST_HOST": "killed"}
    with subprocess.Popen([sys.executable, "-m", "copycost", *CELLS], cwd=folder, env=env) as process:
        end = time.monotonic() + 120
        while not any(is_of(pid, "killed") and is_benchmark(pid) for pid in filter(str.isdigit, os.listdir("/proc"))):
            assert time.monotonic() < end
            time.sleep(0.1)
        process.kill()
    nothing_runs_on("killed")


def is_benchmark(pid: str) -> bool:
    """Return whether a process is one of asv's that run a benchmark: it has used more than a second."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11]
    except OSError:
        return False
    return b"asv" in command and b"asv_main" not in command and int(used) > os.sysconf("SC_CLK_TCK")


def test_a_host_is_tested_before_it_times(toy: Path, variables: dict[str, str]) -> None:
    """Beside a process that spins it is refused."""
    spinner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        done = fleet(toy, variables, "fleet", "run", "ALL")
    finally:
        spinner.kill()
        spinner.wait()
    assert done.returncode == 2
    assert "it may not time: other processes use" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: no host may measure: other processes use")
    assert not measured(toy)
    shown = fleet(toy, variables, "fleet", "status", "ALL")
    assert "unfit" in shown.stdout


def test_the_plan_names_what_is_missing(toy: Path, variables: dict[str, str]) -> None:
    hashes = tools.git(toy, "rev-list", "main").splitlines()
    done = fleet(toy, variables, "fleet", "plan", "HEAD", "--json", "-")
    assert done.returncode == 1
    (of,) = json.loads(done.stdout)["plans"]
    assert [cell["commit"] for cell in of["missing"]] == [hashes[0]] * 2 + [hashes[1]] * 2  # with the first parent
    done = fleet(toy, variables, "fleet", "plan", "HEAD", "--no-parents", "--environment", "*TOY1", "--json", "-")
    (of,) = json.loads(done.stdout)["plans"]
    assert [(cell["commit"], cell["environment"]) for cell in of["missing"]] == [
        (hashes[0], f"virtualenv-py{sys.version_info[0]}.{sys.version_info[1]}-TOY1")
    ]
    for words, says in (
        (("nosuchref",), "no commits 'nosuchref'"),
        (("HEAD", "--environment", "x"), "no environment is x"),
        (("HEAD", "--shards", "2"), "asv run --bench just-discover"),
        (("HEAD", "--class", "none"), "no machine is of class none"),
    ):
        done = fleet(toy, variables, "fleet", "plan", *words)
        assert done.returncode == 2
        assert says in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("address", "insecure", "says"),
    [
        ("tcp://10.0.0.1:8786", False, "is not encrypted"),
        ("tcp://0.0.0.0:8786", False, "is not encrypted"),
        ("tcp://example.org:8786", False, "is not encrypted"),
        ("tcp://10.0.0.1:8786", True, None),
        ("tls://10.0.0.1:8786", False, None),
        ("tcp://127.0.0.1:8786", False, None),
        ("tcp://localhost:8786", False, None),
        ("tcp://[::1]:8786", False, None),
        ("10.0.0.1", False, "invalid address"),
    ],
)
def test_a_scheduler_is_reached_by_tls_or_on_this_machine(address: str, insecure: bool, says: str | None) -> None:
    if says is None:
        cluster.check_address(address, insecure)
    else:
        with pytest.raises(ProjectError, match=says):
            cluster.check_address(address, insecure)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected a table"),
        ("[cluster]\nkinds = 1\n", "expected a table"),
        ('[cluster]\nkind = "cloud"\n', "unknown kind 'cloud'"),
        ('[cluster]\nkind = "ssh"\nhosts = 3\n', "expected hosts = "),
        ("[cluster]\nhosts = 0\n", "hosts is 0"),
        ('[cluster]\nkind = "address"\n', "address is missing"),
        ("[cluster\n", "cannot be read"),
    ],
)
def test_a_cluster_that_cannot_be_reached_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "fleet.toml").write_text(text)
    with pytest.raises(ProjectError, match=says) as raised:
        cluster.read(tmp_path / "fleet.toml")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("number", [2, 5, 20])
def test_series_are_spread_evenly_and_stay(number: int) -> None:
    series = [f"series {k}" for k in range(60)]
    names = [f"host{k}" for k in range(number)]
    homes = hosts.assign(series, names, {})
    load = Counter(homes.values())
    assert max(load.values()) - min(load.get(name, 0) for name in names) <= max(load.values()) - 1
    assert max(load.values()) <= -(-60 // number)
    assert hosts.assign(series[::-1], names[::-1], {}) == homes
    fewer = hosts.assign(series, names[1:], homes)
    assert {name for name in series if fewer[name] != homes[name]} == {n for n in series if homes[n] == names[0]}
    more = hosts.assign(series, [*names, "new"], homes)
    assert more == homes  # a new host takes no series from one that serves it


def test_a_class_does_not_change_with_what_is_measured_or_restarted() -> None:
    record = {
        "cpu": "A CPU", "num_cpu": "8", "ram": str(16 * 2**30 - 10**8), "gpu": "A GPU", "gpu_driver": "580.12",
        "os": "Linux 6.1", "arch": "x86_64", "cpu_features": "avx2",
    }  # fmt: skip
    name = hosts.machine_class(record)
    assert name == "A CPU, 8 CPUs, 16 GiB, A GPU, driver 580"
    later = record | {"ram": str(16 * 2**30 - 2 * 10**8), "os": "Linux 6.2", "gpu_driver": "580.99", "bogomips": "5000"}
    assert hosts.machine_class(later) == name
    assert hosts.machine_class(record | {"ram": str(16 * 2**20)}) == name  # asv's own records have kilobytes
    assert hosts.machine_class(record | {"gpu_driver": "590.1"}) != name
    assert hosts.machine_class({}) == "unknown"


def test_the_demonstration_leaves_nothing(tmp_path: Path, variables: dict[str, str]) -> None:
    """docs/examples/fleet/demo.sh, as `make fleet-demo` runs it."""
    example = ROOT / "docs" / "examples" / "fleet"
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, words in {"python": "", "copycost": "-m copycost"}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        (programs / name).chmod(stat.S_IRWXU)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", str(example / "demo.sh"), str(tmp_path / "demo"), str(example / "local.toml")],
        env=variables | {"PATH": path, "PYTHONPATH": f"{ROOT / 'suite'}{os.pathsep}{ROOT}"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "0 of 8 cells measured, 8 missing" in done.stdout
    assert "8 of 8 cells measured, 0 missing" in done.stdout
    assert "Traceback" not in done.stderr
    homes: dict[str, set[str]] = {}
    for entry in journal.read(results(tmp_path / "demo")):
        if entry["event"] == "cell":
            homes.setdefault(entry["environment"], set()).add(entry["host"])
    assert [len(names) for names in homes.values()] == [1, 1]  # a series stays
    assert len(set.union(*homes.values())) == 2  # and series are spread


def test_the_compose_file_starts_a_scheduler_two_workers_and_a_fleet() -> None:
    """Its commands are those of the command line; Docker itself is not run."""
    example = ROOT / "docs" / "examples" / "fleet"
    services = yaml.safe_load((example / "compose.yaml").read_text())["services"]
    workers = [service for name, service in services.items() if name.startswith("worker")]
    assert len(workers) == 2
    assert len({worker["environment"]["COPYCOST_HOST"] for worker in workers}) == 2
    assert len({worker["cpuset"] for worker in workers}) == 2
    for worker in workers:
        assert worker["command"][:3] == ["copycost", "fleet", "worker"]
        command, _ = cluster.worker_command(*worker["command"][3:4], insecure="--insecure" in worker["command"])
        assert command[-1] == "--no-dashboard"
    address = cluster.read(example / "fleet.toml").address
    assert address == workers[0]["command"][3]
    assert cluster.read(example / "local.toml") == Cluster("local", 2)


def test_hosts_are_compared_by_their_ratios(toy: Path, variables: dict[str, str]) -> None:
    """Hosts whose times differ by a factor of ten agree on a change, and their samples are not mixed."""
    head, base = tools.git(toy, "rev-list", "-n", "2", "main").splitlines()
    listed = {"version": 2, "suite.time_it": {"type": "time", "version": "v", "params": [], "name": "suite.time_it"}}
    results(toy).mkdir(parents=True)
    (results(toy) / "benchmarks.json").write_text(json.dumps(listed))

    def store(host: str, seconds: float, ratio: float) -> None:
        folder = results(toy) / host
        folder.mkdir(exist_ok=True)
        (folder / "machine.json").write_text(json.dumps({"machine": host, "version": 1}))
        for commit, value in ((base, seconds), (head, seconds * ratio)):
            row = [[value], [], "v", 1, 1.0, [value * 0.99], [value * 1.01]]
            columns = ["result", "params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b"]
            document = {"commit_hash": commit, "result_columns": columns, "results": {"suite.time_it": row}}
            (folder / f"{commit[:8]}-py3.json").write_text(json.dumps(document))

    assert fleet(toy, variables, "fleet", "compare", base, head).returncode == 2
    store("slow", 1.0, 1.2)
    store("fast", 0.1, 1.1)
    two = fleet(toy, variables, "fleet", "compare", base, head)
    assert two.returncode == 1, two.stderr
    assert "fast: slower time × 1.10 (1.09 to 1.11), slow: slower time × 1.20 (1.19 to 1.21)" in two.stdout
    store("other", 0.01, 1.15)
    three = fleet(toy, variables, "fleet", "compare", base, head)
    assert three.returncode == 1
    logs = [math.log(ratio) for ratio in (1.1, 1.15, 1.2)]
    half = 4.302653 * statistics.stdev(logs) / math.sqrt(3)  # t of 2 degrees of freedom, from a table
    value = statistics.fmean(logs)
    ends = [math.exp(x) for x in (value, value - half, value + half)]
    assert "time × {:.2f} ({:.2f} to {:.2f}) over 3 hosts".format(*ends) in three.stdout
    store("other", 0.01, 0.8)
    unlike = fleet(toy, variables, "fleet", "compare", base, head)
    assert unlike.returncode == 0
    assert unlike.stdout.startswith("unsure")


def test_a_line_that_was_cut_off_costs_no_other(tmp_path: Path) -> None:
    journal.append(tmp_path, {"event": "one"})
    with open(tmp_path / journal.NAME, "ab") as file:
        file.write(b'{"event": "cu')
    journal.append(tmp_path, {"event": "two"})
    assert [entry["event"] for entry in journal.read(tmp_path)] == ["one", "two"]


def test_options_of_asv_do_not_complete_a_cell(toy: Path, variables: dict[str, str]) -> None:
    """With --bench, the other benchmarks are still missing."""
    done = fleet(toy, variables, "fleet", "run", "HEAD", "--no-parents", "--no-canary", "--", "--bench", "time_sum")
    assert done.returncode == 0, done.stderr
    done = fleet(toy, variables, "fleet", "run", "HEAD", "--no-parents", "--no-canary")
    assert done.returncode == 0, done.stderr
    assert len(counts(toy)) == 2


def test_results_that_cannot_be_read_are_found_before_anything_is_measured(
    toy: Path, variables: dict[str, str]
) -> None:
    assert fleet(toy, variables, "fleet", "run", "HEAD", "--no-parents", "--no-canary").returncode == 0
    path = next(results(toy).glob("*/*TOY0.json"))
    path.write_text(path.read_text()[:50])
    done = fleet(toy, variables, *CELLS)
    assert done.returncode == 2
    assert f"{path.name} cannot be read" in done.stderr.splitlines()[-1]
    assert measured(toy).total() == 2


def test_a_job_that_cannot_be_submitted_is_one_line(toy: Path, tmp_path: Path, variables: dict[str, str]) -> None:
    (tmp_path / "fleet.toml").write_text(
        '[cluster]\nkind = "slurm"\n\n[cluster.options]\ncores = 2\ninterface = "lo"\n'
        f'shared_temp_directory = "{tmp_path}"\n'
    )
    done = fleet(toy, variables, *CELLS, "--cluster", str(tmp_path / "fleet.toml"))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("Error: there is no sbatch here")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sbatch").write_text("#!/bin/sh\necho 'invalid partition' >&2\nexit 1\n")
    (programs / "sbatch").chmod(stat.S_IRWXU)
    env = variables | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    done = fleet(toy, env, *CELLS, "--cluster", str(tmp_path / "fleet.toml"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")
