"""Connections to public addresses only: a name is looked up once, and what was checked is what is connected to.

A webhook's address may be chosen by somebody who may not reach what this machine can reach: its own services, the
router, a cloud's metadata. Looking at the name is not enough, nor is a look-up before a second one by the client:
the answer may have changed in between.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

import httpcore
from httpcore._backends.auto import AutoBackend  # the public AnyIOBackend has no types

#: Networks in which an IPv4 address is wrapped: NAT64 (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class ForbiddenAddress(Exception):
    """The host is, or could be, inside; the text is one clear line."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, also when it is wrapped in another."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in _NAT64:
            inner.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
        wrapped = [v4 for v4 in inner if v4 is not None]
        if wrapped:
            return all(is_public(str(v4)) for v4 in wrapped)
        if ip.is_site_local:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


async def resolve(host: str, port: int, internal: bool, timeout: float | None = None) -> list[str]:
    """The addresses of a host. Raises ForbiddenAddress if any is not public (unless `internal`), OSError if none."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout):
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        ip = ipaddress.ip_address(address.partition("%")[0])
        if ip.is_multicast or ip.is_unspecified or not (internal or is_public(address)):
            raise ForbiddenAddress(f"{host} is an internal address ({address}); --webhook-internal allows it")
    if not addresses:
        raise OSError(f"{host} has no address")
    return addresses


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """The network as `httpcore` sees it: only addresses that `resolve` lets through. TLS still checks the name."""

    def __init__(self, internal: bool) -> None:
        self._internal = internal
        self._network = AutoBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first of the host's addresses that answers."""
        addresses = await resolve(host, port, self._internal, timeout)
        for address in addresses[:-1]:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._network.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """A file of this machine is inside."""
        raise ForbiddenAddress("a socket of this machine is no webhook")

    async def sleep(self, seconds: float) -> None:
        """See `httpcore`."""
        await asyncio.sleep(seconds)
