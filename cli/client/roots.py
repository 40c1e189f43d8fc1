"""A context keeps up with the roots of the cluster's CA: it takes over those that a manager which it trusts tells of.

Its certificate, where it has one, is first replaced by one of the root that signs, for the same key.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from cli.client.contexts import Context
from cli.client.transport import Transport
from cluster import pki
from cluster.errors import StackyardError
from cluster.files import write_private
from cluster.membership import CertificateReply
from cluster.people import NewUserCertificate


def keep_up(context: Context) -> bool:
    """Get the roots and a certificate; False where that cannot be had now: the old ones are good still."""
    transport = Transport(context, timeout=10, patience=0, keeps_up=False)
    try:
        bundle = transport.call("GET", "/v1/ca/bundle").decode()
        signing = pki.certificates(bundle)[:1]
        if context.cert and not pki.signer(Path(context.cert).read_text(), signing):
            wanted = NewUserCertificate(pki.new_csr(Path(context.key).read_text()), again=True)
            reply = msgspec.json.decode(
                transport.call("POST", "/v1/me/certificate", body=wanted), type=CertificateReply
            )
            if not pki.signer(reply.certificate, signing):
                return False  # that manager does not sign with it yet
            write_private(Path(context.cert), reply.certificate)
        write_private(Path(context.ca), bundle)
    except (StackyardError, OSError, ValueError, msgspec.MsgspecError):
        return False
    else:
        return True
    finally:
        transport.close()
