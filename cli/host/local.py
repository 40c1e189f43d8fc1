"""Managers asked by their UNIX sockets, where root may ask anything; and the context that comes of it."""

from __future__ import annotations

import shutil
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.errors import Failed, NotFound, StackyardError, Unavailable

if TYPE_CHECKING:
    from cluster.membership import JoinTokens
from cluster.views import NodeView

_RENEW_AFTER = 30 * 24 * 3600  # seconds; certificates live for three times as long


def tokens(sockets: Sequence[Path]) -> JoinTokens:
    """The standing join tokens, from the first manager that answers."""
    import msgspec

    from cluster.membership import JoinTokens

    return msgspec.json.decode(ask(sockets, "GET", "/v1/join-tokens"), type=JoinTokens)


def nodes(sockets: Sequence[Path]) -> list[NodeView]:
    import msgspec

    from cluster.views import NodeView

    return msgspec.json.decode(ask(sockets, "GET", "/v1/nodes"), type=list[NodeView])


def managers(sockets: Sequence[Path], known: Sequence[str]) -> tuple[str, ...]:
    """The URLs of all managers that live, those that are known first."""
    import msgspec

    from cluster.views import ClusterView

    living = [one.url for one in msgspec.json.decode(ask(sockets, "GET", "/v1/cluster"), type=ClusterView).managers]
    return tuple(dict.fromkeys((*(url for url in known if url in living), *living)))


def write_context(name: str, endpoints: Sequence[str], sockets: Sequence[Path], client: str) -> bool:
    """Make this the cluster that `stack` talks to, as the client of that name; False if it is one that fits already.

    A new certificate takes the place of those that this client had before.
    """
    import msgspec

    from cli.client import contexts
    from cluster import pki
    from cluster.membership import CertificateReply, CertificateRequest

    token = pki.parse_token(tokens(sockets).worker)
    folder = contexts.folder(name)
    ca, certificate, key = (folder / file for file in ("ca.pem", "cert.pem", "key.pem"))
    context = contexts.Context(endpoints=tuple(endpoints), ca=str(ca), cert=str(certificate), key=str(key))
    known = contexts.load()
    if known.contexts.get(name) == context and _fits(ca, certificate, token.ca_digest):
        if known.current != name:
            contexts.use(name)
        return False
    private = pki.new_key()
    request = CertificateRequest(csr=pki.new_csr(private), name=client)
    reply = msgspec.json.decode(ask(sockets, "POST", "/v1/certificates", request), type=CertificateReply)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key.touch(mode=0o600)
    key.write_text(private)
    certificate.write_text(reply.certificate)
    ca.write_text(reply.ca)
    contexts.add(name, context)
    _revoke_others(sockets, client, reply.certificate)
    return True


def _revoke_others(sockets: Sequence[Path], client: str, certificate: str) -> None:
    import msgspec

    from cluster import pki
    from cluster.people import UserView

    kept = pki.identity(ssl.PEM_cert_to_DER_cert(certificate)).name
    try:
        user = msgspec.json.decode(ask(sockets, "GET", f"/v1/users/{client}"), type=UserView)
    except NotFound:  # the manager is of a release that had no users yet
        return
    for one in user.credentials:
        if one.id != kept:
            ask(sockets, "DELETE", f"/v1/users/{client}/credentials/{one.id}")


def remove_context(name: str) -> None:
    from cli.client import contexts

    contexts.remove(name)
    shutil.rmtree(contexts.folder(name), ignore_errors=True)


def answers(sockets: Sequence[Path]) -> bool:
    """Whether a manager runs here, whatever it can do."""
    try:
        ask(sockets, "GET", "/v1/ping")
    except Unavailable:
        return False
    return True


def ask(sockets: Sequence[Path], method: str, path: str, body: object = None) -> bytes:
    from cli.client.contexts import Context
    from cli.client.transport import Transport

    last: StackyardError = Failed("a cluster without managers has nothing to ask")
    for socket in sockets:
        transport = Transport(Context(socket=str(socket)), timeout=10)
        try:
            return transport.call(method, path, body=body)
        except Unavailable as error:
            last = error
        finally:
            transport.close()
    raise last


def _fits(ca: Path, certificate: Path, digest: str) -> bool:
    """Whether the files are of the cluster that is there now, and young enough to last."""
    from cluster import pki

    try:
        young = time.time() - certificate.stat().st_mtime < _RENEW_AFTER
        return young and digest in map(pki.ca_digest, pki.certificates(ca.read_text())[:1])
    except (OSError, ValueError):
        return False
