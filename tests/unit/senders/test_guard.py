"""The guard: which addresses, spellings and URLs get through."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from senders.guard import (
    BlockedAddressError,
    GuardedResolver,
    check_secret_url,
    check_url,
    guarded_socket_factory,
    is_allowed,
    literal_refusal,
    refusal,
)

V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6)
NET10 = (ipaddress.ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104  # to connect to, not to bind
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.9",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "100.100.100.200",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "::ffff:0:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::a00:1",
        "100::1",
        "2001::1",
        "2001:2::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fe80::1",
        "fe80::1%eth0",
        "febf::1",
        "fec0::1",
        "ff02::1",
    ],
)
def test_what_is_not_public_is_refused_with_a_reason(address: str) -> None:
    assert not is_allowed(address)
    assert refusal(address)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        "100.63.255.255",
        "100.128.0.0",
        "172.32.0.1",
        "192.0.1.1",
        "198.20.0.1",
        "223.255.255.1",
        "::ffff:8.8.8.8",
        "2606:4700:4700::1111",
        "2a00:1450:4001::1",
        "2001:200::1",
    ],
)
def test_what_is_public_is_allowed(address: str) -> None:
    assert is_allowed(address)


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "0x7f000001", "2130706433", "0177.0.0.1", "127.1", "127.0.0.1 ", "1.2.3.4.5", "::g"],
)
def test_no_other_spelling_is_read_as_an_address(text: str) -> None:
    assert refusal(text) == "not an IP address"


@given(V4 | V6)
def test_nothing_is_public_here_that_the_standard_library_calls_private(address: Any) -> None:
    assert not is_allowed(address) or (address.is_global and not address.is_multicast)


@given(V4)
def test_a_mapped_address_is_judged_as_the_one_it_reaches(address: ipaddress.IPv4Address) -> None:
    assert is_allowed(f"::ffff:{address}") == is_allowed(address)


@given(V4)
def test_no_translator_or_tunnel_is_public(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    assert not is_allowed(ipaddress.IPv6Address((0x64FF9B << 96) | number))
    assert not is_allowed(ipaddress.IPv6Address((0x2002 << 112) | (number << 80)))
    assert not is_allowed(ipaddress.IPv6Address(number))


@given(V4)
def test_an_operator_behind_nat64_reaches_through_it_what_is_public_and_nothing_else(
    address: ipaddress.IPv4Address,
) -> None:
    nat64 = (ipaddress.ip_network("64:ff9b::/96"),)
    assert is_allowed(ipaddress.IPv6Address((0x64FF9B << 96) | int(address)), nat64) == is_allowed(address)


@given(V4 | V6)
def test_an_allowed_network_opens_itself_and_only_itself(address: Any) -> None:
    # Given an address, and an allow-list that names just it
    alone = (ipaddress.ip_network(address),)
    # Then it may be reached, tunnels to what is not public excepted, and what others may reach is unchanged
    tunnelled = isinstance(address, ipaddress.IPv6Address) and (
        address in ipaddress.IPv6Network("2002::/16")
        or address in ipaddress.IPv6Network("64:ff9b::/96")
        or address.ipv4_mapped is not None
    )
    assert tunnelled or is_allowed(address, alone)
    assert address == ipaddress.ip_address("127.0.0.1") or not is_allowed("127.0.0.1", alone)


def test_a_wide_range_never_opens_the_metadata_service() -> None:
    everything = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
    for address in ("169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fd00:ec2::254"):
        assert refusal(address, everything) == "cloud metadata service"
    assert is_allowed("10.0.0.1", everything)
    assert is_allowed("169.254.169.254", (ipaddress.ip_network("169.254.169.254/32"),))


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.org/in?token=a%20b#f",
        "http://127.0.0.1:8080/x",
        "HTTPS://Example.org:65535",
        "http://[2001:db8::1]:80/",
        "https://xn--bcher-kva.example/",
        "https://under_score.example.org./",
    ],
)
def test_a_receivers_url_is_accepted_unchanged(url: str) -> None:
    assert check_url(url) == url
    assert check_secret_url(SecretStr(url)).get_secret_value() == url


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("", "1 to 2048"),
        ("https://example.org/" + "a" * 2048, "1 to 2048"),
        ("ftp://example.org/", "https:// or http://"),
        ("//example.org/", "https:// or http://"),
        ("file:///etc/passwd", "https:// or http://"),
        ("gopher://example.org/", "https:// or http://"),
        ("https://user:CANARY@example.org/", "user name"),
        ("https://@example.org/", "user name"),
        ("https://example.org:0/", "port"),
        ("https://example.org:65536/", "port"),
        ("https://example.org:CANARY/", "port"),
        ("https://example.org:/", "port"),
        ("https:///x", "host name"),
        ("https://exa mple.org/", "spaces"),
        ("https://example.org/\r\nx: y", "control"),
        ("https://example.org/\x00", "control"),
        ("https://good.example.org\\@127.0.0.1/", "backslashes"),
        ("https://bücher.example/", "non-ASCII"),
        ("https://a..b/", "host name"),
        ("https://-a.example/", "host name"),
        (f"https://{'a' * 64}.example/", "host name"),
        (f"https://{'a.' * 130}example/", "host name"),
        ("https://2130706433/", "four decimal"),
        ("https://0x7f000001/", "four decimal"),
        ("https://0x7f.1/", "four decimal"),
        ("https://0177.0.0.1/", "four decimal"),
        ("https://127.1/", "four decimal"),
        ("https://127.0.0.1./", "four decimal"),
        ("https://[fe80::1%25eth0]/", "IPv6"),
        ("https://[::1/", "well-formed"),
        ("https://[v1.x]/", "IPv6"),
    ],
)
def test_a_bad_url_is_refused_by_rule_and_never_quoted(url: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule) as caught:
        check_url(url)
    assert "CANARY" not in str(caught.value)


@given(st.text())
def test_any_text_is_a_url_or_a_value_error(text: str) -> None:
    for url in (text, f"https://{text}", f"https://example.org:{text}"):
        try:
            assert check_url(url) == url
        except ValueError as error:
            assert str(error).startswith("must ")  # noqa: PT017  # both ways out are right


def test_an_address_in_a_url_is_judged_and_a_name_is_not() -> None:
    assert literal_refusal("http://10.0.0.1/x", ()) == "private network (RFC 1918)"
    assert literal_refusal("http://[::1]:80/x", ()) == "loopback (RFC 4291)"
    assert literal_refusal("http://10.0.0.1/x", NET10) is None
    assert literal_refusal("http://localhost/x", ()) is None


def test_no_socket_is_opened_to_a_refused_address() -> None:
    open_socket = guarded_socket_factory(NET10)
    with pytest.raises(BlockedAddressError, match=r"127\.0\.0\.1 is not public: loopback"):
        open_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80)))
    with pytest.raises(BlockedAddressError):
        open_socket((socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("::ffff:127.0.0.1", 80, 0, 0)))
    open_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("10.0.0.1", 80))).close()


class FixedResolver(AbstractResolver):
    """Gives each lookup the next of these answers."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.closed = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = self._answers.pop(0)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in addresses
        ]

    async def close(self) -> None:
        self.closed = True


async def test_a_name_that_is_public_and_private_at_once_is_refused() -> None:
    guarded = GuardedResolver(FixedResolver(["8.8.8.8", "10.0.0.1"], ["fe80::1", "8.8.8.8"]), ())
    for reason in (r"10\.0\.0\.1, which is not public: private", "fe80::1, which is not public: link-local"):
        with pytest.raises(BlockedAddressError, match=reason):
            await guarded.resolve("both.example.org", 443)


async def test_a_name_that_turns_private_is_refused_from_then_on() -> None:
    # Given a name that is public when it is first looked up and private later
    inner = FixedResolver(["8.8.8.8", "2606:4700::1"], ["127.0.0.1"])
    guarded = GuardedResolver(inner, ())
    # Then each lookup is judged by itself
    assert [result["host"] for result in await guarded.resolve("rebind.example.org", 443)] == [
        "8.8.8.8",
        "2606:4700::1",
    ]
    with pytest.raises(BlockedAddressError):
        await guarded.resolve("rebind.example.org", 443)
    await guarded.close()
    assert inner.closed
