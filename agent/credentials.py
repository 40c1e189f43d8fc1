"""Who this node is: its key, certificate and the cluster's CA on disk, and how it gets them with a join token."""

from __future__ import annotations

import logging
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

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
from cluster.model.node import Role
from cluster.views import ErrorBody, JoinReply, JoinRequest

log = logging.getLogger(__name__)

_TIMEOUT = aiohttp.ClientTimeout(total=15, connect=5)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A node's certificate files, and whom they name."""

    directory: Path
    identity: pki.Identity

    def context(self) -> ssl.SSLContext:
        """Talk TLS to the cluster's managers as this node."""
        key, certificate, ca = _files(self.directory)
        return pki.client_context(ca.read_text(), str(certificate), str(key))


def _files(directory: Path) -> tuple[Path, Path, Path]:
    return directory / "key.pem", directory / "node.pem", directory / "ca.pem"


def load(directory: Path) -> Credentials | None:
    """Read what an earlier join left; None if this node has not joined."""
    _, certificate, ca = _files(directory)
    if not certificate.exists() or not ca.exists():
        return None
    try:
        der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
        return Credentials(directory, pki.identity(der))
    except (ValueError, StackyardError) as error:
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
        _write(key_file, pki.new_key())
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
    _write(ca_file, reply.ca)
    _write(certificate_file, reply.certificate)
    log.info("joined the cluster %s as node %s", reply.cluster, reply.node)
    credentials = load(directory)
    assert credentials is not None
    return credentials


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


def _write(path: Path, text: str) -> None:
    """Write a file that only root can read, whole or not at all."""
    fresh = path.with_suffix(".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)
