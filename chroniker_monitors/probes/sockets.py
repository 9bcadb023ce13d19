"""TCP and TLS: whether it answers, and for how long its certificate is valid."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Any, ClassVar

from chroniker_monitors.exceptions import AddressRefused, ParamsInvalid, ProbeError

from .addresses import connect, normalize_host
from .base import BaseProbe, Reading, import_modules, param
from .error_messages import explain_os
from .registry import register_probe

_EXPIRED = 10  # OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED


def validate_host(host: str) -> None:
    """Raise ParamsInvalid unless ``host`` can be a name or an address."""
    try:
        normalize_host(host)
    except AddressRefused as error:
        raise ParamsInvalid({"host": [str(error)]}) from error


def load_authorities() -> None:
    """Read the certificate authorities once, before the fork."""
    from . import tls

    with contextlib.suppress(ProbeError):  # told by the probe that needs them
        tls.load_authorities()


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class TcpProbe(BaseProbe):
    """Whether a port answers."""

    kind: ClassVar[str] = "tcp"
    label: ClassVar[str] = "TCP connection"
    description: ClassVar[str] = "Seconds until a connection is open, the name's lookup included."
    unit: ClassVar[str] = "seconds"

    host: str = param(label="Host", help="A name or an address.")
    port: int = param(label="Port", minimum=1, maximum=65535)

    def clean(self) -> None:
        """The host can be one."""
        validate_host(self.host)

    def run(self) -> Reading:
        """Connect, and hang up."""
        began = time.monotonic()
        with contextlib.closing(connect(self.host, self.port)) as opened:
            seconds = time.monotonic() - began
            address = opened.getpeername()[0]
        return Reading(seconds, f"{address} answers on port {self.port}")


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class TlsProbe(BaseProbe):
    """When a certificate expires."""

    kind: ClassVar[str] = "tls"
    label: ClassVar[str] = "TLS certificate"
    description: ClassVar[str] = "Days until the certificate expires; below 0 when it has."
    unit: ClassVar[str] = "days"
    modules: ClassVar[tuple[str, ...]] = ("ssl",)

    host: str = param(label="Host", help="A name or an address.")
    port: int = param(443, label="Port", minimum=1, maximum=65535)
    server_name: str = param(
        "", label="Server name", help="The name in the certificate. Empty: the host."
    )

    @classmethod
    def preload(cls) -> None:
        """Read the certificate authorities as well, which takes longer than a handshake."""
        import_modules(cls.modules)
        load_authorities()

    def clean(self) -> None:
        """The host can be one."""
        validate_host(self.host)

    def run(self) -> Reading:
        """Verify the certificate; if all that is wrong is its date, look when it expired."""
        import ssl

        from .tls import explain_tls

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
                        f"The certificate of {place} is in its time, but one of those that vouch "
                        "for it has expired."
                    ) from error
                return reading
        except ssl.SSLError as error:
            raise ProbeError(explain_tls(error, place)) from error
        except OSError as error:
            raise ProbeError(explain_os(error, place)) from error

    def _certificate(self, *, check_time: bool) -> dict[str, Any]:
        from .tls import wrap_tls

        with contextlib.closing(connect(self.host, self.port)) as opened:
            name = self.server_name or normalize_host(self.host)
            with contextlib.closing(wrap_tls(opened, name, check_time=check_time)) as secured:
                found = secured.getpeercert()
        if not found:
            raise ProbeError(f"{self.host}:{self.port} showed no certificate.")
        return dict(found)

    def _reading(self, certificate: dict[str, Any]) -> Reading:
        import ssl

        ends = ssl.cert_time_to_seconds(certificate["notAfter"])
        names = [name for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS"]
        about = f" for {', '.join(names[:3])}" if names else ""
        days = (ends - time.time()) / 86400
        word = "expires" if days > 0 else "expired"
        return Reading(days, f"the certificate{about} {word} {certificate['notAfter']}")
