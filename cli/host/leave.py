"""`stack leave`: takes this host out of its cluster and leaves it as it was."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

from cli.host import checks, local, member, runtime, services, units
from cli.host.engine import Engine
from cli.host.init import SOCKETS
from cli.host.member import Say
from cli.host.record import Home, Record
from cluster.errors import Conflict, Failed, Forbidden, NotFound, StackyardError, Unavailable

_PAUSE = 0.3
_RUNTIME = Path("/run/stackyard")
"""Sockets, links and secrets of manager and agent, which they make again at each start."""


def leave(home: Home, force: bool, patience: float, say: Say) -> bool:
    """Undo what init or join did; False when there is nothing to undo.

    First the node's tasks are given to others, for at most `patience` seconds. With `force` nobody is waited for.
    """
    checks.root_on_linux()
    programs = checks.programs()
    known = home.read()
    if known is None:
        return False
    others = _other_managers(known)
    if known.manager and not known.etcd and not others and not force:
        raise Conflict(
            "this host's manager has the cluster's only etcd: what the cluster knows of its stacks ends with it",
            hint="`stack leave --force` ends the cluster. Have the other hosts leave first, or they cannot say so.",
        )
    joined = home.is_node()
    if joined and not force:
        _give_up_tasks(home, known, patience, say)
    _stop_agent(home, known, say)
    if joined:
        say("removing this node's containers and networks")
        member.run_agent(home, known, programs, "--only-leave")
        _say_goodbye(home, known, others, force, say)
    _stop_manager(known, say)
    if known.configuration:
        runtime.unregister(Engine(Path(known.engine)), Path(known.configuration), say)
    if known.context:
        local.remove_context(known.context)
    say(f"removing {home.directory}")
    _remove(home)
    return True


def _give_up_tasks(home: Home, known: Record, patience: float, say: Say) -> None:
    """Drain this node, and wait until the others have its tasks."""
    try:
        member.call(home, known.managers, "POST", "/v1/self/drain")
        deadline = time.monotonic() + patience
        tasks = -1
        while (now := member.own_view(home, known).tasks) > 0:
            if now != tasks:
                say(f"giving {now} tasks to other nodes")
                tasks = now
            if time.monotonic() > deadline:
                raise Failed(
                    f"{now} tasks have not found another node within {patience:.0f} s; this one takes no new ones",
                    hint="`stack leave --force` leaves all the same; to stay, on a manager: "
                    f"`stack node update {known.name} --availability active`.",
                )
            time.sleep(_PAUSE)
    except NotFound:
        return  # an earlier leave got as far as being forgotten
    except (Unavailable, Forbidden) as error:
        raise Unavailable(
            f"the managers do not answer this node: {error.message}",
            hint="`stack leave --force` leaves without them; then remove the node on a manager.",
        ) from error


def _other_managers(known: Record) -> tuple[str, ...]:
    """The URLs of managers on other hosts, as far as one that answers tells."""
    own = f"https://{known.manager}"
    try:
        living = local.managers(SOCKETS, known.managers) if known.manager else known.managers
    except StackyardError:
        living = known.managers
    return tuple(url for url in living if url != own)


def _say_goodbye(home: Home, known: Record, others: tuple[str, ...], force: bool, say: Say) -> None:
    if not others and known.manager and not known.etcd:
        return  # the cluster ends
    try:
        # one of the others, for with this node its own etcd goes
        member.call(home, others or known.managers, "DELETE", "/v1/self")
    except StackyardError as error:
        if not force:
            raise
        say(f"the managers were not told ({error.message}): they count this node as down until it is removed there")


def _stop_agent(home: Home, known: Record, say: Say) -> None:
    if known.systemd:
        say("stopping the agent")
        services.remove(units.AGENT)
    if _held(home.agent / "lock"):
        raise Conflict("the agent of this host still runs", hint="Stop stack-agent, then run `stack leave` again.")


def _stop_manager(known: Record, say: Say) -> None:
    if not known.manager:
        return
    if known.systemd:
        say("stopping the manager")
        services.remove(units.MANAGER)
    if local.answers(SOCKETS):
        raise Conflict("the manager of this host still runs", hint="Stop stack-manager, then run `stack leave` again.")


def _held(lock: Path) -> bool:
    """Whether a running agent holds its lock."""
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _remove(home: Home) -> None:
    """Remove our own files and directories, the record last: until then the command can be run again."""
    for directory in (home.agent, home.manager, _RUNTIME):
        for point in sorted(_mounts_below(directory), reverse=True):
            subprocess.run(["umount", "--lazy", str(point)], check=False)  # memory that held files for containers
        if directory.exists():
            shutil.rmtree(directory)
    home.wrapper.unlink(missing_ok=True)
    home.forget()
    if not os.listdir(home.directory):
        home.directory.rmdir()


def _mounts_below(directory: Path) -> list[Path]:
    points = [Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point.is_relative_to(directory)]
