"""The cluster's founding and its CA, as kept in etcd: who may join, and who has joined under which name.

The CA's key lies in etcd beside the cluster's record; both are made in one transaction, so that of two managers that
start at once one makes them and the other reads them. A node's id is the digest of its key: joining again with the same
key gives the same id. A name belongs to the key that joined with it, for as long as that node lives.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar, get_args

import msgspec

from cluster import codec, pki
from cluster.errors import Failed, Inconsistent
from cluster.membership import CertificateReply, JoinReply
from cluster.model.cluster import Cluster, Trust, TrustPhase
from cluster.model.node import Node, Role
from cluster.protocol import VERSION
from manager.etcd import Etcd, KeyValue, UnknownOutcome, absent, get, put

log = logging.getLogger(__name__)

CA_KEY = "/stackyard/pki/ca"
TRUST_KEY = codec.key_for(Trust, "this")
TOKEN_PREFIX = "/stackyard/pki/token/"
RESTORING = "/stackyard/restoring"
"""Is there while a restore fills etcd: what is beside it is not whole."""
ROLES: tuple[Role, ...] = get_args(Role)


class Root(msgspec.Struct, frozen=True):
    certificate: str
    key: str


class CaRecord(msgspec.Struct, frozen=True):
    """The root that signs, with its key; and that which is to sign next while a rotation makes it known."""

    certificate: str
    key: str
    schema: int = 1
    coming: Root | None = None


class TokenRecord(msgspec.Struct, frozen=True):
    """The counter of a role's standing token."""

    rotation: int
    schema: int = 1


_UNROTATED = Trust(0, TrustPhase.SETTLED, 0.0, ())

SCHEMA = 1
Stored = TypeVar("Stored", bound=msgspec.Struct)


def token_key(role: Role) -> str:
    return f"{TOKEN_PREFIX}{role}"


@dataclass(slots=True)
class Authority:
    """The cluster's id and CA, and what can be done with the CA's key.

    `ca` is the root that signs, the first of `trust`; both change when the CA is rotated, together.
    """

    cluster: str
    ca: pki.Authority = field(repr=False)
    life: str = ""
    trust: Trust = field(default=_UNROTATED, repr=False)

    @property
    def digest(self) -> str:
        """The digest of the root that signs, as join tokens carry it."""
        return pki.ca_digest(self.ca.certificate)

    @property
    def bundle(self) -> str:
        """All roots that are trusted (PEM), the one that signs first."""
        return "".join(self.trust.roots) or self.ca.certificate

    @property
    def bundle_digest(self) -> str:
        return hashlib.sha256(self.bundle.encode()).hexdigest()

    @property
    def chain(self) -> str:
        """What a manager shows along with its certificate, for those who know only the root before (PEM)."""
        return "" if self.trust.phase is TrustPhase.SPREADING else self.trust.cross

    def has_rotated(self, digest: str) -> bool:
        """Tell whether that is a root which has signed earlier, and signs no more."""
        return digest in self.trust.earlier

    def node_reply(self, node: Node, csr: str, *, now: float) -> JoinReply:
        """Sign the certificate of a node that joins."""
        certificate = self._of_node(node, csr, now)
        return JoinReply(node.id, self.cluster, node.role, certificate, self.ca.certificate, self.life)

    def renewal_reply(self, node: Node, csr: str, *, now: float) -> CertificateReply:
        """Sign the next certificate of a node."""
        return CertificateReply(self._of_node(node, csr, now), self.ca.certificate)

    def _of_node(self, node: Node, csr: str, now: float) -> str:
        identity = pki.Identity(self.cluster, "node", node.id, node.role)
        return pki.issue(self.ca, csr, identity, now=now, life=pki.NODE_LIFE)

    def user_reply(self, ca: pki.Authority, credential: str, csr: str, *, now: float, life: float) -> CertificateReply:
        """Sign a user's certificate with that root; it names its credential and lasts `life` seconds."""
        identity = pki.Identity(self.cluster, "client", credential, "user")
        certificate = pki.issue(ca, csr, identity, now=now, life=timedelta(seconds=life))
        return CertificateReply(certificate, ca.certificate)

    def manager_certificate(self, manager: str, hosts: tuple[str, ...], csr: str, *, now: float) -> str:
        """Sign a manager's own certificate, good for its server."""
        return pki.issue(self.ca, csr, pki.Identity(self.cluster, "manager", manager, "manager"), now=now, hosts=hosts)


async def found(etcd: Etcd, *, now: float) -> Authority:
    """Read the cluster and its CA; make both if this is the first start of the first manager."""
    cluster = Cluster(id=secrets.token_hex(16), created_at=now, version=VERSION)
    ca = pki.new_authority(cluster.id, now=now)
    cluster_key = codec.key_of(cluster)
    puts = [put(cluster_key, codec.encode(cluster)), put(CA_KEY, written(CaRecord(ca.certificate, ca.key)))]
    puts += [put(token_key(role), written(TokenRecord(rotation=1))) for role in ROLES]
    while True:
        try:
            keys = (cluster_key, CA_KEY, RESTORING)
            nothing, reads = [absent(key) for key in keys], [get(key) for key in (*keys, TRUST_KEY)]
            result = await etcd.txn(nothing, (), reads)  # by itself, as a full etcd refuses puts that would not be made
            if result.succeeded:
                result = await etcd.txn(nothing, puts, reads)
        except UnknownOutcome as error:
            log.info("reading the cluster's record again: %s", error.message)
            await asyncio.sleep(0.1)
            continue
        break
    if result.succeeded:
        log.info("founded the cluster %s", cluster.id)
        return Authority(cluster.id, ca)
    cluster_kv, ca_kv, restoring, trust_kv = result.responses
    if restoring is not None:
        raise Failed(
            "a restore into this etcd has not come to its end", hint="Run `stack restore` again, with the same backup."
        )
    if not isinstance(cluster_kv, KeyValue) or not isinstance(ca_kv, KeyValue):
        raise Inconsistent(
            "etcd holds only one of the cluster's record and its CA: it was restored or emptied in part",
            hint=f"Restore both {cluster_key} and {CA_KEY}, or empty etcd of all that begins with /stackyard/.",
        )
    known: Any = codec.decode(cluster_key, cluster_kv.value)
    ca, trust = _rooted(ca_kv, trust_kv)
    return Authority(known.id, ca, known.life, trust)


async def reread(etcd: Etcd) -> tuple[pki.Authority, Trust]:
    """Read the CA and its roots as they are now, both as of one moment."""
    result = await etcd.txn([absent(CA_KEY)], (), [get(CA_KEY), get(TRUST_KEY)])
    if result.succeeded:
        raise Inconsistent(f"the etcd key {CA_KEY} is missing")
    ca_kv, trust_kv = result.responses
    assert isinstance(ca_kv, KeyValue)
    return _rooted(ca_kv, trust_kv)


def _rooted(ca: KeyValue, trust: object) -> tuple[pki.Authority, Trust]:
    record = read(ca, CaRecord)
    roots: Any = codec.decode(TRUST_KEY, trust.value) if isinstance(trust, KeyValue) else _UNROTATED
    if roots.roots and roots.roots[0] != record.certificate:
        raise Inconsistent(f"the CA at {CA_KEY} is not the one that {TRUST_KEY} says signs")
    return pki.Authority(record.certificate, record.key), roots


def read(stored: KeyValue, record_type: type[Stored]) -> Stored:
    """Read one of these records, each of which has a `schema`."""
    try:
        record = msgspec.json.decode(stored.value, type=record_type)
    except msgspec.MsgspecError as error:
        raise Inconsistent(f"the record at {stored.key} cannot be read: {error}") from error
    schema: int = getattr(record, "schema", 1)
    if schema > SCHEMA:
        raise Inconsistent(
            f"the record at {stored.key} has schema {schema}, this program reads up to {SCHEMA}",
            hint="Upgrade this manager; it changed nothing.",
        )
    return record


def written(record: msgspec.Struct) -> bytes:
    return msgspec.json.encode(record)
