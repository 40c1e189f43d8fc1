"""The lab as a whole: up, down, and what can be done to its nodes and programs."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

from cli.lab import builder, probes, processes, programs
from cli.lab.host import cgroups, remove_cgroups, unmount_below
from cli.lab.layout import REGISTRY_HOST, Layout, NodeLayout
from cli.lab.node import Node
from cli.lab.switch import Switch, is_namespace
from cluster.errors import Failed, Forbidden, NotFound, Unavailable, UserError

_STOP_SECONDS = 40  # an engine gives its containers ten, and then needs some for itself


@dataclass(frozen=True, slots=True)
class Settings:
    """What the lab was asked to be; kept in a file, so that `start` and a second `up` know it."""

    subnet: str
    nodes: int = 3
    managers: int = 1
    programs: tuple[str, ...] = programs.PROGRAMS
    engine_args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node as the kernel shows it; a program is `up`, `paused`, `down`, or absent where it does not belong."""

    name: str
    address: str
    state: str
    link: str
    programs: dict[str, str]


class Lab:
    """A cluster of hosts on this machine. Each call finds out for itself how things stand; several may be used at once.

    `say` gets a line for each step that takes time.
    """

    def __init__(
        self, name: str | None = None, subnet: str | None = None, *, say: Callable[[str], None] = lambda line: None
    ) -> None:
        name = name or os.environ.get("STACKYARD_LAB") or "lab"
        self._settings = _read_settings(Layout(name).state_file)
        asked = subnet or os.environ.get("STACKYARD_LAB_SUBNET")
        if self._settings and asked and asked != self._settings.subnet:
            raise UserError(
                f"the lab {name} has the network {self._settings.subnet}, not {asked}",
                hint="Take it down first: `stack lab down`.",
            )
        self.layout = Layout(name, asked or (self._settings.subnet if self._settings else Layout().subnet))
        self._switch = Switch(self.layout)
        self._say = say
        self._locked = False

    # -- the whole lab

    def up(
        self,
        nodes: int | None = None,
        managers: int | None = None,
        programs: Sequence[str] | None = None,
        engine_args: Sequence[str] | None = None,
    ) -> None:
        """Start what is not up, and wait until it answers. What is up is left alone, cut or paused as it may be."""
        with self._lock():
            settings = self._plan(nodes, managers, programs, engine_args)
            self._check_machine(settings.programs)
            self._write_settings(settings)
            self._switch.up()
            self._start_registry()
            everyone = self.nodes()
            with ThreadPoolExecutor(max_workers=8) as pool:
                self._say(f"starting {len(everyone)} nodes: {', '.join(node.name for node in everyone)}")
                _all(pool, self._boot, everyone)
                for program in settings.programs:
                    self._say(f"starting {program}")
                    _all(pool, partial(self._start_program, program), self._hosts(program))
                    _all(pool, partial(self._await, program), self._hosts(program))

    def down(self, images: bool = False) -> None:
        """Remove all that the lab is made of, whoever left it; images stay unless `images`."""
        with self._lock():
            self._say("ending the lab's processes")
            for node in {process.node for process in processes.census(self.layout.name)}:
                self._end_processes(node)
            self._switch.down()
            unmount_below(self.layout.run_dir)
            remove_cgroups(self.layout.prefix + "*")
            self._say("removing the nodes' data")
            for directory in (self.layout.run_dir, self.layout.data_dir):
                unmount_below(directory)
                # one file system: a mount that was overlooked must not be emptied
                processes.run(["rm", "-rf", "--one-file-system", str(directory)])
            self._settings = None
            if images:
                self._say("removing the images")
                unmount_below(self.layout.cache_dir)
                processes.run(["rm", "-rf", "--one-file-system", str(self.layout.cache_dir)])

    def status(self) -> list[NodeStatus]:
        if self._settings is None:
            return []
        census = processes.census(self.layout.name)
        ports = self._switch.ports_up()
        result = []
        for node in self.nodes():
            up = node.host.init() is not None
            result.append(
                NodeStatus(
                    name=node.name,
                    address=node.layout.address,
                    state="up" if up else "down",
                    link="up" if node.layout.switch_port in ports else "cut" if up else "down",
                    programs={
                        program: _state(processes.main_process(census, node.name, program, self._executable(program)))
                        for program in self.settings.programs
                        if node in self._hosts(program)
                    },
                )
            )
        return result

    def leftovers(self) -> list[str]:
        """What of the lab is on the machine now, for a check that `down` has left nothing."""
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        places = (str(self.layout.run_dir), str(self.layout.data_dir))
        return [
            *(f"process {p.pid} {p.command} {p.node}/{p.program}" for p in processes.census(self.layout.name)),
            *(f"namespace {path.name}" for path in Path("/run/netns").glob(self.layout.prefix + "*")),
            *(f"link {link.name}" for link in Path("/sys/class/net").glob(self.layout.machine_link)),
            *(f"mount {point}" for point in mounts if point.startswith(places)),
            *(f"cgroup {path}" for path in cgroups(self.layout.prefix + "*")),
            *(f"directory {place}" for place in places if Path(place).exists()),
        ]

    # -- images

    def ensure_images(self) -> list[str]:
        """Put the base images into the registry, from Docker Hub or made here; gives those that were missing."""
        from cli.lab.images import Images

        with self._lock():
            self._ready_registry()
            return Images(self.layout, self._say).ensure_base()

    def build(self, file: Path) -> list[str]:
        """Build what has changed of a Compose file's images into the registry; gives the names of those built."""
        from cli.lab.images import Images

        with self._lock():
            self._ready_registry()
            images = Images(self.layout, self._say)
            images.ensure_base()
            return images.build(file)

    # -- nodes and programs

    @property
    def settings(self) -> Settings:
        if self._settings is None:
            raise NotFound(f"there is no lab {self.layout.name} here", hint="Make one with `stack lab up`.")
        return self._settings

    def nodes(self) -> list[Node]:
        return [Node(layout, self._switch) for layout in self.layout.nodes(self.settings.nodes)]

    def node(self, name: str) -> Node:
        layout = self.layout.node(name)
        if layout.number > self.settings.nodes:
            raise NotFound(
                f"the lab has no node {name}, only n1 to n{self.settings.nodes}",
                hint=f"`stack lab up --nodes {layout.number}` adds nodes.",
            )
        return Node(layout, self._switch)

    def engine_socket(self, name: str) -> Path:
        return self.node(name).layout.engine_socket

    def manager_socket(self, name: str) -> Path:
        return self.node(name).layout.manager_socket

    def exec(self, name: str, argv: Sequence[str], stdin: str | None = None) -> CompletedProcess[str]:
        """Run a command on a node and wait for it; its exit code is the caller's to judge."""
        return self.node(name).host.exec(argv, stdin)

    def start(self, name: str, program: str | None = None) -> None:
        """Switch a node on with all its programs, or start one program."""
        with self._lock():
            node = self.node(name)
            wanted = [program] if program else self.settings.programs
            if program is None:
                self._boot(node)
            for one in wanted:
                if program is None and node not in self._hosts(one):
                    continue
                self._say(f"starting {one} on {name}")
                self._start_program(one, node)
                self._await(one, node)

    def stop(self, name: str, program: str | None = None) -> None:
        """Shut a node down in order, or end one program, with the time it needs."""
        with self._lock():
            node = self.node(name)
            if program:
                self._stop_program(node, program)
                return
            for one in reversed(self.settings.programs):
                if node in self._hosts(one):
                    self._say(f"stopping {one} on {name}")
                    self._stop_program(node, one)
            node.power_off()

    def kill(self, name: str, program: str | None = None) -> None:
        """Cut a node's power, or SIGKILL one program."""
        with self._lock():
            node = self.node(name)
            if program is None:
                node.power_off()
            elif (process := self._find(node, program)) is not None:
                processes.send(process, signal.SIGKILL)
                processes.wait_until(lambda: processes.gone(process), 10)

    def signal(self, name: str, program: str, number: int) -> None:
        """Send a signal to a program that must be running."""
        process = self._find(self.node(name), program)
        if process is None or not processes.send(process, number):
            raise Unavailable(f"{program} is not running on {name}", hint=f"`stack lab start {name} {program}`")

    def pause(self, name: str, program: str) -> None:
        self.signal(name, program, signal.SIGSTOP)

    def unpause(self, name: str, program: str) -> None:
        self.signal(name, program, signal.SIGCONT)

    def cut(self, name: str) -> None:
        """Pull a node's network cable out of the switch."""
        with self._lock():
            self._switch.set_port(self.node(name).layout.switch_port, up=False)

    def heal(self, name: str) -> None:
        with self._lock():
            self._switch.set_port(self.node(name).layout.switch_port, up=True)

    # -- how it is done

    def _plan(
        self,
        nodes: int | None,
        managers: int | None,
        wanted: Sequence[str] | None,
        engine_args: Sequence[str] | None,
    ) -> Settings:
        """The settings after this `up`: those of the lab as it is, with what can still be changed."""
        old = self._settings
        new = old or Settings(self.layout.subnet)
        if wanted is not None:
            if unknown := set(wanted) - set(programs.PROGRAMS):
                raise UserError(
                    f"a lab has no program {', '.join(sorted(unknown))}",
                    hint=f"It has {', '.join(programs.PROGRAMS)}.",
                )
            kept = set(wanted) | set(old.programs if old else ())
            new = replace(new, programs=tuple(program for program in programs.PROGRAMS if program in kept))
        if nodes is not None:
            new = replace(new, nodes=max(nodes, old.nodes if old else 0))
        if engine_args is not None:
            new = replace(new, engine_args=tuple(engine_args))
        if managers is not None:
            if old and programs.ETCD in old.programs and managers != old.managers:
                raise UserError(
                    f"this lab has {old.managers} manager(s), which cannot be changed",
                    hint="Begin anew: `stack lab down`, then `stack lab up`.",
                )
            new = replace(new, managers=managers)
        if not 1 <= new.managers <= new.nodes:
            raise UserError(f"a lab of {new.nodes} nodes cannot have {new.managers} managers")
        self.layout.nodes(new.nodes)  # refuses too many
        return new

    def _check_machine(self, wanted: Sequence[str]) -> None:
        missing = [need for need in programs.requirements(wanted) if shutil.which(need.executable) is None]
        if missing:
            packages = " ".join(sorted({need.package for need in missing}))
            raise Unavailable(
                f"the lab needs {', '.join(need.executable for need in missing)}, which is not on PATH",
                hint=f"On Debian: apt-get install --no-install-recommends {packages}",
            )

    def _write_settings(self, settings: Settings) -> None:
        self.layout.data_dir.mkdir(parents=True, exist_ok=True)
        _write(self.layout.state_file, json.dumps(asdict(settings), indent=2) + "\n")
        names = [(self.layout.address(REGISTRY_HOST), "registry")]
        names += [(node.address, node.name) for node in self.layout.nodes(settings.nodes)]
        # in place and not replaced: running nodes have this very file mounted
        self.layout.hosts_file.write_text("".join(f"{a} {n}\n" for a, n in [("127.0.0.1", "localhost"), *names]))
        self._settings = settings

    def _ready_registry(self) -> None:
        self._check_machine((programs.ENGINE,))
        self._write_settings(self.settings)  # refuses when there is no lab
        self._switch.up()
        self._start_registry()

    def _start_registry(self) -> None:
        registry, namespace = programs.REGISTRY, self.layout.namespace_path(programs.REGISTRY)
        process = self._find_registry()
        if process is not None and is_namespace(namespace.name):
            if os.stat(f"/proc/{process.pid}/ns/net").st_ino == namespace.stat().st_ino:
                return
        self._say("starting the image registry")
        self._end_processes(registry)
        self._switch.plug(registry, registry, self.layout.address(REGISTRY_HOST))
        (self.layout.cache_dir / "registry").mkdir(parents=True, exist_ok=True)
        programs.registry_config_file(self.layout).write_text(programs.registry_config(self.layout))
        log = self.layout.data_dir / "registry.log"
        processes.spawn(
            ["setsid", "--fork", "nsenter", f"--net={namespace}", *programs.registry(self.layout).argv],
            processes.environment(self.layout.name, registry, registry),
            log,
        )
        self._await_answer(
            "the image registry",
            lambda: self._find_registry() is not None,
            lambda: probes.http_ok(f"http://{self.layout.registry}/v2/"),
            log,
        )

    def _find_registry(self) -> processes.Process | None:
        census = processes.census(self.layout.name, programs.REGISTRY)
        return processes.main_process(census, programs.REGISTRY, programs.REGISTRY, "docker-registry")

    def _end_processes(self, node: str) -> None:
        if node == programs.REGISTRY:
            for process in processes.census(self.layout.name, node):
                processes.send(process, signal.SIGKILL)
                processes.wait_until(partial(processes.gone, process), 10)
        elif node == builder.NAME:
            builder.end(self.layout)
        else:
            Node(self.layout.node(node), self._switch).power_off()

    def _boot(self, node: Node) -> None:
        if node.host.init() is None:
            node.boot()

    def _hosts(self, program: str) -> list[Node]:
        """The nodes that a program belongs on."""
        everyone = self.nodes()
        return everyone[: self.settings.managers] if program in programs.MANAGER_PROGRAMS else everyone

    def _managers(self) -> list[NodeLayout]:
        return self.layout.nodes(self.settings.managers)

    def _find(self, node: Node, program: str) -> processes.Process | None:
        if program not in programs.PROGRAMS:
            raise NotFound(f"a node has no program {program}", hint=f"It has {', '.join(programs.PROGRAMS)}.")
        return processes.main_process(node.host.processes(), node.name, program, self._executable(program))

    def _executable(self, program: str) -> str:
        return {programs.ENGINE: "dockerd", programs.ETCD: "etcd"}.get(program, f"stack-{program}")

    def _start_program(self, program: str, node: Node) -> None:
        if self._find(node, program) is not None:
            return
        node.host.enter()  # the clearest error first: the node is off
        layout, bin_dir = node.layout, Path(sys.prefix) / "bin"
        if program == programs.ENGINE:
            config = programs.engine_config(layout, probes.runtime_wrapper())
            programs.engine_config_file(layout).write_text(config)
            # the lab knows that no engine runs; a pid file of a killed one would name whatever has its pid now
            (layout.run_dir / "docker.pid").unlink(missing_ok=True)
            built = programs.engine(layout, self.settings.engine_args)
        elif program == programs.ETCD:
            built = programs.etcd(layout, self._managers())
        elif program == programs.MANAGER:
            built = programs.manager(layout, self._managers(), bin_dir)
        else:
            built = programs.agent(layout, self._managers(), None, bin_dir)
        node.host.start(program, built.argv)

    def _await(self, program: str, node: Node) -> None:
        """Wait until a program that was just started answers."""
        layout = node.layout
        answers: Callable[[], bool] = {
            programs.ENGINE: lambda: probes.http_ok("http://engine/_ping", layout.engine_socket),
            programs.ETCD: lambda: probes.http_ok(programs.etcd_url(layout) + "/health"),
        }.get(program, lambda: True)
        self._await_answer(
            f"{program} on {node.name}",
            lambda: self._find(node, program) is not None,
            answers,
            node.host.log_file(program),
        )

    def _await_answer(self, what: str, alive: Callable[[], bool], answers: Callable[[], bool], log: Path) -> None:
        if not processes.wait_until(alive, 5):
            raise Failed(f"{what} ended at once: {processes.tail(log)}", hint=f"The log is {log}.")
        ended = False

        def settled() -> bool:
            nonlocal ended
            ended = not alive()
            return ended or answers()

        answered = processes.wait_until(settled, 30, 0.03)
        if ended or not answered:
            how = "ended" if ended else "does not answer"
            raise Unavailable(f"{what} {how}: {processes.tail(log)}", hint=f"The log is {log}.")

    def _stop_program(self, node: Node, program: str) -> None:
        process = self._find(node, program)
        if process is None:
            return
        processes.send(process, signal.SIGTERM)
        processes.send(process, signal.SIGCONT)  # a paused program gets its signals when it goes on
        if not processes.wait_until(lambda: processes.gone(process), _STOP_SECONDS, 0.03):
            raise Failed(
                f"{program} on {node.name} has not ended {_STOP_SECONDS} s after SIGTERM",
                hint=f"`stack lab kill {node.name} {program}` ends it at once.",
            )

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One command at a time changes a lab. The kernel drops the lock of a killed one."""
        if os.geteuid() != 0:
            raise Forbidden("a lab makes network namespaces and mounts, which only root may", hint="Use sudo.")
        if self._locked:
            yield
            return
        self.layout.lock_file.parent.mkdir(parents=True, exist_ok=True)
        with self.layout.lock_file.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._say("waiting for another `stack lab` command to end")
                fcntl.flock(file, fcntl.LOCK_EX)
            self._settings = _read_settings(self.layout.state_file)
            self._locked = True
            try:
                yield
            finally:
                self._locked = False


def _state(process: processes.Process | None) -> str:
    return "down" if process is None else "paused" if process.stopped else "up"


def _all(pool: ThreadPoolExecutor, work: Callable[[Node], None], nodes: Sequence[Node]) -> None:
    """Do it on all nodes at once, to the end on each; then raise what went wrong first."""
    futures = [pool.submit(work, node) for node in nodes]
    for error in [future.exception() for future in futures]:
        if error is not None:
            raise error


def _write(path: Path, text: str) -> None:
    """Put a file in its place whole, or not at all."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.replace(path)


def _read_settings(path: Path) -> Settings | None:
    """The settings on disk; a file that is not what we write counts as none."""
    try:
        raw = json.loads(path.read_text())
        settings = Settings(
            subnet=str(raw["subnet"]),
            nodes=int(raw["nodes"]),
            managers=int(raw["managers"]),
            programs=tuple(p for p in programs.PROGRAMS if p in raw["programs"]),
            engine_args=tuple(map(str, raw["engine_args"])),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return settings
