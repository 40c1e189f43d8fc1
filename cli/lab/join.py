"""How a new cluster of the lab is joined: tokens for its agents, and a context for whoever types `stack` here.

Both come from a manager's UNIX socket, to which root may say anything.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cli.lab.layout import Layout, NodeLayout
from cluster.errors import Failed, StackyardError, Unavailable

if TYPE_CHECKING:
    from cluster.views import JoinTokens, NodeView

_RENEW_AFTER = 30 * 24 * 3600  # seconds; certificates live for three times as long


def tokens(managers: Sequence[NodeLayout]) -> JoinTokens:
    """The join tokens, from the first manager that answers."""
    import msgspec

    from cluster.views import JoinTokens

    return msgspec.json.decode(_ask(managers, "GET", "/v1/join-tokens"), type=JoinTokens)


def nodes(managers: Sequence[NodeLayout]) -> list[NodeView]:
    import msgspec

    from cluster.views import NodeView

    return msgspec.json.decode(_ask(managers, "GET", "/v1/nodes"), type=list[NodeView])


def write_context(layout: Layout, managers: Sequence[NodeLayout]) -> bool:
    """Make the lab the cluster that `stack` talks to; False if it is one that already fits."""
    import msgspec

    from cli.client import contexts
    from cluster import pki
    from cluster.views import CertificateReply, CertificateRequest

    token = pki.parse_token(tokens(managers).worker)
    folder = _folder(layout)
    ca, certificate, key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
    context = contexts.Context(
        endpoints=tuple(manager.api_url for manager in managers), ca=str(ca), cert=str(certificate), key=str(key)
    )
    known = contexts.load()
    if known.contexts.get(layout.name) == context and _fits(ca, certificate, token.ca_digest):
        if known.current != layout.name:
            contexts.use(layout.name)
        return False
    private = pki.new_key()
    request = CertificateRequest(csr=pki.new_csr(private), name=f"lab-{layout.name}")
    reply = msgspec.json.decode(_ask(managers, "POST", "/v1/certificates", request), type=CertificateReply)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key.touch(mode=0o600)
    key.write_text(private)
    certificate.write_text(reply.certificate)
    ca.write_text(reply.ca)
    contexts.add(layout.name, context)
    return True


def remove_context(layout: Layout) -> None:
    from cli.client import contexts

    contexts.remove(layout.name)
    shutil.rmtree(_folder(layout), ignore_errors=True)


def _folder(layout: Layout) -> Path:
    from cli.client import contexts

    return contexts.path().parent / layout.name


def _fits(ca: Path, certificate: Path, digest: str) -> bool:
    """Whether the files are of the cluster that is there now, and young enough to last."""
    from cluster import pki

    try:
        young = time.time() - certificate.stat().st_mtime < _RENEW_AFTER
        return young and pki.ca_digest(ca.read_text()) == digest
    except (OSError, ValueError):
        return False


def _ask(managers: Sequence[NodeLayout], method: str, path: str, body: object = None) -> bytes:
    from cli.client.contexts import Context
    from cli.client.transport import Transport

    last: StackyardError = Failed("a lab without managers has nothing to join")
    for manager in managers:
        transport = Transport(Context(socket=str(manager.manager_socket)), timeout=10)
        try:
            return transport.call(method, path, body=body)
        except Unavailable as error:
            last = error
        finally:
            transport.close()
    raise last
