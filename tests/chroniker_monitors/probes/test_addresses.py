"""Which hosts and addresses a monitor may reach."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest

from chroniker_monitors.exceptions import AddressRefused
from chroniker_monitors.probes.addresses import is_allowed, normalize_host
from tests.support.measurement import build_errors, measure_error, measure_value
from tests.support.probe_servers import send_nothing, serve_socket

NEVER = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3",
    "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "169.254.169.254", "169.254.0.1",
    "100.64.0.1", "100.100.100.200", "100.127.255.255",
    "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1",
    "168.63.129.16",
    "::", "::1", "::127.0.0.1", "::8.8.8.8",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "::ffff:0:8.8.8.8",
    "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1",
    "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1",
    "2002:7f00:1::", "2002:808:808::1", "2001::1", "2001:0:7f00:1::", "2001:db8::1",
    "100::1", "3fff::1", "5f00::1",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "93.184.215.14", "172.15.255.255", "172.32.0.1", "100.63.255.255",
    "100.128.0.1", "169.253.255.255", "223.255.255.255", "2606:4700:4700::1111",
    "2a00:1450:4001:80b::200e", "2003::1",
]  # fmt: skip


@pytest.mark.parametrize("text", NEVER)
def test_private_addresses_are_never_reached(text: str) -> None:
    assert not is_allowed(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_may_be_reached(text: str) -> None:
    assert is_allowed(ipaddress.ip_address(text))


def test_allowed_networks_setting_opens_networks(settings: Any) -> None:
    settings.CHRONIKER_MONITORS_ALLOWED_NETWORKS = ["10.1.0.0/16", "fd00::/8"]
    assert is_allowed(ipaddress.ip_address("10.1.2.3"))
    assert is_allowed(ipaddress.ip_address("fd00::1"))
    for text in ("10.2.0.1", "127.0.0.1", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fc00::1"):
        assert not is_allowed(ipaddress.ip_address(text)), text


@pytest.mark.parametrize(
    "host",
    [
        "2130706433", "0x7f000001", "0x7f.1", "127.1", "127.0.1", "0177.0.0.1", "0300.0250.0.1",
        "127.0.0.01", "1.2.3.4.5", "256.1.1.1", "0x", "1", "127.0.0.1.",
        "①②⑦.⓪.⓪.①", "127。0。0。1x.1",
        "", ".", "a..b", "a b", "a\tb", "a/b", "a@b", "a#b", "a?b", "a\\b", "a%2eb", "fe80::1%eth0",
        "[::1", "::1]", "-a.example.com", "x" * 64 + ".com", "a." * 130 + "com", "exa\nmple.com",
        "a\0.com", "localhost:80", "*.example.com",
    ],
)  # fmt: skip
def test_malformed_host_is_rejected(host: str) -> None:
    with pytest.raises(AddressRefused):
        normalize_host(host)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("example.com", "example.com"), ("EXAMPLE.com.", "example.com."), ("db_1", "db_1"),
        ("bücher.example", "xn--bcher-kva.example"), ("1.example.com", "1.example.com"),
        ("127.0.0.1", "127.0.0.1"), ("[::1]", "::1"), ("::1", "::1"), ("3com", "3com"),
    ],
)  # fmt: skip
def test_host_names_and_addresses_are_accepted(host: str, name: str) -> None:
    assert normalize_host(host) == name


@pytest.mark.parametrize("kind", ["tcp", "tls", "http"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
def test_no_kind_reaches_its_own_host(kind: str, host: str) -> None:
    with serve_socket(send_nothing) as port:
        params: dict[str, Any] = {"host": host, "port": port}
        if kind == "http":
            params = {"url": f"http://{host}:{port}/"}
        assert "CHRONIKER_MONITORS_ALLOWED_NETWORKS" in measure_error(kind, **params)


@pytest.mark.parametrize("host", ["2130706433", "0177.0.0.1", "0x7f.1"])
def test_unusual_spellings_of_addresses_are_rejected(host: str) -> None:
    assert "four decimal numbers" in build_errors("tcp", host=host, port=80)["host"]
    assert "four decimal numbers" in build_errors("http", url=f"http://{host}/")["url"]


def test_dns_rebinding_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the check sees a public address, the connection gets loopback."""
    answers = [["1.1.1.1"], ["127.0.0.1"]]
    asked = []

    def resolve(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        asked.append(host)
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in found]

    connected: list[Any] = []

    def connect(self: socket.socket, address: Any) -> None:
        connected.append(address)
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "connect", connect)
    measure_error("tcp", host="rebind.example.com", port=80)
    assert asked == ["rebind.example.com"], "resolved once"
    assert connected == [("1.1.1.1", 80)], "the checked address is the one that is connected to"
    assert "127.0.0.1" in measure_error("tcp", host="rebind.example.com", port=80)
    assert len(connected) == 1


def test_only_allowed_addresses_of_a_name_are_tried(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CHRONIKER_MONITORS_ALLOWED_NETWORKS = ["127.0.0.1/32"]
    with serve_socket(send_nothing) as port:
        addresses = ["10.0.0.1", "169.254.169.254", "127.0.0.1"]
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda *args, **kwargs: [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in addresses
            ],
        )
        assert measure_value("tcp", host="many.example.com", port=port).message.startswith(
            "127.0.0.1"
        )
