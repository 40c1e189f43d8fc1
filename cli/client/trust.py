"""Why a manager may refuse a context's certificate: with TLS 1.3 it often just hangs up, without a word."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cli.client.contexts import Context
from cli.client.enrol import fetched
from cluster import pki
from cluster.errors import Unavailable


def fault(context: Context) -> str:
    """Look for what is wrong with a context's own certificate; "" when it is in order or cannot be read."""
    from cryptography import x509

    try:
        text, roots = Path(context.cert).read_text(), pki.certificates(Path(context.ca).read_text())
        certificate = x509.load_pem_x509_certificate(text.encode())
    except (OSError, ValueError):
        return ""
    if certificate.not_valid_after_utc < datetime.now(UTC):
        return f"the certificate {context.cert} has expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    if not pki.signer(text, roots):
        return f"the certificate {context.cert} is not of the cluster whose CA is {context.ca}"
    if _is_overtaken(context, roots):
        return f"the cluster's CA was rotated, and the certificate {context.cert} is of the root before"
    return ""


def _is_overtaken(context: Context, roots: Sequence[str]) -> bool:
    """Tell whether a manager of this cluster, asked without a certificate, signs with a root that is unknown here."""
    tls = pki.client_context("".join(roots))
    for endpoint in context.endpoints:
        with contextlib.suppress(Unavailable):
            return fetched(endpoint, "/v1/ca", tls, timeout=3) not in roots
    return False
