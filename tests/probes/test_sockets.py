"""TCP and TLS against real servers, and against what goes wrong with them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.probes.helpers import error_of, measured, refusal_of, value_of
from tests.probes.servers import Authority, serve_http, serve_socket, silent
from tests.support import free_port

# --- tcp ------------------------------------------------------------------------------------


def test_a_port_that_answers_has_a_latency(loopback: None) -> None:
    with serve_socket(silent) as port:
        found = measured("tcp", host="localhost", port=port)
    assert 0 < (found.value or 0) < 20
    assert found.unit == "seconds"
    assert "answers on port" in found.message


def test_a_port_that_nobody_listens_on_is_unknown(loopback: None) -> None:
    port = free_port()
    said = error_of("tcp", host="127.0.0.1", port=port)
    assert said == f"Connection refused: 127.0.0.1:{port}; nothing listens there."


def test_a_name_that_nobody_knows_is_unknown() -> None:
    said = error_of("tcp", host="no-such-host.invalid", port=80)
    assert "no-such-host.invalid" in said and "resolved" in said


@pytest.mark.parametrize(("port", "part"), [(0, "at least 1"), (65536, "at most 65535")])
def test_a_port_has_a_range(port: int, part: str) -> None:
    assert part in refusal_of("tcp", host="example.com", port=port)["port"]


# --- tls ------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [5, 90, -3])
def test_the_days_until_a_certificate_expires(authority: Authority, days: float) -> None:
    with serve_http(authority.issue(days)) as web:
        found = measured("tls", host="localhost", port=web.port)
    assert found.value == pytest.approx(days, abs=0.05)
    assert found.unit == "days"
    assert ("expires" if days > 0 else "expired") in found.message
    assert "localhost" in found.message


def test_a_certificate_of_another_name_is_unknown_whatever_its_date(authority: Authority) -> None:
    for days in (30, -3):
        with serve_http(authority.issue(days, hosts="other.example.com")) as web:
            said = error_of("tls", host="localhost", port=web.port)
            assert "not valid" in said
            named = value_of(
                "tls", host="localhost", port=web.port, server_name="other.example.com"
            )
        assert named == pytest.approx(days, abs=0.05)


def test_an_address_can_be_in_the_certificate(authority: Authority) -> None:
    with serve_http(authority.issue(30)) as web:
        assert value_of("tls", host="127.0.0.1", port=web.port) > 29


def test_an_authority_that_nobody_trusts_is_unknown(authority: Authority, settings: Any) -> None:
    for days in (30, -3):
        with serve_http(authority.issue(days)) as web:
            settings.CHRONIKER_MONITORS_CA_FILE = ""
            said = error_of("tls", host="localhost", port=web.port)
            settings.CHRONIKER_MONITORS_CA_FILE = str(authority.path)
        assert "not valid" in said


def test_an_expired_certificate_above_a_good_one_is_told_apart(authority: Authority) -> None:
    with serve_http(authority.intermediate(-5).issue(30)) as web:
        assert "vouch for it has expired" in error_of("tls", host="localhost", port=web.port)


def test_what_speaks_no_tls_is_unknown(loopback: None) -> None:
    with serve_http() as web:
        assert "There is no TLS with localhost" in error_of("tls", host="localhost", port=web.port)


def test_a_server_that_says_nothing_is_unknown_in_time(loopback: None) -> None:
    with serve_socket(silent) as port:
        said = error_of("tls", timeout=0.3, host="localhost", port=port)
    assert said.startswith("No result within 0.3 s.")


def test_authorities_that_cannot_be_read_are_told(authority: Authority, settings: Any) -> None:
    settings.CHRONIKER_MONITORS_CA_FILE = "/nowhere/ca.pem"
    with serve_http(authority.issue(30)) as web:
        said = error_of("tls", host="localhost", port=web.port)
    assert "CHRONIKER_MONITORS_CA_FILE /nowhere/ca.pem cannot be read" in said
