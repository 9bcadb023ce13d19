"""TCP and TLS: time to connect, and expiry of a certificate."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from chroniker_monitors.exceptions import AddressRefused, ParamsInvalid, ProbeError

from .addresses import connect, normalize_host
from .base import BaseProbe, Reading, import_modules
from .error_messages import explain_os
from .params import param
from .registry import register_probe

_EXPIRED = 10  # OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED


def validate_host(host: str) -> None:
    """Raise ParamsInvalid if ``host`` is neither a name nor an address."""
    try:
        normalize_host(host)
    except AddressRefused as error:
        raise ParamsInvalid({"host": [str(error)]}) from error


def load_authorities() -> None:
    """Load the certificate authorities once, before the fork."""
    from . import tls_connections

    with contextlib.suppress(ProbeError):  # reported by the probe that needs them
        tls_connections.load_authorities()


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class TcpProbe(BaseProbe):
    """A connection to a TCP port."""

    kind: ClassVar[str] = "tcp"
    label: ClassVar[str] = "TCP connection"
    description: ClassVar[str] = "Seconds to open a connection, including the name lookup."
    unit: ClassVar[str] = "seconds"

    host: str = param(label="Host", help="A name or an address.")
    port: int = param(label="Port", minimum=1, maximum=65535)

    def clean(self) -> None:
        """Check that the host is a name or an address."""
        validate_host(self.host)

    def run(self) -> Reading:
        """Connect and close the connection."""
        began = time.monotonic()
        with contextlib.closing(connect(self.host, self.port)) as opened:
            seconds = time.monotonic() - began
            address = opened.getpeername()[0]
        return Reading(seconds, f"{address} answers on port {self.port}")


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class TlsProbe(BaseProbe):
    """The expiry of a certificate."""

    kind: ClassVar[str] = "tls"
    label: ClassVar[str] = "TLS certificate"
    description: ClassVar[str] = "Days until the certificate expires; negative if it has expired."
    unit: ClassVar[str] = "days"
    modules: ClassVar[tuple[str, ...]] = ("ssl",)

    host: str = param(label="Host", help="A name or an address.")
    port: int = param(443, label="Port", minimum=1, maximum=65535)
    server_name: str = param(
        "", label="Server name", help="The name in the certificate. Empty: the host."
    )

    @classmethod
    def preload(cls) -> None:
        """Also load the certificate authorities, which takes longer than a handshake."""
        import_modules(cls.modules)
        load_authorities()

    def clean(self) -> None:
        """Check that the host is a name or an address."""
        validate_host(self.host)

    def run(self) -> Reading:
        """Verify the certificate. If only its date is invalid, measure when it expired."""
        import ssl

        from .tls_connections import explain_tls

        place = f"{self.host}:{self.port}"
        try:
            try:
                return self._reading(self._certificate(check_time=True))
            except ssl.SSLCertVerificationError as error:
                if error.verify_code != _EXPIRED:
                    raise
                reading = self._reading(self._certificate(check_time=False))
                if reading.value > 0:
                    raise ProbeError(
                        f"The certificate of {place} has not expired, but an issuing certificate "
                        "has."
                    ) from error
                return reading
        except ssl.SSLError as error:
            raise ProbeError(explain_tls(error, place)) from error
        except OSError as error:
            raise ProbeError(explain_os(error, place)) from error

    def _certificate(self, *, check_time: bool) -> Mapping[str, object]:
        from .tls_connections import wrap_tls

        with contextlib.closing(connect(self.host, self.port)) as opened:
            name = self.server_name or normalize_host(self.host)
            with contextlib.closing(wrap_tls(opened, name, check_time=check_time)) as secured:
                found = secured.getpeercert()
        if not found:
            raise ProbeError(f"{self.host}:{self.port} sent no certificate.")
        return found

    def _reading(self, certificate: Mapping[str, object]) -> Reading:
        import ssl

        ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
        alternatives = certificate.get("subjectAltName")
        pairs = alternatives if isinstance(alternatives, tuple) else ()
        names = [name for kind, name in pairs if kind == "DNS"]
        about = f" for {', '.join(names[:3])}" if names else ""
        days = (ends - time.time()) / 86400
        word = "expires" if days > 0 else "expired"
        return Reading(days, f"the certificate{about} {word} {certificate['notAfter']}")
