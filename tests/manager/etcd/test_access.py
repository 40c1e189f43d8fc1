"""Certificates, users and permissions."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from aetcd import rpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from grpc.aio import insecure_channel

from cluster.errors import UserError
from manager.etcd import Credentials, Etcd, EtcdUnavailable, Refused, Tls, WatchDenied, put
from tests.etcd_server import Servers, ServerTls, loopback_address, running

pytestmark = pytest.mark.etcd


class Authority:
    """A CA that writes certificates and keys to files."""

    def __init__(self, home: Path, name: str) -> None:
        self._home = home
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = home / f"{name}.crt"
        self._write(
            self.certificate,
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256()),
        )

    def issue(self, name: str, address: str | None = None) -> tuple[Path, Path]:
        """Certificate and key, for a server at `address` or a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if address else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key).add_extension(
            # etcd's own gateway also dials the server with the server's certificate.
            x509.ExtendedKeyUsage([usage, ExtendedKeyUsageOID.CLIENT_AUTH] if address else [usage]),
            critical=False,
        )
        if address:
            san = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
            builder = builder.add_extension(san, critical=False)
        paths = self._home / f"{name}.crt", self._home / f"{name}.key"
        self._write(paths[0], builder.sign(self._key, hashes.SHA256()))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(hours=1))
        )

    def _write(self, path: Path, certificate: x509.Certificate) -> None:
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def tls_of(authority: Authority, name: str) -> Tls:
    cert, key = authority.issue(name)
    return Tls(ca=authority.certificate.read_bytes(), cert=cert.read_bytes(), key=key.read_bytes())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "ca")


@pytest.fixture(scope="module")
def tls_servers(version: str, authority: Authority) -> Iterator[Servers]:
    addresses = [loopback_address() for _ in range(3)]
    client_cert, client_key = authority.issue("health")
    tls = [
        ServerTls(authority.certificate, *authority.issue(f"member-{address}", address), client_cert, client_key)
        for address in addresses
    ]
    with running(version, 3, addresses=addresses, tls=tls) as servers:
        yield servers


async def test_each_member_is_believed_for_its_own_address(
    tls_servers: Servers, authority: Authority, prefix: str
) -> None:
    async with Etcd.connect(tls_servers.endpoints, tls_of(authority, "manager")) as etcd:
        assert {member.endpoint for member in await etcd.status()} == set(tls_servers.endpoints)
        async with etcd.lease(5) as lease, aclosing(etcd.follow(prefix)) as changes:
            await anext(changes)
            tls_servers.first.kill()
            for n in range(3):
                await etcd.get(prefix)  # reads are repeated; a write could go into the dead connection
                await etcd.txn((), [put(f"{prefix}{n}", b"", lease.id)])
                await anext(changes)
    tls_servers.restore()


async def test_who_has_no_certificate_of_this_authority_is_not_let_in(
    tls_servers: Servers, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "stranger")
    with pytest.raises(EtcdUnavailable):
        async with Etcd.connect(tls_servers.endpoints, tls_of(stranger, "manager"), patience=0.1):
            pass
    trusting = tls_of(stranger, "trusting")
    mixed = Tls(ca=authority.certificate.read_bytes(), cert=trusting.cert, key=trusting.key)
    with pytest.raises(EtcdUnavailable):
        async with Etcd.connect(tls_servers.endpoints, mixed, patience=0.1):
            pass


@pytest.mark.parametrize(
    ("url", "with_tls"),
    [("https://10.0.0.1:2379", False), ("http://10.0.0.1:2379", True), ("ftp://10.0.0.1", False), ("http://", False)],
    ids=["https without certificates", "http with certificates", "another scheme", "no host"],
)
async def test_an_address_that_cannot_be_meant_is_refused(url: str, with_tls: bool, authority: Authority) -> None:
    with pytest.raises(UserError):
        async with Etcd.connect([url], tls_of(authority, "any") if with_tls else None):
            pass


async def test_no_address_at_all_is_refused() -> None:
    with pytest.raises(UserError):
        async with Etcd.connect([]):
            pass


@pytest.fixture(scope="module")
def guarded_server(version: str) -> Iterator[Servers]:
    """With users: root, and `worker` who may use keys under /stackyard/."""
    with running(version, arguments=["--auth-token-ttl=1"]) as servers:
        asyncio.run(_make_users(servers.first.client_url))
        yield servers


async def _make_users(url: str) -> None:
    async with insecure_channel(url.removeprefix("http://")) as channel:
        auth = rpc.AuthStub(channel)
        for user, role in (("root", "root"), ("worker", "worker")):
            await auth.UserAdd(rpc.AuthUserAddRequest(name=user, password=f"{user}'s"))
            await auth.RoleAdd(rpc.AuthRoleAddRequest(name=role))
            await auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user=user, role=role))
        permission = rpc.Permission(permType=rpc.Permission.READWRITE, key=b"/stackyard/", range_end=b"/stackyard0")
        await auth.RoleGrantPermission(rpc.AuthRoleGrantPermissionRequest(name="worker", perm=permission))
        await auth.AuthEnable(rpc.AuthEnableRequest())


@asynccontextmanager
async def worker(servers: Servers) -> AsyncIterator[Etcd]:
    async with Etcd.connect(servers.endpoints, credentials=Credentials("worker", "worker's")) as etcd:
        yield etcd


async def test_a_watch_without_permission_is_denied(guarded_server: Servers) -> None:
    async with worker(guarded_server) as etcd:
        with pytest.raises(WatchDenied, match="/elsewhere/"):
            await anext(etcd.watch("/elsewhere/", 1))
        with pytest.raises(Refused, match="permission denied"):
            await etcd.txn((), [put("/elsewhere/key", b"")])
        with pytest.raises(Refused, match="permission denied"):
            await anext(etcd.follow("/elsewhere/"))


async def test_a_wrong_password_is_told(guarded_server: Servers, prefix: str) -> None:
    async with Etcd.connect(guarded_server.endpoints, credentials=Credentials("worker", "wrong")) as etcd:
        with pytest.raises(Refused, match="authentication failed"):
            await etcd.get(prefix)
        with pytest.raises(Refused, match="authentication failed"):
            await anext(etcd.watch(prefix, 1))
    async with Etcd.connect(guarded_server.endpoints) as nobody:
        with pytest.raises(Refused, match="user name is empty"):
            await nobody.get(prefix)


async def test_calls_watches_and_leases_go_on_when_a_token_has_run_out(guarded_server: Servers, prefix: str) -> None:
    async with worker(guarded_server) as etcd, worker(guarded_server) as watcher, etcd.lease(2) as lease:
        start = (await etcd.txn((), [put(f"{prefix}key", b"", lease.id)])).revision
        await watcher.get(prefix)
        tokens = [client._endpoints.known_metadata() for client in (etcd, watcher)]
        async with aclosing(etcd.follow(prefix)) as changes, aclosing(watcher.watch(prefix, start)) as batches:
            await anext(changes)
            await asyncio.sleep(2.2)
            assert await etcd.get(f"{prefix}key") is not None
            await etcd.txn((), [put(f"{prefix}other", b"", lease.id)])
            await anext(changes)
            await anext(batches)
        assert not lease.lost.is_set()
        assert all(
            client._endpoints.known_metadata() != token for client, token in zip((etcd, watcher), tokens, strict=True)
        )


async def test_a_server_that_forgot_its_tokens_is_authenticated_to_again(guarded_server: Servers, prefix: str) -> None:
    async with worker(guarded_server) as etcd, aclosing(etcd.follow(prefix)) as changes:
        await anext(changes)
        guarded_server.first.kill()
        guarded_server.start()
        await etcd.get(prefix)  # reads are repeated; a write could go into the dead connection
        await etcd.txn((), [put(f"{prefix}key", b"")])
        await anext(changes)
