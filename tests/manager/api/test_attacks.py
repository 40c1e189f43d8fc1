"""Requests made to harm: heads without end, bodies of two lengths, nests, and names that lead elsewhere."""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from yarl import URL

from cluster import pki
from manager.api import bodies, server
from tests.manager.api.test_rules import routes
from tests.manager.managers import Client, RunningManager
from tests.patience import PATIENCE

pytestmark = pytest.mark.etcd

GET = b"GET /v1/ping HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /v1/join HTTP/1.1\r\nHost: x\r\n"
SECOND = b"GET /v1/ca HTTP/1.1\r\nHost: x\r\n\r\n"
DEPTH = 50_000
TAKE_NONE = {
    "/v1/ca/rotation",
    "/v1/ca/rotation/finish",
    "/v1/doctor",
    "/v1/secrets-key/rotate",
    "/v1/self/drain",
    "/v1/tokens/{role}/rotate",
    "/v1/upgrade/finish",
}
"""They have no body; one that comes is not looked at."""


async def answers(manager: RunningManager, *pieces: bytes) -> bytes:
    """Give all that comes back over one connection, by TLS and without a certificate, until the manager closes it."""
    host, port = manager.settings.listen
    reader, writer = await asyncio.open_connection(host, port, ssl=pki.client_context(manager.ca))
    try:
        async with asyncio.timeout(PATIENCE):
            try:
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                return await reader.read()
            except ConnectionError:
                return b""  # it was closed while we wrote
    finally:
        writer.close()


SMUGGLED = {
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}",
    "a negative length": POST + b"Content-Length: -2\r\n\r\n{}",
    "a space before the colon": POST + b"Content-Length : 2\r\n\r\n{}",
    "an encoding that is none": POST + b"Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a chunk without end": POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
    "a zero in a header": GET + b"X-A: a\x00b\r\n\r\n",
    "a folded header": GET + b"X-A: a\r\n b\r\n\r\n",
    "half a line's end": GET + b"X-A: a\rX-B: b\r\n\r\n",
    "line feeds alone": b"GET /v1/ping HTTP/1.1\nHost: x\n\n",
    "another version of the protocol": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


async def test_nothing_is_smuggled_behind_a_request(manager: RunningManager) -> None:
    for what, request in SMUGGLED.items():
        told = await answers(manager, request + SECOND)
        assert told.startswith(b"HTTP/1.1 400 ") and told.count(b"HTTP/1.1 ") == 1, (what, told)
        assert b"BEGIN CERTIFICATE" not in told, what


ENDLESS = {
    "a header without end": (GET + b"X-A: ", *[b"a" * 65536] * 64),
    "headers without end": (GET, *[b"X-A: a\r\n" * 8192] * 64),
    "a path without end": (b"GET /v1/", *[b"a" * 65536] * 64),
}


async def test_a_head_is_small(manager: RunningManager) -> None:
    for what, pieces in ENDLESS.items():
        told = await answers(manager, *pieces)
        assert told == b"" or told.startswith(b"HTTP/1.1 400 "), (what, told)
    assert (await manager.anonymous().ask("GET", "/ping")).status == 200


async def test_who_never_ends_a_head_is_hung_up_on(manager: RunningManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_TIMEOUT", 0.5)
    for begun in (b"", GET):
        assert await answers(manager, begun) == b""


async def test_who_never_ends_a_body_is_told_so(manager: RunningManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT", 0.5)
    told = await answers(manager, POST + b"Connection: close\r\nContent-Length: 10\r\n\r\n{")
    assert told.startswith(b"HTTP/1.1 400 ") and b"did not come within" in told


HARMFUL = {
    "nested arrays": b"[" * DEPTH + b"]" * DEPTH,
    "nested objects": b'{"a":' * DEPTH + b"1" + b"}" * DEPTH,
    "nested without end": b'{"spec":' * DEPTH,
    "no UTF-8": b'{"token":"\xff\xfe"}',
    "half a surrogate": b'{"token":"\\ud800","csr":"","name":"n"}',
    "a number out of range": b'{"token":1e999}',
    "zeros": b"\x00" * 1000,
    "nothing": b"",
    "one long text": b'"' + b"x" * (1 << 19) + b'"',
}


async def test_bodies_that_are_made_to_harm_are_the_callers_fault(manager: RunningManager, root: Client) -> None:
    """Every route that takes a body says so, and none fails."""
    node = manager.node(await manager.join("n1"))
    for method, path in sorted(routes()):
        if method not in ("PUT", "POST", "PATCH") or path in TAKE_NONE:
            continue
        filled = path.format_map(_Names()).removeprefix("/v1")
        for what, body in HARMFUL.items():
            caller = node if "/self" in path else root
            answer = await caller.ask(method, filled, raw=body)
            assert 400 <= answer.status < 500, (method, path, what, answer)
    assert not manager.core.state.stacks and not manager.core.state.users


class _Names(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "worker" if name == "role" else "x"


NAMES = (
    "..%2f..%2felection%2fx",
    "%2e%2e",
    "..%5c..",
    "a%2fb",
    "%00",
    "a%00b",
    "a%0d%0aX-A:%20b",
    "%ff%fe",
    "%e2%80%ae",
    "a" * 4000,
    "%25%32%66",
    "*",
    "$(id)",
    ";id",
    "-rf",
)


async def test_names_lead_nowhere_else(manager: RunningManager, root: Client) -> None:
    for name in NAMES:
        await leads_nowhere(manager, root, name)


async def leads_nowhere(manager: RunningManager, root: Client, name: str) -> None:
    before = await stored(manager)
    requests = {
        ("PUT", "stacks"): {"spec": {"name": "x", "services": {}}, "operation": "op"},
        ("PUT", "secrets"): {"data": "eA=="},
        ("PUT", "configs"): {"data": "eA=="},
        ("PATCH", "nodes"): {"availability": "drain"},
        ("DELETE", "stacks"): None,
        ("DELETE", "volumes"): None,
        ("DELETE", "users"): None,
        ("DELETE", "nodes"): None,
        ("GET", "explain"): None,
        ("GET", "agent/contents"): None,
    }
    for (method, kind), body in requests.items():
        url = URL(f"{root.base}/v1/{kind}/{name}", encoded=True)
        data = None if body is None else msgspec.json.encode(body)
        async with root.http.request(method, url, data=data) as answer:
            assert 400 <= answer.status < 500, (method, kind, await answer.text())
    made = await root.ask("POST", "/users", {"name": URL(f"/{name}", encoded=True).path[1:], "role": "viewer"})
    assert made.status == 400, made
    assert await stored(manager) == before


async def stored(manager: RunningManager) -> set[str]:
    """All keys, but those of the audit log and of etcd's upkeep, which come by themselves."""
    listed = await manager.core.etcd.range("/")
    return {item.key for item in listed.items if "/audit/" not in item.key and "/upkeep/" not in item.key}


async def test_a_request_for_a_certificate_says_nothing_of_who_one_is(manager: RunningManager) -> None:
    """Whatever names and roles a request has in it, the certificate is of the node that the token made."""
    key = pki.new_key()
    own = x509.load_pem_x509_certificate((manager.settings.data / "manager.pem").read_bytes())
    names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    signing = serialization.load_pem_private_key(key.encode(), None)
    assert isinstance(signing, ec.EllipticCurvePrivateKey)
    request = x509.CertificateSigningRequestBuilder().subject_name(own.subject).add_extension(names, critical=False)
    wished = request.sign(signing, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    tokens = await manager.local().get("/join-tokens")
    answer = await manager.anonymous().ask("POST", "/join", {"token": tokens["worker"], "csr": wished, "name": "n1"})
    assert answer.status == 200, answer
    client = manager._tls_client(manager.context("n1", answer.body["certificate"], key))
    for path in ("/sealing-keys", "/nodes", "/join-tokens"):
        assert (await client.ask("GET", path)).status == 403, path


async def test_nobody_without_identity_comes_to_any_route(manager: RunningManager) -> None:
    """Every route there is, but those that must be open to who has yet to join."""
    open_to_all = {"/v1/ping", "/v1/ca", "/v1/ca/bundle", "/v1/life", "/v1/join", "/v1/openapi.json", "/v1/docs"}
    anonymous = manager.anonymous()
    for method, path in sorted(routes()):
        filled = path.format_map(_Names())
        if path in open_to_all:
            continue
        if method == "WEBSOCKET":
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await anonymous.http.ws_connect(f"{anonymous.base}{filled}")
            assert refused.value.status == 401, path
        else:
            answer = await anonymous.ask(method, filled.removeprefix("/v1"), raw=b"{}")
            assert answer.status == 401, (method, path, answer)
