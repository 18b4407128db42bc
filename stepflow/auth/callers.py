"""What counts as one caller when addresses are counted."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

__all__ = ["is_loopback_address", "network_of"]


def network_of(client: str) -> str:
    """Return an IPv4 address as it is, an IPv6 one as its /64: a caller owns all of that."""
    if ":" not in client:
        return client
    try:
        address = IPv6Address(client.partition("%")[0])
    except ValueError:
        return client
    mapped = address.ipv4_mapped
    return address.exploded[:19] if mapped is None else str(mapped)


def is_loopback_address(client: str) -> bool:
    """Say whether the peer is on this machine: perhaps a proxy, which speaks for all callers."""
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
