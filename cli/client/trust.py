"""Why a manager may refuse a context's certificate: with TLS 1.3 it often just hangs up, without a word."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cli.client.contexts import Context


def fault(context: Context) -> str:
    """Look for what is wrong with a context's own certificate; "" when it is in order or cannot be read."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        certificate = x509.load_pem_x509_certificate(Path(context.cert).read_bytes())
        authority = x509.load_pem_x509_certificate(Path(context.ca).read_bytes())
    except (OSError, ValueError):
        return ""
    if certificate.not_valid_after_utc < datetime.now(UTC):
        return f"the certificate {context.cert} has expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return f"the certificate {context.cert} is not of the cluster whose CA is {context.ca}"
    return ""
