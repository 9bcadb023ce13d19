"""The addresses that a monitor may connect to, checked when the socket connects.

The server fetches what an admin enters into a form, and it can reach more than its admins can: the
database, the cloud's metadata service, internal admin pages. So only public addresses are allowed,
and the networks that the site configures. A name is resolved once, and exactly the addresses that
were checked are used, so a name that changes its address afterwards (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import time

from chroniker_monitors.conf import conf
from chroniker_monitors.exceptions import AddressRefused, ProbeError

from .error_messages import explain_os
from .time_limit import call_with_timeout, remaining_seconds

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
SocketAddress = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, SocketAddress]
"""An entry of ``socket.getaddrinfo``."""

_RESERVED_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # public, but the metadata service on Azure
        "::/96", "::ffff:0:0/96",  # IPv4 in IPv6: compatible, mapped
        "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48",  # translated, NAT64
        "100::/64", "2001::/23", "2001:db8::/32", "2002::/16",  # 2001::/32: Teredo; 6to4
        "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
    )
)  # fmt: skip
"""RFC 6890 and its successors. ``ipaddress.is_private`` misses several of them."""

_ENDS_IN_NUMBER = re.compile(r"(?:^|\.)(?:\d+|0x[0-9a-f]*)\.?$", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)


def normalize_host(text: str) -> str:
    """Return the host in the form used for the lookup: an ASCII name, or a normal address.

    Raises AddressRefused for anything else, such as an address in octal or as one number.
    """
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        if "%" not in bare:
            return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    try:
        name = bare.encode("idna").decode("ascii").lower()
    except UnicodeError:
        name = ""
    if _ENDS_IN_NUMBER.search(name):
        raise AddressRefused(
            f"{text!r} is not a valid address. Use four decimal numbers, such as 192.0.2.1, or a "
            "name."
        )
    labels = name.removesuffix(".").split(".")
    if len(name) > 253 or not all(_NAME.fullmatch(label) for label in labels):
        raise AddressRefused(f"{text!r} is not a host name.")
    return name


def is_allowed(address: Address) -> bool:
    """Whether a monitor may connect to this address."""
    for text in conf.MONITORS_ALLOWED_NETWORKS:
        network = ipaddress.ip_network(text, strict=False)
        if network.version == address.version and address in network:
            return True
    if any(
        network.version == address.version and address in network for network in _RESERVED_NETWORKS
    ):
        return False
    return address.is_global and not address.is_multicast


def connect(host: str, port: int) -> socket.socket:
    """Connect to an allowed address of the host, within the probe's time limit.

    Raises AddressRefused or ProbeError.
    """
    name = normalize_host(host)
    place = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    addresses = _resolve(name, port)
    allowed = [info for info in addresses if is_allowed(_address(info[4]))]
    if not allowed:
        shown = ", ".join(sorted({str(_address(info[4])) for info in addresses}))
        raise AddressRefused(
            f"This site does not allow monitors to connect to {place} ({shown}): the address is "
            "private or reserved. Add its network to CHRONIKER_MONITORS_ALLOWED_NETWORKS."
        )
    failure: OSError | None = None
    for left, info in zip(range(len(allowed), 0, -1), allowed, strict=True):
        try:
            return _open_socket(info, remaining_seconds() / left)
        except OSError as error:
            failure = error
    assert failure is not None
    raise ProbeError(explain_os(failure, place)) from failure


def _resolve(name: str, port: int) -> list[AddressInfo]:
    try:
        # In a thread: a resolver without an answer blocks for 30 s, and signals do not stop it.
        return call_with_timeout(_getaddrinfo, name, port)
    except TimeoutError:
        raise ProbeError(f"The name {name} could not be resolved in time.") from None
    except OSError as error:
        raise ProbeError(f"The name {name} cannot be resolved: {error.strerror}.") from error


def _getaddrinfo(name: str, port: int) -> list[AddressInfo]:
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [info for info in found if info[0] in (socket.AF_INET, socket.AF_INET6)]


def _address(sockaddr: SocketAddress) -> Address:
    return ipaddress.ip_address(str(sockaddr[0]).partition("%")[0])


def _open_socket(info: AddressInfo, seconds: float) -> socket.socket:
    family, kind, protocol, _, sockaddr = info
    sock = DeadlineSocket(family, kind, protocol)
    try:
        sock.settimeout(seconds)
        sock.connect(sockaddr)
        if not is_allowed(_address(sock.getpeername())):
            raise AddressRefused(f"The connection to {sockaddr[0]!s} reached another address.")
        sock.deadline = time.monotonic() + remaining_seconds()
        sock.settimeout(remaining_seconds())
    except BaseException:
        sock.close()
        raise
    return sock


class DeadlineMixin:
    """A mixin for sockets: the deadline of the whole request limits each operation.

    A socket's own timeout starts again with each byte that is received.
    """

    deadline: float | None = None

    def apply_deadline(self) -> None:
        """Set the remaining time as the timeout of the next operation. Raises TimeoutError."""
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the time limit has passed")
            self.settimeout(left)  # type: ignore[attr-defined]

    def recv_into(self, *args: object, **kwargs: object) -> int:
        """Like the socket's method, with the deadline."""
        self.apply_deadline()
        return super().recv_into(*args, **kwargs)  # type: ignore[misc, no-any-return]

    def recv(self, *args: object, **kwargs: object) -> bytes:
        """Like the socket's method, with the deadline."""
        self.apply_deadline()
        return super().recv(*args, **kwargs)  # type: ignore[misc, no-any-return]

    def sendall(self, *args: object, **kwargs: object) -> None:
        """Like the socket's method, with the deadline."""
        self.apply_deadline()
        super().sendall(*args, **kwargs)  # type: ignore[misc]


class DeadlineSocket(DeadlineMixin, socket.socket):
    """A socket whose operations end at the deadline."""
