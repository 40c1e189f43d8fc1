"""The steps that every member of a cluster goes through: the engine made ready, a certificate, an agent that runs."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.host import checks, runtime, services, units
from cli.host.engine import SOCKETS, Engine
from cli.host.record import Home, Record
from cluster.errors import Failed, StackyardError, Unavailable, UserError

if TYPE_CHECKING:
    from cluster.views import NodeView

READY_WITHIN = 60.0
_PAUSE = 0.2
_LONGEST = 600  # seconds; removing hundreds of containers takes minutes

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """`news`: what was done, "" when nothing was to do. `by_hand`: commands to keep running where systemd does not."""

    record: Record
    news: str
    by_hand: tuple[str, ...] = ()
    again: bool = False


def engine_socket(given: Path | None) -> Path:
    if given is not None:
        return given
    return next((path for path in SOCKETS if path.exists()), SOCKETS[0])


def with_systemd(wanted: bool | None) -> bool:
    """Whether systemd is to run the programs: as it was said, or where there is one."""
    if wanted and not services.available():
        raise UserError(
            "this host was not booted with systemd",
            hint="With --no-systemd the commands that must be kept running are shown.",
        )
    return services.available() if wanted is None else wanted


def checked_engine(home: Home, record: Record) -> tuple[Engine, Mapping[str, Any]]:
    """Make sure of this host and its engine before anything is changed."""
    checks.tools()
    engine = Engine(Path(record.engine))
    info = engine.info()
    checks.engine(info)
    runtime.plan(engine, info, home.wrapper)
    return engine, info


def ready_engine(home: Home, engine: Engine, info: Mapping[str, Any], say: Say) -> str:
    """Have the engine know our runtime; gives the file that it knows it from."""
    runtime.install_wrapper(home.wrapper)
    return str(runtime.register(engine, info, home.wrapper, say))


def enrol(home: Home, record: Record, token: str, role: str, programs: Path, say: Say) -> None:
    """Get this node's certificate with a join token, unless it has one. The key is made here and stays."""
    if home.is_node():
        return
    say(f"joining as {record.name} by {', '.join(record.managers)}")
    run_agent(home, record, programs, "--only-join", "--role", role, token=token)


def join_again(home: Home, record: Record, token: str, programs: Path, say: Say) -> None:
    """Get a certificate anew, for the same key, and with it the life that the cluster is in. The agent may not run."""
    say(f"joining again as {record.name} by {', '.join(record.managers)}; what runs here is not touched")
    run_agent(home, record, programs, "--only-join", "--again", token=token)


def run_agent(home: Home, record: Record, programs: Path, *words: str, token: str = "") -> None:
    """Have the agent's program do one thing and end. Raises what it says when it cannot."""
    environment = {"STACKYARD_JOIN_TOKEN": token, "STACKYARD_LOG": "ERROR"}
    run_program([*agent_command(home, record, programs), *words], environment, "stack-agent")


def run_program(command: Sequence[str], environment: Mapping[str, str], name: str) -> None:
    """Have a program do one thing and end. Raises what it says when it cannot."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{name} takes longer than {_LONGEST} s", hint="Run it again.") from error
    if done.returncode:
        message, _, hint = done.stderr.strip().rpartition(f"{name}: ")[2].partition("\n")
        kinds: dict[int, type[StackyardError]] = {UserError.exit_code: UserError, Unavailable.exit_code: Unavailable}
        raise kinds.get(done.returncode, Failed)(message or f"{name} failed", hint=hint)


def start_agent(home: Home, record: Record, programs: Path, say: Say) -> None:
    say("starting the agent, now and after each boot")
    services.start(units.AGENT, units.agent(agent_command(home, record, programs)))


def await_ready(find: Callable[[], NodeView | None], say: Say) -> None:
    """Wait until the cluster counts this node as ready."""
    last = "the cluster has not seen its agent"
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        try:
            view = find()
        except Unavailable as error:
            last = error.message
            view = None
        if view is not None:
            troubles = "; ".join(view.conditions.values())
            if view.status == "ready" and not troubles:
                return
            last = " ".join(part for part in (view.status, view.reason, troubles) if part)
        if not services.runs(units.AGENT):
            last = "its agent does not run"
        time.sleep(_PAUSE)
    raise Failed(
        f"this node did not become ready within {READY_WITHIN:.0f} s: {last}",
        hint=f"`journalctl -u {units.AGENT}` tells more; run the command again when it is mended.",
    )


def agent_command(home: Home, record: Record, programs: Path) -> list[str]:
    return [
        str(programs / "stack-agent"),
        *("--name", record.name, "--data-dir", str(home.agent), "--manager", ",".join(record.managers)),
        *("--advertise", record.advertise, "--engine", record.engine),
    ]


def own_view(home: Home, record: Record) -> NodeView:
    """What the cluster says of this node, asked with the node's own certificate."""
    import msgspec

    from cluster.views import NodeView

    return msgspec.json.decode(call(home, record.managers, "GET", "/v1/self"), type=NodeView)


def call(home: Home, managers: Sequence[str], method: str, path: str, body: object = None) -> bytes:
    """Ask a manager something with the node's own certificate."""
    from cli.client.contexts import Context
    from cli.client.transport import Transport

    ca, certificate, key = (str(home.agent / name) for name in ("ca.pem", "node.pem", "key.pem"))
    transport = Transport(Context(endpoints=tuple(managers), ca=ca, cert=certificate, key=key), timeout=10)
    try:
        return transport.call(method, path, body=body)
    finally:
        transport.close()
