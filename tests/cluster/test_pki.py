"""Certificates and join tokens, without a network."""

from __future__ import annotations

import ssl
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given
from hypothesis import strategies as st

from cluster import pki
from cluster.errors import Forbidden, UserError

NOW = 1_800_000_000.0
CA = pki.new_authority("c1", now=NOW)
KEY = pki.new_key()
CSR = pki.new_csr(KEY)


def issued(who: pki.Identity, *, hosts: tuple[str, ...] = (), ca: pki.Authority = CA) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pki.issue(ca, CSR, who, now=NOW, hosts=hosts))


@pytest.mark.parametrize(
    "who",
    [
        pki.Identity("c1", "node", "3f2a", "worker"),
        pki.Identity("c1", "client", "ann", "admin"),
        pki.Identity("c1", "manager", "m1", "manager"),
        pki.Identity("a/b?c#d", "client", "ann/../node/1 é", "admin"),
    ],
    ids=["a node", "a client", "a manager", "names that would break a URI"],
)
def test_a_certificate_gives_back_whom_it_names(who: pki.Identity) -> None:
    assert pki.identity(issued(who)) == who


@given(cluster=st.text(min_size=1, max_size=40), name=st.text(min_size=1, max_size=40))
def test_no_name_passes_for_another(cluster: str, name: str) -> None:
    who = pki.Identity(cluster, "client", name, "admin")
    kind, _, rest = who.uri.removeprefix("stackyard://").partition("/")[2].partition("/")
    assert kind == "client" and "/" not in rest


def test_what_a_request_says_of_its_holder_does_not_count() -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    key = serialization.load_pem_private_key(KEY.encode(), None)
    boast = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "manager")])
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(boast)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier("stackyard://c1/manager/m1")]), critical=False
        )
        .sign(key, hashes.SHA256())  # type: ignore[arg-type]
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )
    who = pki.Identity("c1", "node", "3f2a", "worker")
    assert pki.identity(ssl.PEM_cert_to_DER_cert(pki.issue(CA, csr, who, now=NOW))) == who


def test_lifetimes() -> None:
    leaf = x509.load_der_x509_certificate(issued(pki.Identity("c1", "node", "n", "worker")))
    start = datetime.fromtimestamp(NOW, UTC)
    assert leaf.not_valid_before_utc == start - timedelta(hours=2)
    assert leaf.not_valid_after_utc == start + timedelta(days=90)


def test_a_certificate_is_due_when_two_thirds_of_its_life_are_over() -> None:
    who = pki.Identity("c1", "node", "n", "worker")
    made = pki.issue(CA, CSR, who, now=NOW, life=pki.NODE_LIFE)
    assert pki.renew_at(made) == pytest.approx(NOW + 20 * 86400, abs=3600)


@pytest.mark.parametrize(
    ("kind", "good"), [("node", False), ("client", False), ("manager", True)], ids=lambda value: str(value)
)
def test_only_a_manager_is_good_for_a_server(kind: pki.Kind, good: bool) -> None:
    leaf = x509.load_der_x509_certificate(issued(pki.Identity("c1", kind, "x", "worker"), hosts=("10.0.0.1", "m1")))
    store = Store([x509.load_pem_x509_certificate(CA.certificate.encode())])
    policy = PolicyBuilder().store(store).time(datetime.fromtimestamp(NOW, UTC))
    policy.build_client_verifier().verify(leaf, [])
    try:
        policy.build_server_verifier(x509.DNSName("m1")).verify(leaf, [])
    except VerificationError:
        assert not good
    else:
        assert good


def test_the_key_of_a_request_is_known_again() -> None:
    assert pki.key_digest(pki.new_csr(KEY)) == pki.key_digest(CSR)
    assert pki.key_digest(pki.new_csr(pki.new_key())) != pki.key_digest(CSR)


def rsa_request() -> str:
    from cryptography.hazmat.primitives import hashes

    key = rsa.generate_private_key(65537, 2048)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def forged_request() -> str:
    der = bytearray(x509.load_pem_x509_csr(CSR.encode()).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("csr", "message"),
    [
        ("", "cannot be read"),
        (CA.certificate, "cannot be read"),
        (rsa_request(), "not for a P-256 key"),
        (forged_request(), "not signed with its own key"),
    ],
    ids=["nothing", "a certificate instead", "another sort of key", "a signature that is not its key's"],
)
def test_requests_that_are_refused(csr: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pki.key_digest(csr)


def test_a_certificate_of_nobody_of_ours() -> None:
    with pytest.raises(Forbidden):
        pki.identity(ssl.PEM_cert_to_DER_cert(CA.certificate))


# Join tokens


def test_a_token_says_what_it_was_made_of() -> None:
    token = pki.join_token(CA, "c1", "worker", 1)
    assert str(token).startswith("SYTKN-1-")
    assert pki.parse_token(f" {token}\n") == token
    assert token.ca_digest == pki.ca_digest(CA.certificate)
    pki.check_ca(CA.certificate, token)


def test_each_cluster_role_and_rotation_has_a_token_of_its_own() -> None:
    other = pki.new_authority("c2", now=NOW)
    tokens = {
        str(pki.join_token(ca, cluster, role, rotation))
        for ca, cluster in ((CA, "c1"), (CA, "c2"), (other, "c1"))
        for role in ("worker", "manager")
        for rotation in (1, 2)
    }
    assert len(tokens) == 12
    assert pki.same_secret(pki.join_token(CA, "c1", "worker", 1), pki.join_token(CA, "c1", "worker", 1))


@pytest.mark.parametrize(
    "text", ["", "SWMTKN-1-abc-def", "SYTKN-2-" + "0" * 64 + "-" + "0" * 32, "SYTKN-1-" + "0" * 64 + "-short"]
)
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(UserError, match="no join token"):
        pki.parse_token(text)


@pytest.mark.parametrize(
    "answer",
    [pki.new_authority("evil", now=NOW).certificate, "", "-----BEGIN CERTIFICATE-----"],
    ids=["another's", "none", "cut off"],
)
def test_an_impostors_ca_is_not_believed(answer: str) -> None:
    with pytest.raises(Forbidden, match="not the one"):
        pki.check_ca(answer, pki.join_token(CA, "c1", "worker", 1))


def test_importing_it_is_cheap() -> None:
    """Agents and the command line import it for its contexts alone: nothing is signed there."""
    code = "import sys, cluster.pki; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> bytes | None:
    """Have two shake hands; gives the certificate that the client showed. Raises SSLError where one mistrusts."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            done.add(side)
    return sides[1].getpeercert(True)


def test_who_knows_the_root_before_trusts_a_manager_of_the_next_and_the_next_alone_refuses_the_one_before(
    tmp_path: Path,
) -> None:
    old, new = pki.new_authority("c", now=time.time()), pki.new_authority("c", now=time.time())
    cross = pki.cross_signed(new.certificate, by=old)

    def of(authority: pki.Authority, kind: pki.Kind, chain: str = "") -> tuple[str, str]:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        key, who = pki.new_key(), pki.Identity("c", kind, "x", "x")
        signed = pki.issue(authority, pki.new_csr(key), who, now=time.time())
        (folder / "cert").write_text(signed + chain)
        (folder / "key").write_text(key)
        return str(folder / "cert"), str(folder / "key")

    both, chained = new.certificate + old.certificate, of(new, "manager", cross)
    of_old, of_new = of(old, "node"), of(new, "node")
    for server, trusts, client, knows in (
        (of(old, "manager"), both, of_old, old.certificate),
        (of(old, "manager"), both, of_new, both),
        (chained, both, of_old, old.certificate),
        (chained, both, of_new, both),
        (chained, new.certificate, of_new, new.certificate),
    ):
        assert handshake(pki.server_context(*server, trusts), pki.client_context(knows, *client)) is not None
    for server, trusts, client, knows in (
        (chained, new.certificate, of_old, old.certificate),
        (chained, new.certificate, of_old, both),
        (of(old, "manager"), both, of_new, new.certificate),
        (of(new, "manager"), both, of_old, old.certificate),
    ):
        with pytest.raises(ssl.SSLError):
            handshake(pki.server_context(*server, trusts), pki.client_context(knows, *client))
    signed = Path(chained[0]).read_text()
    assert pki.signer(signed, (old.certificate, new.certificate)) == pki.ca_digest(new.certificate)
    assert pki.signer(signed, (old.certificate,)) == ""
    assert pki.certificates(f"text\n{both}\nmore") == (new.certificate, old.certificate)
    assert {pki.cluster_of(root) for root in (old.certificate, cross)} == {"c"}
