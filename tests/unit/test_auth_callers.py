"""What counts as one caller."""

from __future__ import annotations

import pytest

from stepflow.auth.callers import is_loopback_address, network_of


@pytest.mark.parametrize(
    ("client", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:0db8:0001:0002"),
        ("fe80::1%eth0", "fe80:0000:0000:0000"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("no:address", "no:address"),
        ("unix", "unix"),
    ],
)
def test_an_ipv6_caller_is_its_network(client: str, counted: str) -> None:
    assert network_of(client) == counted


@pytest.mark.parametrize(
    ("client", "here"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.7", False),
        ("fe80::1%eth0", False),
        ("unix", False),
        ("", False),
    ],
)
def test_only_an_address_of_this_machine_is_local(client, here) -> None:
    assert is_loopback_address(client) == here
