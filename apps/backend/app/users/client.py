"""The address to which failed attempts to sign in are counted."""

from ipaddress import IPv6Address, ip_address, ip_network

from fastapi import Request

UNKNOWN = "unknown"


def client_address(request: Request) -> str:
    """The last entry of X-Forwarded-For: the ingress wrote it, those before it are hearsay.

    Of IPv6 the /64: a household has that many addresses.
    """
    forwarded = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    peer = request.client.host if request.client else ""
    for candidate in (forwarded, peer):
        try:
            address = ip_address(candidate)
        except ValueError:
            continue
        if isinstance(address, IPv6Address):
            return str(ip_network((int(address), 64), strict=False))
        return str(address)
    return UNKNOWN
