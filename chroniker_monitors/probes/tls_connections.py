"""TLS over a checked socket, always verified. Imported only when needed: ``ssl`` is large."""

from __future__ import annotations

import socket
import ssl
import time
from functools import cache

from chroniker_monitors.conf import conf
from chroniker_monitors.exceptions import ProbeError

from .addresses import DeadlineMixin
from .time_limit import remaining_seconds

NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which the ``ssl`` module does not define."""


class DeadlineSSLSocket(DeadlineMixin, ssl.SSLSocket):
    """A TLS socket whose operations end at the deadline."""


@cache
def _authorities(ca_file: str) -> ssl.SSLContext:
    # Cached: loading the system's authorities takes longer than the rest of a probe.
    context = ssl.create_default_context()
    context.sslsocket_class = DeadlineSSLSocket
    if ca_file:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ProbeError(
                f"CHRONIKER_MONITORS_CA_FILE {ca_file} cannot be read: {error}."
            ) from (error)
    return context


def load_authorities() -> None:
    """Load the certificate authorities, once, before the fork."""
    _authorities(conf.MONITORS_CA_FILE)


def wrap_tls(opened: socket.socket, name: str, *, check_time: bool = True) -> ssl.SSLSocket:
    """Start TLS on a connection, and verify the certificate for ``name``.

    ``check_time=False``: accept an expired certificate; everything else is verified. Raises
    ssl.SSLError or OSError.
    """
    context = _authorities(conf.MONITORS_CA_FILE)
    before = context.verify_flags
    if not check_time:
        context.verify_flags = ssl.VerifyFlags(before | NO_CHECK_TIME)
    try:
        secured = context.wrap_socket(opened, server_hostname=name, do_handshake_on_connect=False)
    finally:
        if not check_time:
            context.verify_flags = before
    try:
        assert isinstance(secured, DeadlineSSLSocket)
        secured.deadline = time.monotonic() + remaining_seconds()
        secured.apply_deadline()
        secured.do_handshake()
    except BaseException:
        secured.close()  # even on an exception from the alarm, which ssl does not expect
        raise
    return secured


def explain_tls(error: ssl.SSLError, place: str) -> str:
    """Return a sentence that says why TLS failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"The certificate of {place} is not valid: {error.verify_message}."
    reason = (error.reason or str(error)).replace("_", " ").lower()
    return f"The TLS handshake with {place} failed: {reason}."
