"""`stack lab`: a cluster of several hosts on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.groups import Group
from cli.output import format_option, table

if TYPE_CHECKING:
    from cli.lab import Lab

_NODE = click.argument("node")
_PROGRAM = click.argument("program", required=False)


def _lab(subnet: str | None = None) -> Lab:
    from cli.lab import Lab

    return Lab(subnet=subnet, say=lambda line: click.echo(line, err=True))


@click.group(cls=Group)
def lab() -> None:
    """A cluster of several hosts on this machine, without virtual machines (root only).

    STACKYARD_LAB names the lab, so that several can stand side by side on different networks.
    """


@lab.command()
@click.option("--nodes", type=int, help="How many hosts (3).")
@click.option("--managers", type=int, help="How many of them have a manager and an etcd member (1).")
@click.option("--programs", metavar="NAME,...", help="Only these of etcd, engine, manager, agent (all).")
@click.option("--engine-arg", "engine_args", multiple=True, help="Another argument for each engine, as --live-restore.")
@click.option("--subnet", help="The lab's network, a /24 (10.77.0.0/24).")
@click.option("--no-images", is_flag=True, help="Do not see to it that the registry has the base images.")
def up(
    nodes: int | None,
    managers: int | None,
    programs: str | None,
    engine_args: tuple[str, ...],
    subnet: str | None,
    no_images: bool,
) -> None:
    """Start the lab, or what of it is not up.

    \b
    stack lab up
    stack lab up --nodes 5 --managers 3
    """
    wanted = programs.split(",") if programs else None
    one = _lab(subnet)
    one.up(nodes, managers, wanted, engine_args or None, images=not no_images)
    click.echo("up: " + ", ".join(f"{node.name} {node.layout.address}" for node in one.nodes()))


@lab.command()
@format_option
def status(form: str) -> None:
    """Show the nodes and their programs.

    \b
    stack lab status
    """
    from dataclasses import asdict

    rows = _lab().status()
    if form == "json":
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    if not rows:
        click.echo("there is no lab here: `stack lab up` makes one", err=True)
        return
    names = list(dict.fromkeys(name for row in rows for name in row.programs))
    head = ["NODE", "ADDRESS", "STATE", "LINK", *(name.upper() for name in names)]
    lines = [
        [row.name, row.address, row.state, row.link, *(row.programs.get(name, "-") for name in names)] for row in rows
    ]
    click.echo(table([head, *lines]))


@lab.command("exec", context_settings={"ignore_unknown_options": True})
@_NODE
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(node: str, command: tuple[str, ...]) -> None:
    """Run a command on a node: stack lab exec n2 -- ip addr.

    \b
    stack lab exec n2 -- ip addr
    stack lab exec n2 -- docker ps
    """
    host = _lab().node(node).host
    argv = [*host.enter(), *command]
    os.execvpe(argv[0], argv, host.exec_environment())


@lab.command()
@_NODE
@_PROGRAM
def start(node: str, program: str | None) -> None:
    """Switch on a node with its programs, or start one program.

    \b
    stack lab start n2
    stack lab start n2 agent
    """
    _lab().start(node, program)


@lab.command()
@_NODE
@_PROGRAM
def stop(node: str, program: str | None) -> None:
    """Shut down a node in order, or end one program.

    \b
    stack lab stop n2
    stack lab stop n2 engine
    """
    _lab().stop(node, program)


@lab.command()
@_NODE
@_PROGRAM
def kill(node: str, program: str | None) -> None:
    """Cut the power of a node, or SIGKILL one program.

    \b
    stack lab kill n2
    stack lab kill n2 agent
    """
    _lab().kill(node, program)
    what = f"{program} on {node} is dead" if program else f"{node} is off, as when its power is cut"
    click.echo(f"{what}; `stack lab start {node}{f' {program}' if program else ''}` brings it back", err=True)


@lab.command()
@_NODE
@click.argument("program")
def pause(node: str, program: str) -> None:
    """Stop a program in its tracks (SIGSTOP).

    \b
    stack lab pause n1 manager
    """
    _lab().pause(node, program)


@lab.command()
@_NODE
@click.argument("program")
def unpause(node: str, program: str) -> None:
    """Let a paused program go on (SIGCONT).

    \b
    stack lab unpause n1 manager
    """
    _lab().unpause(node, program)


@lab.command()
@_NODE
def cut(node: str) -> None:
    """Pull a node's network cable.

    \b
    stack lab cut n2
    """
    _lab().cut(node)


@lab.command()
@_NODE
def heal(node: str) -> None:
    """Put a node's network cable back in.

    \b
    stack lab heal n2
    """
    _lab().heal(node)


@lab.command()
@_NODE
@click.argument("program")
@click.option("-f", "--follow", is_flag=True, help="Go on as more is written.")
def logs(node: str, program: str, follow: bool) -> None:
    """Show what a program of a node has written.

    \b
    stack lab logs n2 agent
    """
    log = _lab().node(node).host.log_file(program)
    if not log.exists():
        from cluster.errors import NotFound

        raise NotFound(f"{program} on {node} has written no log", hint="`stack lab status` shows the programs.")
    argv = ["tail", "-n", "+1", *(["-F"] if follow else []), str(log)]
    os.execvp(argv[0], argv)


@lab.command()
def images() -> None:
    """Put base images into the lab's registry, from Docker Hub or made here.

    \b
    stack lab images
    """
    new = _lab().ensure_images()
    from cli.lab.images import BASE_IMAGES

    if new:
        click.echo(f"new in the registry: {', '.join(new)}")
    click.echo(f"the registry has {', '.join(BASE_IMAGES)}")


@lab.command()
@click.option("-f", "--file", required=True, type=click.Path(path_type=Path), help="The Compose file.")
def build(file: Path) -> None:
    """Build the images of a Compose file into the lab's registry, those that have changed.

    \b
    stack lab build -f compose.yml
    """
    built = _lab().build(file)
    click.echo(f"built: {', '.join(built)}" if built else "all images are up to date")


@lab.command()
@click.option("--images", is_flag=True, help="Also remove the registry's images, which the next lab would use.")
def down(images: bool) -> None:
    """Remove the lab: processes, namespaces, links, cgroups and data.

    \b
    stack lab down
    """
    _lab().down(images)
