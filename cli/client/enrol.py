"""A context from a user's token: the CA that the token pins is fetched, and the token kept or traded for a certificate.

The private key of a certificate is made here and travels nowhere. Files are their owner's alone.
"""

from __future__ import annotations

import hmac
import http.client
import re
import shutil
import ssl
import urllib.parse

from cli.client import contexts
from cli.client.client import Client
from cli.client.contexts import Context
from cluster import pki
from cluster.errors import Forbidden, Unavailable, UserError
from cluster.files import write_private
from cluster.people import SelfView, parse_user_token

PORT = 2377
TIMEOUT = 10.0
_LARGEST_CA = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def enrol(name: str, manager: str, text: str, *, certificate: bool, use: bool) -> SelfView:
    """Make a context, and tell whom the manager takes its user for. Nothing is left of one that does not work."""
    if _NAME.fullmatch(name) is None:
        raise UserError(f"{name!r} is no name for a context", hint="Use letters, digits, dots, - and _.")
    token = parse_user_token(text)
    ca = fetch_ca(manager, token.ca_digest)
    folder = contexts.folder(name)
    fresh = folder.with_name(f".{name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True, mode=0o700)
    try:
        write_private(fresh / "ca.pem", ca)
        write_private(fresh / "token", f"{token}\n")
        with Client(Context(endpoints=(manager,), ca=str(fresh / "ca.pem"), token=str(fresh / "token"))) as client:
            me = client.me()
            endpoints = dict.fromkeys((manager, *(one.url for one in client.cluster().managers)))
            if certificate:
                key = pki.new_key()
                write_private(fresh / "key.pem", key)
                write_private(fresh / "cert.pem", client.own_certificate(pki.new_csr(key)).certificate)
                (fresh / "token").unlink()
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    held = {"cert": "cert.pem", "key": "key.pem"} if certificate else {"token": "token"}
    files = {field: str(folder / file) for field, file in held.items()}
    contexts.add(name, Context(tuple(endpoints), ca=str(folder / "ca.pem"), **files), use=use)
    return me


def forget(name: str) -> None:
    """Take a context away, with its files."""
    contexts.remove(name)
    if _NAME.fullmatch(name) is not None:
        shutil.rmtree(contexts.folder(name), ignore_errors=True)


def url(manager: str) -> str:
    """Give the URL of a manager as a person names it."""
    parts = urllib.parse.urlsplit(manager if "://" in manager else f"https://{manager}")
    try:
        host, port = parts.hostname, parts.port or PORT
    except ValueError:
        host, port = None, PORT
    if parts.scheme != "https" or not host or parts.path not in ("", "/"):
        raise UserError(f"{manager!r} is no manager's address", hint=f"Give HOST or HOST:PORT; the port is {PORT}.")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def fetch_ca(manager: str, digest: str) -> str:
    """Ask for the CA's certificate, from whoever it may be: it is believed only as the token names it."""
    ca = fetched(manager, "/v1/ca", pki.unverified_context())
    try:
        found = pki.ca_digest(ca)
    except ValueError:
        found = ""
    if not hmac.compare_digest(found, digest):
        raise Forbidden(
            f"the CA of the manager at {manager} is not the one that the token names",
            hint="Check the address; or the token is of another cluster, or from before the CA was rotated.",
        )
    return ca


def fetched(manager: str, path: str, tls: ssl.SSLContext, timeout: float = TIMEOUT) -> str:
    """Give what a manager tells anyone. Raises Unavailable when it does not answer."""
    where = urllib.parse.urlsplit(manager)
    connection = http.client.HTTPSConnection(where.hostname or "", where.port, timeout=timeout, context=tls)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read(_LARGEST_CA).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"the manager at {manager} does not answer: {error}", hint="Check its address.") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise Unavailable(f"the manager at {manager} does not tell {path}: {answer.status} {answer.reason}")
    return text
