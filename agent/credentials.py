"""Who this node is: its key, certificate and the cluster's CA on disk, and how it gets them with a join token."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import aiohttp
import msgspec
from tenacity import (
    AsyncRetrying,
    before_sleep_log,
    retry_if_exception_type,
    stop_after_delay,
    stop_never,
    wait_random_exponential,
)

from cluster import errors, pki
from cluster.errors import Failed, StackyardError, Unavailable, UserError
from cluster.files import write_private
from cluster.membership import CertificateReply, JoinReply, JoinRequest, RenewalRequest
from cluster.model.node import Role
from cluster.views import ErrorBody

log = logging.getLogger(__name__)

_LOOK = 3600.0
"""Seconds between two looks at whether the certificate is to be renewed."""

_TRY_AGAIN = 600.0
"""Seconds after which a renewal that failed is tried again."""

_LIFE = "life"
"""The file that says in which life of the cluster this node has joined; another one begins with each restore."""

_TIMEOUT = aiohttp.ClientTimeout(total=15, connect=5)


@dataclass(slots=True)
class Credentials:
    """A node's certificate files, whom they name, and TLS to the cluster's managers as this node.

    Connections are to be made with `context` as it is at that moment: it changes with the certificate, and with the
    roots that are trusted.
    """

    directory: Path
    identity: pki.Identity
    tls: ssl.SSLContext = field(repr=False, compare=False)
    life: str = ""

    def context(self) -> ssl.SSLContext:
        return self.tls

    def roots(self) -> tuple[str, ...]:
        """The CA's roots that are trusted (PEM)."""
        return pki.certificates(_files(self.directory)[2].read_text())

    def signer(self) -> str:
        """The digest of the root that has signed the certificate; "" for one that is not trusted."""
        return pki.signer(_files(self.directory)[1].read_text(), self.roots())

    def trust(self, roots: tuple[str, ...]) -> None:
        """Trust these roots from now on, and no others. Raises Failed for what are none of this cluster."""
        try:
            ours = bool(roots) and all(pki.cluster_of(root) == self.identity.cluster for root in roots)
        except ValueError:
            ours = False
        if not ours:
            raise Failed("a manager tells of roots of the CA that are not of this node's cluster")
        if roots != self.roots():
            write_private(_files(self.directory)[2], "".join(roots))
            self._reload()
            log.info("trusts %d roots of the cluster's CA", len(roots))

    def certify(self, certificate: str) -> None:
        """Show this certificate from now on."""
        write_private(_files(self.directory)[1], certificate)
        self._reload()
        log.info("renewed this node's certificate")

    def _reload(self) -> None:
        key, certificate, ca = _files(self.directory)
        self.tls = pki.client_context(ca.read_text(), str(certificate), str(key))


def _files(directory: Path) -> tuple[Path, Path, Path]:
    return directory / "key.pem", directory / "node.pem", directory / "ca.pem"


def load(directory: Path) -> Credentials | None:
    """Read what an earlier join left; None if this node has not joined."""
    key, certificate, ca = _files(directory)
    if not certificate.exists() or not ca.exists():
        return None
    try:
        der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
        identity = pki.identity(der)
        tls = pki.client_context(ca.read_text(), str(certificate), str(key))
        life = directory / _LIFE
        return Credentials(directory, identity, tls, life.read_text() if life.exists() else "")
    except (OSError, ValueError, StackyardError) as error:
        raise Failed(
            f"the certificate {certificate} cannot be used: {error}",
            hint=f"Delete {certificate} and start the agent with a join token.",
        ) from error


async def join(
    directory: Path,
    managers: tuple[str, ...],
    token_text: str,
    name: str,
    *,
    patience: float | None = None,
    role: Role | None = None,
) -> Credentials:
    """Ask the managers, one after another until one answers, for this node's certificate.

    The key is made here once: asking again with it gives the same node again. Raises UserError or Forbidden when asking
    again cannot help, such as with a token for another `role`, and Unavailable when none has answered for `patience`
    seconds (None: for ever).
    """
    token = pki.parse_token(token_text)
    key_file, certificate_file, ca_file = _files(directory)
    if not key_file.exists():
        write_private(key_file, pki.new_key())
    csr = pki.new_csr(key_file.read_text())
    attempts = AsyncRetrying(
        retry=retry_if_exception_type(Unavailable),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        stop=stop_never if patience is None else stop_after_delay(patience),
        before_sleep=before_sleep_log(log, logging.WARNING),
        reraise=True,
    )
    tried = 0
    async for attempt in attempts:
        with attempt:
            url = managers[tried % len(managers)]
            tried += 1
            reply = await _ask(url, token, JoinRequest(str(token), csr, name, role))
    write_private(ca_file, reply.ca)
    write_private(directory / _LIFE, reply.life)
    write_private(certificate_file, reply.certificate)
    log.info("joined the cluster %s as node %s", reply.cluster, reply.node)
    credentials = load(directory)
    assert credentials is not None
    return credentials


async def keep_fresh(credentials: Credentials, managers: Callable[[], Iterable[str]]) -> NoReturn:
    """Renew the certificate whenever two thirds of its life are over, for ever; sessions go on meanwhile."""
    _, certificate, _ = _files(credentials.directory)
    while True:
        # by the wall clock, which may jump, and not in one sleep, which a suspended host would sleep through
        if (left := pki.renew_at(certificate.read_text()) - time.time()) > 0:
            await asyncio.sleep(min(_LOOK, left))
            continue
        try:
            await renew(credentials, tuple(managers()))
        except StackyardError as error:
            log.warning("the certificate, which is to be renewed, stays as it is for now: %s", error)
            await asyncio.sleep(_TRY_AGAIN)


async def renew(credentials: Credentials, managers: tuple[str, ...]) -> None:
    """Get the next certificate for this node's key from the first manager that gives it. Raises what the last said."""
    key, _, _ = _files(credentials.directory)
    body = msgspec.json.encode(RenewalRequest(pki.new_csr(key.read_text())))
    last: StackyardError = Unavailable("no manager is known")
    for url in managers:
        try:
            answer = await _call("POST", f"{url}/v1/self/certificate", credentials.context(), body)
        except StackyardError as error:
            last = error
            continue
        credentials.certify(msgspec.json.decode(answer, type=CertificateReply).certificate)
        return
    raise last


async def is_left_out(credentials: Credentials, url: str) -> bool:
    """Tell whether a manager of this cluster, asked without a certificate, signs with a root that is unknown here."""
    roots = credentials.roots()
    try:
        signing = (await _call("GET", f"{url}/v1/ca", pki.client_context("".join(roots)))).decode(errors="replace")
    except StackyardError:
        return False
    return signing not in roots


async def claims_kinship(credentials: Credentials, url: str) -> bool:
    """Tell whether whoever answers there claims a root of this cluster's CA that is unknown here. Proven is nothing."""
    try:
        claimed = (await _call("GET", f"{url}/v1/ca", pki.unverified_context())).decode(errors="replace")
        return claimed not in credentials.roots() and pki.cluster_of(claimed) == credentials.identity.cluster
    except (StackyardError, ValueError):
        return False


async def _ask(url: str, token: pki.JoinToken, request: JoinRequest) -> JoinReply:
    """The CA first, checked against the token; only the holder of a certificate of that CA is then told the secret."""
    ca = (await _call("GET", f"{url}/v1/ca", pki.unverified_context())).decode(errors="replace")
    pki.check_ca(ca, token)
    body = msgspec.json.encode(request)
    answer = await _call("POST", f"{url}/v1/join", pki.client_context(ca), body)
    reply = msgspec.json.decode(answer, type=JoinReply)
    pki.check_ca(reply.ca, token)
    return reply


async def _call(method: str, url: str, context: ssl.SSLContext, body: bytes | None = None) -> bytes:
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            headers = {"Content-Type": "application/json"}
            async with session.request(method, url, ssl=context, data=body, headers=headers) as answer:
                data = await answer.read()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unavailable(f"no answer from the manager at {url}: {error or 'it took too long'}") from error
    if answer.status < 400:
        return data
    try:
        told = msgspec.json.decode(data, type=ErrorBody)
    except msgspec.MsgspecError:
        told = ErrorBody(f"{url} answers with status {answer.status}: {data[:200].decode(errors='replace')}")
    kind = getattr(errors, told.kind, None)
    if answer.status >= 500 or kind is None:
        kind = Unavailable if answer.status >= 500 else UserError
    raise kind(told.error, hint=told.hint)
