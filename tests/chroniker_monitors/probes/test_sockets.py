"""TCP and TLS probes against real servers that work and that fail."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import free_port
from tests.support.measurement import (
    build_errors,
    measure_error,
    measure_value,
    measured_number,
)
from tests.support.probe_servers import (
    CertificateAuthority,
    send_nothing,
    serve_http,
    serve_socket,
)

# --- tcp ------------------------------------------------------------------------------------


def test_open_port_has_a_latency(loopback: None) -> None:
    with serve_socket(send_nothing) as port:
        found = measure_value("tcp", host="localhost", port=port)
    assert 0 < (found.value or 0) < 20
    assert found.unit == "seconds"
    assert "answers on port" in found.message


def test_closed_port_is_unknown(loopback: None) -> None:
    port = free_port()
    said = measure_error("tcp", host="127.0.0.1", port=port)
    assert said == f"Connection refused: 127.0.0.1:{port}. Nothing listens there."


def test_unknown_host_name_is_unknown() -> None:
    said = measure_error("tcp", host="no-such-host.invalid", port=80)
    assert "no-such-host.invalid" in said and "resolved" in said


@pytest.mark.parametrize(("port", "part"), [(0, "at least 1"), (65536, "at most 65535")])
def test_port_outside_the_range_is_rejected(port: int, part: str) -> None:
    assert part in build_errors("tcp", host="example.com", port=port)["port"]


# --- tls ------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [5, 90, -3])
def test_days_until_the_certificate_expires(authority: CertificateAuthority, days: float) -> None:
    with serve_http(authority.issue(days)) as web_server:
        found = measure_value("tls", host="localhost", port=web_server.port)
    assert found.value == pytest.approx(days, abs=0.05)
    assert found.unit == "days"
    assert ("expires" if days > 0 else "expired") in found.message
    assert "localhost" in found.message


def test_certificate_for_another_name_is_unknown(
    authority: CertificateAuthority,
) -> None:
    for days in (30, -3):
        with serve_http(authority.issue(days, hosts="other.example.com")) as web_server:
            said = measure_error("tls", host="localhost", port=web_server.port)
            assert "not valid" in said
            named = measured_number(
                "tls", host="localhost", port=web_server.port, server_name="other.example.com"
            )
        assert named == pytest.approx(days, abs=0.05)


def test_certificate_for_an_ip_address_is_accepted(authority: CertificateAuthority) -> None:
    with serve_http(authority.issue(30)) as web_server:
        assert measured_number("tls", host="127.0.0.1", port=web_server.port) > 29


def test_untrusted_authority_is_unknown(authority: CertificateAuthority, settings: Any) -> None:
    for days in (30, -3):
        with serve_http(authority.issue(days)) as web_server:
            settings.CHRONIKER_MONITORS_CA_FILE = ""
            said = measure_error("tls", host="localhost", port=web_server.port)
            settings.CHRONIKER_MONITORS_CA_FILE = str(authority.path)
        assert "not valid" in said


def test_expired_intermediate_is_reported(authority: CertificateAuthority) -> None:
    with serve_http(authority.intermediate(-5).issue(30)) as web_server:
        assert "an issuing certificate has" in measure_error(
            "tls", host="localhost", port=web_server.port
        )


def test_server_that_does_not_speak_tls_is_unknown(loopback: None) -> None:
    with serve_http() as web_server:
        assert "The TLS handshake with localhost" in measure_error(
            "tls", host="localhost", port=web_server.port
        )


def test_unresponsive_server_is_unknown_in_time(loopback: None) -> None:
    with serve_socket(send_nothing) as port:
        said = measure_error("tls", timeout=0.3, host="localhost", port=port)
    assert said.startswith("No result within 0.3 s.")


def test_unreadable_ca_file_is_reported(authority: CertificateAuthority, settings: Any) -> None:
    settings.CHRONIKER_MONITORS_CA_FILE = "/nowhere/ca.pem"
    with serve_http(authority.issue(30)) as web_server:
        said = measure_error("tls", host="localhost", port=web_server.port)
    assert "CHRONIKER_MONITORS_CA_FILE /nowhere/ca.pem cannot be read" in said
