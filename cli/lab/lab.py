"""The lab as a whole: up, down, and what can be done to its nodes and programs."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING

from cli.host import local
from cli.lab import builder, processes, programs, settings, supervise
from cli.lab.host import cgroups, remove_cgroups, unmount_below
from cli.lab.layout import REGISTRY_HOST, Layout
from cli.lab.node import Node
from cli.lab.settings import Settings
from cli.lab.switch import Switch
from cluster.errors import Forbidden, NotFound, Unavailable, UserError

if TYPE_CHECKING:
    from cli.lab.images import Images


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node as the kernel shows it.

    A program is `up`, `paused` or `down`, and is not listed where it does not belong.
    """

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
        if os.geteuid() != 0:
            raise Forbidden(
                "a lab is made of network namespaces and mounts, which only root may touch", hint="Use sudo."
            )
        name = name or os.environ.get("STACKYARD_LAB") or "lab"
        self._settings = settings.read(Layout(name).state_file)
        asked = subnet or os.environ.get("STACKYARD_LAB_SUBNET")
        if self._settings and asked and asked != self._settings.subnet:
            raise UserError(
                f"the lab {name} has the network {self._settings.subnet}, not {asked}",
                hint="Take it down first: `stack lab down`.",
            )
        self.layout = Layout(name, asked or (self._settings.subnet if self._settings else Layout().subnet))
        self._switch = Switch(self.layout)
        self._say = say

    # -- the whole lab

    def up(
        self,
        nodes: int | None = None,
        managers: int | None = None,
        programs: Sequence[str] | None = None,
        engine_args: Sequence[str] | None = None,
        images: bool = True,
    ) -> None:
        """Start what is not up, and wait until it answers. What is up is left alone, cut or paused as it may be.

        Base images that the registry lacks are put there, which takes a minute the first time, unless `images` is off.
        """
        with self._lock():
            wanted = settings.plan(self._settings, self.layout.subnet, nodes, managers, programs, engine_args)
            self._check_machine(wanted.programs)
            self._write_settings(wanted)
            self._switch.up()
            supervise.start_registry(self.layout, self._switch, self._say)
            if images:
                self._images().ensure_base()
            with ThreadPoolExecutor(max_workers=8) as pool:
                self._start_nodes(pool, wanted)
            self._join(wanted)

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
            _remove(self.layout.run_dir)
            _remove(self.layout.data_dir)
            self._settings = None
            if images:
                if others := {p.lab for p in processes.census(None, programs.REGISTRY)}:
                    raise UserError(
                        f"the images are also those of the lab {', '.join(sorted(others))}, which is up",
                        hint="Take it down, too.",
                    )
                self._say("removing the images")
                _remove(self.layout.cache_dir)
            local.remove_context(self.layout.name)

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
                        program: _state(supervise.among(census, node.name, program))
                        for program in programs.PROGRAMS
                        if self._settings.belongs(program, node.layout.number)
                    },
                )
            )
        return result

    def leftovers(self) -> list[str]:
        """What of the lab is on the machine now, for a check that `down` has left nothing."""
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        places = (self.layout.run_dir, self.layout.data_dir)
        return [
            *(f"process {p.pid} {p.command} {p.node}/{p.program}" for p in processes.census(self.layout.name)),
            *(f"namespace {path.name}" for path in Path("/run/netns").glob(self.layout.prefix + "*")),
            *(f"link {link.name}" for link in Path("/sys/class/net").glob(self.layout.machine_link)),
            *(f"mount {point}" for point in mounts if any(map(Path(point).is_relative_to, places))),
            *(f"cgroup {path}" for path in cgroups(self.layout.prefix + "*")),
            *(f"directory {place}" for place in places if place.exists()),
        ]

    # -- images

    def ensure_images(self) -> list[str]:
        """Put the base images into the registry, from Docker Hub or made here; gives those that were missing."""
        with self._lock():
            self._ready_registry()
            return self._images().ensure_base()

    def build(self, file: Path) -> list[str]:
        """Build what has changed of a Compose file's images into the registry; gives the names of those built."""
        with self._lock():
            self._ready_registry()
            images = self._images()
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
            if program in programs.MANAGER_PROGRAMS and node.layout.number > self.settings.managers:
                raise UserError(
                    f"{name} is no manager, so it has no {program}",
                    hint="`stack lab up --managers N` says how many nodes are, when a lab is made.",
                )
            if program is None:
                _boot(node)
            for one in [program] if program else self._programs_of(node):
                self._say(f"starting {one} on {name}")
                supervise.start(one, node, self.settings)
                supervise.wait(one, node)

    def stop(self, name: str, program: str | None = None) -> None:
        """Shut a node down in order, or end one program, with the time it needs."""
        with self._lock():
            node = self.node(name)
            for one in [program] if program else reversed(self._programs_of(node)):
                self._say(f"stopping {one} on {name}")
                supervise.stop(one, node)
            if program is None:
                node.power_off()

    def kill(self, name: str, program: str | None = None) -> None:
        """Cut a node's power, or SIGKILL one program."""
        with self._lock():
            node = self.node(name)
            if program is None:
                node.power_off()
            elif (process := supervise.find(node, program)) is not None:
                processes.send(process, signal.SIGKILL)
                processes.wait_until(lambda: processes.gone(process), 60)

    def signal(self, name: str, program: str, number: int) -> None:
        """Send a signal to a program that must be running."""
        process = supervise.find(self.node(name), program)
        if process is None or not processes.send(process, number):
            raise Unavailable(f"{program} is not running on {name}", hint=f"`stack lab start {name} {program}`")

    def pause(self, name: str, program: str) -> None:
        """Stop a program in its tracks; when this returns it stands still."""
        self._signal_until(name, program, signal.SIGSTOP, stopped=True)

    def unpause(self, name: str, program: str) -> None:
        self._signal_until(name, program, signal.SIGCONT, stopped=False)

    def cut(self, name: str) -> None:
        """Pull a node's network cable out of the switch."""
        with self._lock():
            self._switch.set_port(self.node(name).layout.switch_port, up=False)

    def heal(self, name: str) -> None:
        with self._lock():
            self._switch.set_port(self.node(name).layout.switch_port, up=True)

    # -- how it is done

    def _signal_until(self, name: str, program: str, number: int, *, stopped: bool) -> None:
        self.signal(name, program, number)
        node = self.node(name)

        def done() -> bool:
            process = supervise.find(node, program)
            return process is None or process.stopped == stopped

        processes.wait_until(done, 30)

    def _check_machine(self, wanted: Sequence[str]) -> None:
        missing = [need for need in programs.requirements(wanted) if shutil.which(need.executable) is None]
        if missing:
            packages = " ".join(sorted({need.package for need in missing}))
            raise Unavailable(
                f"the lab needs {', '.join(need.executable for need in missing)}, which is not on PATH",
                hint=f"On Debian: apt-get install --no-install-recommends {packages}",
            )

    def _write_settings(self, new: Settings) -> None:
        self.layout.data_dir.mkdir(parents=True, exist_ok=True)
        settings.write(self.layout.state_file, new)
        names = [("127.0.0.1", "localhost"), (self.layout.address(REGISTRY_HOST), "registry")]
        names += [(node.address, node.name) for node in self.layout.nodes(new.nodes)]
        # in place and not replaced: running nodes have this very file mounted
        self.layout.hosts_file.write_text("".join(f"{address} {name}\n" for address, name in names))
        self._settings = new

    def _ready_registry(self) -> None:
        self._check_machine((programs.ENGINE,))
        self._write_settings(self.settings)  # refuses when there is no lab
        self._switch.up()
        supervise.start_registry(self.layout, self._switch, self._say)

    def _images(self) -> Images:
        from cli.lab.images import Images

        return Images(self.layout, self._say)

    def _start_nodes(self, pool: ThreadPoolExecutor, wanted: Settings) -> None:
        everyone = self.nodes()
        if off := [node for node in everyone if node.host.init() is None]:
            self._say(f"switching on {', '.join(node.name for node in off)}")
            _all(pool, _boot, off)
        for program in wanted.programs:
            hosts = [node for node in everyone if wanted.belongs(program, node.layout.number)]
            if down := [node for node in hosts if supervise.find(node, program) is None]:
                self._say(f"starting {program} on {', '.join(node.name for node in down)}")
                _all(pool, partial(supervise.start, program, settings=wanted), down)
                _all(pool, partial(supervise.wait, program), down)

    def _join(self, wanted: Settings) -> None:
        """Once managers run: let `stack` talk to them, and wait for the agents that they can hear."""
        if programs.MANAGER not in wanted.programs:
            return
        managers = self.layout.nodes(wanted.managers)
        urls, sockets = [one.api_url for one in managers], [one.manager_socket for one in managers]
        if local.write_context(self.layout.name, urls, sockets, f"lab-{self.layout.name}"):
            self._say(f"`stack` talks to this cluster from now on (context {self.layout.name})")
        states = {status.name: status for status in self.status()}
        heard = []
        for node in self.nodes():
            status = states[node.name]
            if status.link == "up" and "paused" not in status.programs.values():
                heard.append(node)
            else:
                self._say(f"{node.name} stays as it is, cut or paused: see `stack lab status`")
        if programs.AGENT in wanted.programs and heard:
            supervise.wait_ready(heard, wanted)

    def _end_processes(self, node: str) -> None:
        if node == programs.REGISTRY:
            supervise.end_registry(self.layout)
        elif node == builder.NAME:
            builder.end(self.layout)
        else:
            Node(self.layout.node(node), self._switch).power_off()

    def _programs_of(self, node: Node) -> list[str]:
        return [one for one in programs.PROGRAMS if self.settings.belongs(one, node.layout.number)]

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One command at a time changes a lab. The kernel drops the lock of a killed one."""
        self.layout.lock_file.parent.mkdir(parents=True, exist_ok=True)
        with self.layout.lock_file.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._say("waiting for another `stack lab` command to end")
                fcntl.flock(file, fcntl.LOCK_EX)
            self._settings = settings.read(self.layout.state_file)
            yield


def _boot(node: Node) -> None:
    if node.host.init() is None:
        node.boot()


def _state(process: processes.Process | None) -> str:
    return "down" if process is None else "paused" if process.stopped else "up"


def _all(pool: ThreadPoolExecutor, work: Callable[[Node], None], nodes: Sequence[Node]) -> None:
    """Do it on all nodes at once, to the end on each; then raise what went wrong first."""
    futures = [pool.submit(work, node) for node in nodes]
    for error in [future.exception() for future in futures]:
        if error is not None:
            raise error


def _remove(directory: Path) -> None:
    unmount_below(directory)
    # one file system: a mount that was overlooked must not be emptied
    processes.run(["rm", "-rf", "--one-file-system", str(directory)])
