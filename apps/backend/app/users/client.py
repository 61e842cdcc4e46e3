"""The client address of a request, for limits."""

from ipaddress import IPv6Address, ip_address, ip_network

from fastapi import Request

UNKNOWN = "unknown"


def client_address(request: Request) -> str:
    """Returns the last entry of X-Forwarded-For; the ingress wrote it, clients wrote the others.

    For IPv6 it returns the /64, because one household has that many addresses.
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


def is_shared(address: str) -> bool:
    """Returns whether clients may share the address, as behind the NAT of Minikube."""
    return address == UNKNOWN or not ip_network(address).is_global
