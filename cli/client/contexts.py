"""The clusters that a person can talk to: a file of contexts, each with addresses of managers, a UNIX socket or a host.

    $XDG_CONFIG_HOME/stackyard/contexts.json (XDG_CONFIG_HOME is ~/.config by default)
    {"current": "lab", "contexts": {"lab": {"endpoints": [...], "ca": PATH, "cert": PATH, "key": PATH},
                                    "prod": {"endpoints": [...], "ca": PATH, "token": PATH},
                                    "here": {"socket": PATH},
                                    "there": {"ssh": "ssh://root@HOST"}}}

STACK_CONTEXT names another context than the current one. STACK_HOST needs no file: it is a manager's UNIX socket,
ssh://USER@HOST for the one of another host, or https://HOST:PORT with STACK_CERT_PATH, a folder such as contexts have.
"""

from __future__ import annotations

import os
import urllib.parse
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

    @property
    def problem(self) -> str:
        """What is wrong with it, should it have been written by hand."""
        if sum(map(bool, (self.endpoints, self.socket, self.ssh))) != 1:
            return "it is to have one of `endpoints`, `socket` and `ssh`"
        if self.ssh and not self.ssh.startswith("ssh://"):
            return f"`ssh`: {self.ssh!r} does not begin with ssh://"
        if not self.endpoints:
            return ""
        if wrong := [url for url in self.endpoints if not url.startswith("https://") or url == "https://"]:
            return f"`endpoints`: {wrong[0]!r} is not of the form https://HOST:PORT"
        if not self.ca:
            return "`ca` is missing, the file with the certificate of the cluster's CA"
        if bool(self.cert) != bool(self.key):
            return "`cert` and `key` go together"
        return "" if self.cert or self.token else "it is to have `token`, or `cert` and `key`"


def by_host(text: str) -> Context:
    """Read what STACK_HOST may be: a UNIX socket, or a host to be reached by ssh. Raises UserError."""
    if text.startswith("ssh://"):
        from cli.client.ssh import command

        command(text)
        return Context(ssh=text)
    if text.startswith(("https://", "tcp://")):
        return _by_tls(text)
    path = text.removeprefix("unix://")
    if "://" in path or "/" not in path:
        raise UserError(
            f"{text} is neither a socket nor a host", hint="Give unix:///PATH, ssh://USER@HOST or https://HOST:PORT."
        )
    return Context(socket=path)


def _by_tls(text: str) -> Context:
    """Read URLs of managers, with commas between them: https, or tcp as docker has it; the port may be left out."""
    from cli.client.enrol import url

    where = os.environ.get("STACK_CERT_PATH", "")
    if not where:
        raise UserError(
            f"{text} needs a certificate or token",
            hint="STACK_CERT_PATH is to be a folder with ca.pem and either token or cert.pem and key.pem, such as "
            f"`stack context add` makes in {path().parent}.",
        )
    files = {kind: Path(where).absolute() / name for kind, name in CREDENTIALS.items()}
    held = {kind: str(file) for kind, file in files.items() if kind == "ca" or file.exists()}
    if "token" not in held and not {"cert", "key"} <= held.keys():
        raise UserError(f"there is neither a token nor cert.pem and key.pem in {where}", hint="It is STACK_CERT_PATH.")
    hosts = (one.removeprefix("tcp://").removeprefix("https://") for one in text.split(","))
    return Context(tuple(map(url, hosts)), **held)


CREDENTIALS = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem", "token": "token"}
"""The files of a context in its folder."""


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
        data = path().read_bytes()
    except FileNotFoundError:
        return Contexts()
    try:
        return msgspec.json.decode(data, type=Contexts)
    except msgspec.MsgspecError as error:
        from cli.client.context_faults import unreadable

        raise unreadable(path(), data) from error


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


def meant(known: Contexts, name: str | None = None) -> str:
    """Name the context that commands go to: `name`, else STACK_CONTEXT or the current one; "" where it is none."""
    if name is None and os.environ.get("STACK_HOST"):
        return ""
    return name or os.environ.get("STACK_CONTEXT") or known.current


def forget_manager(name: str | None, address: str) -> list[str]:
    """Have the chosen context ask no manager at this address any more, if it knows another one; gives its URLs."""
    known = load()
    name = meant(known, name)
    if name not in known.contexts:
        return []
    old = known.contexts[name]
    gone = [url for url in old.endpoints if urllib.parse.urlsplit(url).hostname == address]
    if not gone or len(gone) == len(old.endpoints):
        return []
    left = tuple(url for url in old.endpoints if url not in gone)
    _save(Contexts(known.current, known.contexts | {name: msgspec.structs.replace(old, endpoints=left)}))
    return gone


def chosen(name: str | None = None) -> Context:
    """Give the context to talk to: `name`, else STACK_HOST, STACK_CONTEXT, the current one, the socket of this host."""
    host = os.environ.get("STACK_HOST", "")
    if name is None and host:
        return by_host(host)
    known = load()
    if name := meant(known, name):
        return named(known, name)
    if DEFAULT_SOCKET.exists():
        return Context(socket=str(DEFAULT_SOCKET))
    raise UserError(
        "no cluster to talk to: there is no context, and no manager runs on this host"
        if not known.contexts
        else "no cluster to talk to: no context is the current one",
        hint="`stack context add` adds one; `stack lab up` makes a cluster on this machine."
        if not known.contexts
        else f"`stack context use NAME` makes it so. There are: {', '.join(sorted(known.contexts))}.",
    )


def named(known: Contexts, name: str) -> Context:
    """Give a context by its name. Raises NotFound, and UserError where it does not say how a cluster is reached."""
    if name not in known.contexts:
        raise NotFound(f"there is no context {name} in {path()}", hint=_what_there_is(known, name))
    found = known.contexts[name]
    if problem := found.problem:
        from cli.client.context_faults import unusable

        raise unusable(path(), name, problem)
    return found


def _what_there_is(contexts: Contexts, name: str) -> str:
    names = ", ".join(sorted(contexts.contexts))
    if not names:
        return "`stack lab up` makes a cluster on this machine, with a context."
    return did_you_mean(name, contexts.contexts, f"There are: {names}.")
