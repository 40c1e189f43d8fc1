"""Certificates, and the tokens that let a new node ask for one.

One CA per cluster signs everything. Who somebody is stands in the certificate as a URI,
`stackyard://<cluster>/<kind>/<name>`, and the role in the subject's organisational unit. Only managers get certificates
that are good for servers, so a client that trusts the CA needs no host name to know that it talks to a manager.
Keys are made where they are used and travel nowhere; what is sent is a request (CSR).

A join token pins the CA by its digest, so that a new node can tell the right manager from an impostor. Its secret is
derived from the CA's key and a counter: nothing secret beside that key is stored, each manager can check and show
tokens without asking anyone, and raising the counter makes the old token worthless.

When the CA is rotated, another root of the same name takes its place; the root before it signs that one once (a
cross-certificate), which managers show along with their own: so whoever knows only the old root trusts them still.

A node's certificate lives for 30 days and is renewed when two thirds of that are over, as a manager's own is; people's
live for 90 days.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Literal, get_args
from urllib.parse import quote, unquote, urlsplit

from cluster.errors import Forbidden, UserError

if TYPE_CHECKING:  # half the time that a short command takes would go into importing it
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

Kind = Literal["node", "client", "manager"]

CA_LIFE = timedelta(days=20 * 365)
LEAF_LIFE = timedelta(days=90)
NODE_LIFE = timedelta(days=30)
"""So long a host may be switched off and still come back without joining again: a third of it at the least."""
BACKDATE = timedelta(hours=2)
"""Certificates begin this long ago, for hosts whose clocks run behind: by an hour, if time zones are mixed up."""

_SCHEME = "stackyard"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_TOKEN = re.compile(r"SYTKN-1-(?P<digest>[0-9a-f]{64})-(?P<secret>[0-9a-z]{32})")


@dataclass(frozen=True, slots=True)
class Authority:
    """The CA of a cluster: its certificate and its key as PEM. Only managers hold one."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a certificate names: a node by id, a client by name, or a manager by id; and its role."""

    cluster: str
    kind: Kind
    name: str
    role: str

    @property
    def uri(self) -> str:
        return f"{_SCHEME}://{quote(self.cluster, safe='')}/{self.kind}/{quote(self.name, safe='')}"


@dataclass(frozen=True, slots=True)
class JoinToken:
    """What a token says: the SHA-256 (hex) of the CA's certificate, and the secret that the manager knows."""

    ca_digest: str
    secret: str

    def __str__(self) -> str:
        return f"SYTKN-1-{self.ca_digest}-{self.secret}"


def new_authority(cluster: str, *, now: float) -> Authority:
    """Make the CA of a new cluster."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster),
            x509.NameAttribute(NameOID.COMMON_NAME, "stackyard CA"),
        ]
    )
    start = datetime.fromtimestamp(now, UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - BACKDATE)
        .not_valid_after(start + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(_certificate_pem(certificate), _key_pem(key))


def cross_signed(root: str, by: Authority) -> str:
    """Have a root (PEM) signed by another one of the same cluster: whoever trusts that one can trust this one.

    Both have the same name, so that the new one counts as self-issued: a root's path length of 0 allows for it.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    new, old, key = _load_certificate(root), _load_certificate(by.certificate), _load_key(by.key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(new.subject)
        .issuer_name(old.subject)
        .public_key(new.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(new.not_valid_before_utc)
        .not_valid_after(min(old.not_valid_after_utc, new.not_valid_after_utc))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    for extension in new.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return _certificate_pem(builder.sign(key, hashes.SHA256()))


def signer(certificate: str, roots: Iterable[str]) -> str:
    """Tell which of these roots (PEM) has signed a certificate (PEM): its digest, "" if none has."""
    from cryptography.exceptions import InvalidSignature

    leaf = _load_certificate(certificate)
    for root in roots:
        try:
            leaf.verify_directly_issued_by(_load_certificate(root))
        except (InvalidSignature, ValueError, TypeError):
            continue
        return ca_digest(root)
    return ""


def certificates(bundle: str) -> tuple[str, ...]:
    """Take a text apart into the certificates (PEM) that are in it."""
    return tuple(f"{found}\n" for found in _CERTIFICATE.findall(bundle))


def cluster_of(root: str) -> str:
    """Tell of which cluster a root (PEM) is. Raises ValueError for what is no certificate of ours."""
    from cryptography.x509.oid import NameOID

    names = _load_certificate(root).subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    if not names:
        raise ValueError("the certificate does not say of which cluster it is")
    return str(names[0].value)


def ends_at(certificate: str) -> float:
    """Tell until when a certificate (PEM) is good."""
    return _load_certificate(certificate).not_valid_after_utc.timestamp()


def new_key() -> str:
    """Make a private key (P-256, PEM). It stays on the machine that made it."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return _key_pem(ec.generate_private_key(ec.SECP256R1()))


def new_csr(key: str) -> str:
    """Ask for a certificate for this key (PEM). What it will say of its holder is for the manager to fill in."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(_load_key(key), hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


def key_digest(csr: str) -> str:
    """Name the key behind a request: 25 hex characters, the same for each request made with that key.

    Raises UserError when it is no valid request for a P-256 key.
    """
    from cryptography.hazmat.primitives import serialization

    public = (
        _load_csr(csr)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return hashlib.blake2b(public, digest_size=16).hexdigest()[:25]


def issue(
    authority: Authority,
    csr: str,
    identity: Identity,
    *,
    now: float,
    hosts: tuple[str, ...] = (),
    life: timedelta = LEAF_LIFE,
) -> str:
    """Sign a certificate (PEM) for the key of `csr`, naming `identity` whatever the request says.

    `hosts` are the names and addresses of a manager. Raises UserError for a request that cannot be used.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    public = _load_csr(csr).public_key()
    ca, ca_key = _load_certificate(authority.certificate), _load_key(authority.key)
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if identity.kind == "manager":
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
    start = datetime.fromtimestamp(now, UTC)
    subject = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, identity.cluster),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, identity.role),
        x509.NameAttribute(NameOID.COMMON_NAME, identity.name),
    ]
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.uri), *map(_host_name, hosts)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(ca.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - BACKDATE)
        .not_valid_after(min(start + life, ca.not_valid_after_utc))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return _certificate_pem(certificate)


@functools.lru_cache(maxsize=4096)
def identity(certificate: bytes) -> Identity:
    """Read whom a certificate (DER, already verified by TLS) names. Raises Forbidden when it names nobody of ours.

    It is remembered: to read one takes the event loop of a manager as long as to shake hands does.
    """
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    parsed = x509.load_der_x509_certificate(certificate)
    try:
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise Forbidden("the certificate does not say whom it names", hint="Join the cluster again.") from None
    roles = parsed.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        parts = urlsplit(uri)
        kind, _, name = parts.path.removeprefix("/").partition("/")
        if parts.scheme == _SCHEME and kind in get_args(Kind) and name and roles:
            return Identity(unquote(parts.netloc), kind, unquote(name), str(roles[0].value))  # type: ignore[arg-type]
    raise Forbidden("the certificate names nobody of a Stackyard cluster", hint="Join the cluster again.")


def renew_at(certificate: str) -> float:
    """Tell when a certificate (PEM) is to be renewed: an instant when two thirds of its life are over."""
    parsed = _load_certificate(certificate)
    start, end = parsed.not_valid_before_utc.timestamp(), parsed.not_valid_after_utc.timestamp()
    return start + (end - start) * 2 / 3


def ca_digest(certificate: str) -> str:
    """Give the SHA-256 (hex) of a certificate (PEM), as join tokens carry it."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()


def join_token(authority: Authority, cluster: str, role: str, rotation: int) -> JoinToken:
    """Derive the token with which nodes join in that role; each rotation gives another one."""
    from cryptography.hazmat.primitives import serialization

    secret_key = _load_key(authority.key).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    message = f"join-token/1/{cluster}/{role}/{rotation}".encode()
    secret = hmac.new(secret_key, message, hashlib.sha256).hexdigest()[:32]
    return JoinToken(ca_digest(authority.certificate), secret)


def parse_token(text: str) -> JoinToken:
    """Read a join token as a person pasted it. Raises UserError when it is none."""
    match = _TOKEN.fullmatch(text.strip())
    if match is None:
        raise UserError(
            "that is no join token: it should look like SYTKN-1-<64 hex digits>-<32 characters>",
            hint="Copy the whole token; on a manager, `stack token show` shows it.",
        )
    return JoinToken(match["digest"], match["secret"])


def same_secret(a: JoinToken, b: JoinToken) -> bool:
    """Compare two tokens in a time that tells nothing of where they differ."""
    return hmac.compare_digest(str(a), str(b))


def server_context(certificate_file: str, key_file: str, ca: str) -> ssl.SSLContext:
    """Serve TLS to anyone, and know by certificate those whom this cluster's CA (PEM, several roots too) has signed.

    A certificate is not demanded, since a node that joins has none; a wrong one ends the handshake.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=ca)
    context.load_cert_chain(certificate_file, key_file)
    return context


def client_context(ca: str, certificate_file: str = "", key_file: str = "") -> ssl.SSLContext:
    """Talk to managers of the cluster with this CA (PEM, several roots too), and to nobody else.

    Host names are not compared: only managers hold a server certificate of this CA, and each of them will do, by
    whatever name or address it is reached.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=ca)
    if certificate_file:
        context.load_cert_chain(certificate_file, key_file)
    return context


def unverified_context() -> ssl.SSLContext:
    """Fetch the CA's certificate for the first time, for `check_ca` alone: nothing read through it may be believed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def check_ca(certificate: str, token: JoinToken) -> None:
    """Make sure that this is the CA (PEM) that the token pins. Raises Forbidden when somebody else answered."""
    try:
        found = ca_digest(certificate)
    except ValueError:
        found = ""
    if not hmac.compare_digest(found, token.ca_digest):
        raise Forbidden(
            "the manager's CA is not the one that the join token names",
            hint="Check the manager's address, and take a fresh token from a manager of the right cluster.",
        )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _host_name(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        address: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:
        return x509.DNSName(host)
    return x509.IPAddress(address)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _certificate_pem(certificate: x509.Certificate) -> str:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _load_key(pem: str) -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UserError("the private key is not an elliptic curve key", hint="Delete it and join the cluster again.")
    return key


def _load_certificate(pem: str) -> x509.Certificate:
    from cryptography import x509

    return x509.load_pem_x509_certificate(pem.encode())


def _load_csr(pem: str) -> x509.CertificateSigningRequest:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        request = x509.load_pem_x509_csr(pem.encode())
        public = request.public_key()
        valid = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UserError(f"the certificate request cannot be read: {error}") from error
    if not valid:
        raise UserError("the certificate request is not signed with its own key")
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise UserError("the certificate request is not for a P-256 key")
    return request
