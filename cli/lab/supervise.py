"""Starts the programs of a lab, waits until they answer, and ends them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cli.host import local
from cli.host.runtime import packaged_wrapper
from cli.lab import probes, processes, programs
from cli.lab.layout import REGISTRY_HOST, Layout, NodeLayout
from cli.lab.node import Node
from cli.lab.settings import Settings
from cli.lab.switch import Switch, is_namespace
from cluster.errors import Failed, NotFound, StackyardError, Unavailable

_ANSWER_SECONDS = 120
_STOP_SECONDS = 120  # an engine gives its containers ten, and then needs some for itself
_EXECUTABLES = {
    programs.ENGINE: "dockerd",
    programs.ETCD: "etcd",
    programs.MANAGER: "stack-manager",
    programs.AGENT: "stack-agent",
}


def find(node: Node, program: str) -> processes.Process | None:
    """The program if it runs on the node."""
    return among(node.host.processes(), node.name, program)


def among(census: list[processes.Process], node: str, program: str) -> processes.Process | None:
    if program not in _EXECUTABLES:
        raise NotFound(f"a node has no program {program}", hint=f"It has {', '.join(programs.PROGRAMS)}.")
    return processes.main_process(census, node, program, _EXECUTABLES[program])


def start(program: str, node: Node, settings: Settings) -> None:
    """Start a program that does not run; `wait` for it afterwards."""
    if find(node, program) is not None:
        return
    layout, managers = node.layout, _managers(node.layout.lab, settings)
    node.host.enter()  # the clearest error first: the node is off
    bin_dir = Path(sys.prefix) / "bin"
    if program == programs.ENGINE:
        programs.engine_config_file(layout).write_text(programs.engine_config(layout, packaged_wrapper()))
        # no engine runs, so a pid file of a killed one would name whatever process has that pid now
        (layout.run_dir / "docker.pid").unlink(missing_ok=True)
        built = programs.engine(layout, settings.engine_args)
    elif program == programs.ETCD:
        built = programs.etcd(layout, managers)
    elif program == programs.MANAGER:
        built = programs.manager(layout, managers, bin_dir)
    else:
        built = programs.agent(layout, managers, _token(layout, managers), bin_dir)
    node.host.start(program, built.argv)


def wait(program: str, node: Node) -> None:
    """Wait until a program that was started answers. An agent shows in the cluster, not here: see `wait_ready`."""
    layout = node.layout
    answers: dict[str, Callable[[], bool]] = {
        programs.ENGINE: lambda: probes.http_ok("http://engine/_ping", layout.engine_socket),
        programs.ETCD: lambda: probes.http_ok(programs.etcd_url(layout) + "/health"),
        programs.MANAGER: lambda: probes.http_ok("http://manager/v1/join-tokens", layout.manager_socket),
    }
    _wait_for(
        f"{program} on {node.name}",
        lambda: find(node, program) is not None,
        answers.get(program, lambda: True),
        node.host.log_file(program),
    )


def wait_ready(nodes: list[Node], settings: Settings) -> None:
    """Wait until the cluster counts these nodes as ready."""
    managers = _sockets(_managers(nodes[0].layout.lab, settings))
    names = {node.name for node in nodes}
    trouble: dict[str, str] = {}

    def ready() -> bool:
        trouble.clear()
        trouble.update(dict.fromkeys(names, "the cluster does not know it"))
        for view in local.nodes(managers):
            if view.name in names:
                trouble[view.name] = f"{view.status} {view.reason}".strip()
        for name in [name for name, status in trouble.items() if status == "ready"]:
            del trouble[name]
        for node in nodes:
            if find(node, programs.AGENT) is None:
                log = node.host.log_file(programs.AGENT)
                raise Unavailable(f"agent on {node.name} ended: {processes.tail(log)}", hint=f"The log is {log}.")
        return not trouble

    if not processes.wait_until(ready, _ANSWER_SECONDS, 0.1):
        told = "; ".join(f"{name}: {why}" for name, why in sorted(trouble.items()))
        raise Unavailable(f"not all nodes became ready ({told})", hint="See `stack lab logs NODE agent`.")


def stop(program: str, node: Node) -> None:
    """End a program in order, with the time it needs."""
    process = find(node, program)
    if process is None:
        return
    processes.send(process, signal.SIGTERM)
    processes.send(process, signal.SIGCONT)  # a paused program gets its signals when it goes on
    if not processes.wait_until(lambda: processes.gone(process), _STOP_SECONDS, 0.03):
        raise Failed(
            f"{program} on {node.name} has not ended {_STOP_SECONDS} s after SIGTERM",
            hint=f"`stack lab kill {node.name} {program}` ends it at once.",
        )


def start_registry(layout: Layout, switch: Switch, say: Callable[[str], None]) -> None:
    """Start the image registry if it does not run where the lab's network now is."""
    registry, namespace = programs.REGISTRY, layout.namespace_path(programs.REGISTRY)
    process = _find_registry(layout)
    if process is not None and is_namespace(namespace.name):
        if os.stat(f"/proc/{process.pid}/ns/net").st_ino == namespace.stat().st_ino:
            return
    say("starting the image registry")
    end_registry(layout)
    switch.plug(registry, registry, layout.address(REGISTRY_HOST))
    (layout.cache_dir / registry).mkdir(parents=True, exist_ok=True)
    programs.registry_config_file(layout).write_text(programs.registry_config(layout))
    log = layout.data_dir / "registry.log"
    processes.spawn(
        ["setsid", "--fork", "nsenter", f"--net={namespace}", *programs.registry(layout).argv],
        processes.environment(layout.name, registry, registry),
        log,
    )
    _wait_for(
        "the image registry",
        lambda: _find_registry(layout) is not None,
        lambda: probes.http_ok(f"http://{layout.registry}/v2/"),
        log,
    )


def end_registry(layout: Layout) -> None:
    for process in processes.census(layout.name, programs.REGISTRY):
        processes.send(process, signal.SIGKILL)
        processes.wait_until(partial(processes.gone, process), 60)


def _find_registry(layout: Layout) -> processes.Process | None:
    census = processes.census(layout.name, programs.REGISTRY)
    return processes.main_process(census, programs.REGISTRY, programs.REGISTRY, "docker-registry")


def _managers(layout: Layout, settings: Settings) -> list[NodeLayout]:
    return layout.nodes(settings.managers)


def _sockets(managers: list[NodeLayout]) -> list[Path]:
    return [manager.manager_socket for manager in managers]


def _token(node: NodeLayout, managers: list[NodeLayout]) -> str | None:
    """What an agent joins with; one that has joined before may come back while no manager is there to ask."""
    try:
        tokens = local.tokens(_sockets(managers))
    except StackyardError:
        if (node.data_dir / programs.AGENT).exists():
            return None
        raise
    return tokens.manager if node in managers else tokens.worker


def _wait_for(what: str, alive: Callable[[], bool], answers: Callable[[], bool], log: Path) -> None:
    if not processes.wait_until(alive, 20):
        raise Failed(f"{what} ended at once: {processes.tail(log)}", hint=f"The log is {log}.")
    ended = False

    def settled() -> bool:
        nonlocal ended
        ended = processes.over(alive)
        return ended or answers()

    answered = processes.wait_until(settled, _ANSWER_SECONDS, 0.03)
    if ended or not answered:
        how = "ended" if ended else "does not answer"
        raise Unavailable(f"{what} {how}: {processes.tail(log)}", hint=f"The log is {log}.")
