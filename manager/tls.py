"""This manager's side of TLS: its certificate, and whom it trusts, for its server and for calling the other managers.

Contexts cannot be told to trust less, so they are made anew when the CA's roots change; what is open stays open.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NoReturn

import aiohttp

from cluster import pki
from cluster.files import write_private
from manager.authority import Authority

log = logging.getLogger(__name__)

CERTIFICATE = "manager.pem"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
RENEWAL_LOOK = 3600.0
"""Seconds between two looks at whether the manager's certificate is to be renewed."""


class Tls:
    """`server` and `client` are for connections that are made from now on."""

    def __init__(self, authority: Authority, manager: str, hosts: Sequence[str], directory: Path) -> None:
        """`manager` is its id; `hosts` are the names and addresses by which it is reached."""
        self._authority, self._manager = authority, manager
        self._hosts = tuple(dict.fromkeys((*hosts, *LOOPBACK)))
        self._certificate, self._key = directory / CERTIFICATE, directory / "manager-key.pem"
        self.server: ssl.SSLContext
        self.client: ssl.SSLContext
        self.renew()

    def renew(self) -> None:
        """Get a certificate of the root that signs now, and trust those that are trusted now.

        TLS takes keys in no other way than as files.
        """
        key, authority = pki.new_key(), self._authority
        signed = authority.manager_certificate(self._manager, self._hosts, pki.new_csr(key), now=time.time())
        write_private(self._key, key)
        write_private(self._certificate, signed + authority.chain)
        files = str(self._certificate), str(self._key)
        self.server = pki.server_context(*files, authority.bundle)
        self.client = pki.client_context(authority.bundle, *files)

    async def run(self) -> NoReturn:
        """Renew the certificate whenever two thirds of the life of the last one are over."""
        while True:
            # by the wall clock, which may jump, and not in one sleep, which a suspended host would sleep through
            if (left := pki.renew_at(self._certificate.read_text()) - time.time()) > 0:
                await asyncio.sleep(min(RENEWAL_LOOK, left))
                continue
            self.renew()
            log.info("renewed this manager's certificate")


class Others:
    """Calls other managers, as aiohttp does, with the certificate and the trust of the moment."""

    def __init__(self, http: aiohttp.ClientSession, tls: Tls) -> None:
        self._http, self._tls = http, tls

    def get(self, url: str, **options: Any) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._http.get(url, ssl=self._tls.client, **options)

    def post(self, url: str, **options: Any) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._http.post(url, ssl=self._tls.client, **options)

    async def ws_connect(self, url: str) -> aiohttp.ClientWebSocketResponse:
        return await self._http.ws_connect(url, ssl=self._tls.client)
