"""The clusters that a person can talk to: a file of contexts, each with addresses of managers, a UNIX socket or a host.

    $XDG_CONFIG_HOME/stackyard/contexts.json (XDG_CONFIG_HOME is ~/.config by default)
    {"current": "lab", "contexts": {"lab": {"endpoints": [...], "ca": PATH, "cert": PATH, "key": PATH},
                                    "prod": {"endpoints": [...], "ca": PATH, "token": PATH},
                                    "here": {"socket": PATH},
                                    "there": {"ssh": "ssh://root@HOST"}}}

STACK_CONTEXT names another context than the current one; STACK_HOST is a manager's UNIX socket, or ssh://USER@HOST for
the one of another host, and needs no file.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from cluster.alike import did_you_mean
from cluster.errors import NotFound, UserError

DEFAULT_SOCKET = Path("/run/stackyard/manager.sock")


class Context(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where one cluster is: URLs of managers, with the files of a client certificate or of a token, or `socket`.

    Or `ssh`, the address of a manager's host with that socket (cli/client/ssh.py).
    """

    endpoints: tuple[str, ...] = ()
    ca: str = ""
    cert: str = ""
    key: str = ""
    token: str = ""
    socket: str = ""
    ssh: str = ""

    @property
    def where(self) -> str:
        return self.socket or self.ssh or ", ".join(self.endpoints)


def by_host(text: str) -> Context:
    """Read what STACK_HOST may be: a UNIX socket, or a host to be reached by ssh. Raises UserError."""
    if text.startswith("ssh://"):
        from cli.client.ssh import command

        command(text)
        return Context(ssh=text)
    if "://" in text and not text.startswith("unix://"):
        raise UserError(f"{text} is neither a socket nor a host", hint="Give unix:///PATH or ssh://USER@HOST.")
    return Context(socket=text.removeprefix("unix://"))


class Contexts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    current: str = ""
    contexts: dict[str, Context] = {}


def folder(name: str) -> Path:
    """Give the folder for the files of a context."""
    return path().parent / name


def path() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "stackyard" / "contexts.json"


def load() -> Contexts:
    """Read the file; an absent one holds no context."""
    try:
        return msgspec.json.decode(path().read_bytes(), type=Contexts)
    except FileNotFoundError:
        return Contexts()
    except msgspec.MsgspecError as error:
        raise UserError(f"{path()}: {error}", hint="Mend the file, or remove it and add the contexts again.") from error


def _save(contexts: Contexts) -> None:
    path().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path().with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(contexts), indent=2) + b"\n")
    fresh.replace(path())


def add(name: str, context: Context, *, use: bool = True) -> None:
    """Write a context, in place of any of that name."""
    old = load()
    _save(Contexts(name if use or not old.current else old.current, old.contexts | {name: context}))


def remove(name: str) -> None:
    """Forget a context; no error when there is none. The file goes with the last one."""
    old = load()
    if name not in old.contexts:
        return
    rest = {other: context for other, context in old.contexts.items() if other != name}
    if rest:
        _save(Contexts("" if old.current == name else old.current, rest))
    else:
        path().unlink()


def use(name: str) -> None:
    """Make a context the current one."""
    old = load()
    if name not in old.contexts:
        raise NotFound(f"there is no context {name}", hint=_what_there_is(old, name))
    _save(Contexts(name, old.contexts))


def chosen(name: str | None = None) -> Context:
    """Give the context to talk to: `name`, else STACK_HOST, STACK_CONTEXT, the current one, the socket of this host."""
    host = os.environ.get("STACK_HOST", "")
    if name is None and host:
        return by_host(host)
    contexts = load()
    name = name or os.environ.get("STACK_CONTEXT") or contexts.current
    if name:
        if name not in contexts.contexts:
            raise NotFound(f"there is no context {name} in {path()}", hint=_what_there_is(contexts, name))
        return contexts.contexts[name]
    if DEFAULT_SOCKET.exists():
        return Context(socket=str(DEFAULT_SOCKET))
    raise UserError(
        "no cluster to talk to: there is no context, and no manager runs on this host",
        hint="`stack context add` adds one; `stack lab up` makes a cluster on this machine.",
    )


def _what_there_is(contexts: Contexts, name: str) -> str:
    names = ", ".join(sorted(contexts.contexts))
    if not names:
        return "`stack lab up` makes a cluster on this machine, with a context."
    return did_you_mean(name, contexts.contexts, f"There are: {names}.")
