"""Flower's own runtimes, driven through its command line: simulation (Ray), and SuperLink with SuperNodes.

Both are a SuperLink on the loopback interface to which `flwr run` submits the app of `flower_app.py`. It is
our own child, with a home of its own (`FLWR_HOME`) and free ports. `flwr run … local` would instead leave a
daemon whose port and environment the next run inherits. `_reaper.py` sees to it that nothing outlives us.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import tomli_w
from annotated_types import Gt

from fedjourney.engines import Where, _reaper
from fedjourney.errors import ConfigError, RunError
from fedjourney.flower_app import assemble
from fedjourney.plan import Plan

STARTUP = 60.0  # seconds a SuperLink or SuperNode may take until it listens; 3-6 on an idle machine
ATTEMPTS = 3  # a free port may be taken by somebody else before the process binds it
NO_INSTALL = "--disable-runtime-dependency-installation"  # it would sync an environment at every run
TAIL = 40  # lines of a log that an error shows


def flower(
    plan: Plan, where: Where, /, *, nodes: Annotated[int, Gt(0)] = 2, deployed: bool = False
) -> Callable[[Path], None]:
    """Flower's own runtime: its simulation on Ray, or SuperNodes on this machine; to compare, not for speed.

    Args:
        plan: the experiment; the server's door builds its own from the run folder.
        where: the root of data sets.
        nodes: number of SuperNodes, simulated or real.
        deployed: whether they are processes of their own, connected as separate machines would be.
    """
    table = plan.experiment["experiment"]
    timeout = (2 * table["rounds"] + 1) * table["timeout"]  # roll call; each round trains and evaluates
    data = {} if where.data_root is None else {"FEDJOURNEY_DATA": str(where.data_root)}

    def compute(folder: Path) -> None:
        superlink = Deployment(nodes, data) if deployed else Simulation(nodes, data)
        with superlink:
            superlink.run(folder / "experiment.toml", folder, timeout=timeout)

    return compute


def run_simulation(
    experiment_file: Path, run: Path, *, nodes: int, overrides: Sequence[str] = (), timeout: float = 3600.0
) -> None:
    """Run an experiment in Flower's simulation, as `flwr run` would.

    Args:
        experiment_file: the experiment's TOML file.
        run: the run folder; if it exists, the run is resumed.
        nodes: number of simulated SuperNodes; node p holds the clients i with i mod nodes = p.
        overrides: `table.key=value`.
        timeout: seconds the run may take, start-up included.

    Raises:
        RunError: it did not finish well or in time; the message ends with the run's log.
    """
    with Simulation(nodes) as superlink:
        superlink.run(experiment_file, run, overrides=overrides, timeout=timeout)


class _SuperLink:
    """An insecure SuperLink on the loopback interface, state in memory; ended on exit with all it started."""

    options: Sequence[str] = ()  # of flower-superlink
    federation = ""  # settings of the federation, as `flwr run` takes them

    def __init__(self, nodes: int, environment: Mapping[str, str] | None = None, app: Path | None = None) -> None:
        self.nodes, self.environment, self.own = nodes, environment or {}, app

    def __enter__(self) -> Self:
        self.home = Path(tempfile.mkdtemp(prefix="fedjourney-"))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        reaper = [sys.executable, "-I", _reaper.__file__, str(self.home), str(self.home)]
        self.reaper = subprocess.Popen(reaper, stdin=subprocess.PIPE, text=True)
        try:
            self.app = self.own or assemble(self.home / "app")
            self.port = self._serve("superlink", "flower-superlink", "--insecure", NO_INSTALL, *self.options)
            connection = {"address": f"127.0.0.1:{self.port}", "insecure": True}
            _write(self.home / "config.toml", {"superlink": {"default": "here", "here": connection}})
            self._start_nodes()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(
        self,
        experiment_file: Path,
        run: Path,
        *,
        overrides: Sequence[str] = (),
        timeout: float = 3600.0,
    ) -> None:
        """Submit an experiment and wait for its end; arguments and errors as in `run_simulation`."""
        for override in overrides:
            if ";" in override:
                raise ConfigError(f'--set {override}: expected no ";" on Flower. Write it into the file.')
        paths = {"experiment": str(experiment_file.resolve()), "run": str(run.resolve())}
        self.submit({**paths, "set": ";".join(overrides)}, str(run), timeout)

    def submit(self, config: Mapping[str, object], what: str, timeout: float = 3600.0) -> None:
        """Submit the app with this run config and wait for its end; errors as in `run_simulation`, about `what`."""
        file = self.home / "run.toml"
        _write(file, config)
        command = ["flwr", "run", str(self.app), "here", "--stream", "--run-config", str(file)]
        deadline = time.monotonic() + timeout
        flwr = self._spawn("run", [*command, *(["--federation-config", self.federation] if self.federation else [])])
        while flwr.poll() is None:
            self._check_alive()
            if time.monotonic() > deadline:
                raise RunError(f"{what}: did not finish within {timeout:g} s on Flower.\n{self._logs()}")
            time.sleep(0.05)
        status = self._status()
        if flwr.returncode != 0 or status != "finished:completed":
            raise RunError(f'{what}: Flower says "{status}", expected "finished:completed".\n{self._logs()}')

    def _start_nodes(self) -> None:
        """Start SuperNodes, if this federation has any of its own."""

    def _serve(self, name: str, *command: str, home: Path | None = None) -> int:
        """Start a process that listens on a free port, wait until it does, return the port."""
        for attempt in range(ATTEMPTS):
            port = _free_port()
            process = self._spawn(name, [*command, "--host", "127.0.0.1", "--port", str(port)], home)
            deadline = time.monotonic() + STARTUP
            while process.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    return port
                time.sleep(0.05)
            if process.poll() is None or attempt == ATTEMPTS - 1 or "in use" not in self._log(name):
                break
        raise RunError(f"{command[0]} did not start.\n{self._logs()}")

    def _spawn(self, name: str, command: list[str], home: Path | None = None) -> subprocess.Popen[bytes]:
        """Start one of Flower's commands beside this Python, its output in `<home>/<name>.log`."""
        folder = Path(sys.executable).parent
        executable = shutil.which(command[0], path=folder)
        if executable is None:
            raise RunError(f"{folder / command[0]}: no such command. Install flwr into this environment.")
        environment = {
            **os.environ,
            **self.environment,
            "PATH": os.pathsep.join([str(folder), os.environ.get("PATH", os.defpath)]),
            "FLWR_HOME": str(home or self.home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "PYTHONUNBUFFERED": "1",
            _reaper.VARIABLE: str(self.home),
        }
        with (self.home / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [executable, *command[1:]],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[name] = process
        assert self.reaper.stdin is not None
        print(process.pid, file=self.reaper.stdin, flush=True)
        return process

    def _check_alive(self) -> None:
        for name, process in self.processes.items():
            if name != "run" and process.poll() is not None:
                raise RunError(f"{name} ended with exit code {process.returncode}.\n{self._logs()}")

    def _status(self) -> str:
        """Return the last run's status as `flwr list` has it."""
        listing = self._spawn("list", ["flwr", "list", "here", "--limit", "1", "--format", "json"])
        with contextlib.suppress(subprocess.TimeoutExpired, ValueError, LookupError):
            listing.wait(STARTUP)
            return str(json.loads(self._log("list"))["runs"][0]["status"])
        return "unknown"

    def _log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def _logs(self) -> str:
        """Return the ends of all logs, the run's own last."""
        names = sorted(self.processes, key=lambda name: (name == "run", name))
        return "\n".join(f"--- {name}\n" + "\n".join(self._log(name).splitlines()[-TAIL:]) for name in names)

    def _end(self) -> None:
        """Have the reaper end all processes, and wait for it."""
        assert self.reaper.stdin is not None
        self.reaper.stdin.close()
        while self.reaper.poll() is None:
            for process in self.processes.values():
                process.poll()  # collect them, or they would stay as zombies
            time.sleep(0.02)
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STARTUP if self.reaper.returncode == 0 else 0)  # a killed one may still be on its way out
        if self.reaper.returncode != 0:
            raise RunError("Flower's processes could not be ended; see the message above for their pids.")


class Simulation(_SuperLink):
    """A SuperLink that simulates its SuperNodes on Ray.

    Args:
        nodes: number of SuperNodes.
        environment: variables added to that of all processes.
        app: folder of a Flower app; None: ours.
        processors: that Ray may use, one for each client; None: all.
    """

    options = ("--simulation",)

    def __init__(
        self,
        nodes: int,
        environment: Mapping[str, str] | None = None,
        app: Path | None = None,
        processors: int | None = None,
    ) -> None:
        super().__init__(nodes, environment, app)
        self.federation = f"num-supernodes={nodes} client-resources-num-cpus=1"
        if processors is not None:
            self.federation += f" init-args-num-cpus={processors}"


class Deployment(_SuperLink):
    """A SuperLink with SuperNodes as on separate machines, all on the loopback interface.

    Node p of n gets `partition-id = p` and `num-partitions = n`, and a Flower home of its own.

    Args:
        nodes: number of SuperNodes.
        environment: variables added to that of all processes.
    """

    def _start_nodes(self) -> None:
        for node in range(self.nodes):
            home = self.home / f"node-{node}"
            home.mkdir()
            settings = home / "client.toml"
            _write(settings, {"partition-id": node, "num-partitions": self.nodes})
            options = ["--superlink", f"127.0.0.1:{self.port}", "--node-config", str(settings)]
            self._serve(f"supernode-{node}", "flower-supernode", "--insecure", *options, home=home)


def _write(path: Path, tables: Mapping[str, object]) -> None:
    path.write_text(tomli_w.dumps(tables), encoding="utf-8")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
