"""Servers and networks for the tests of the probes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chroniker_monitors.probes import registry
from tests.support.probe_servers import CertificateAuthority, WebServer, serve_http


@pytest.fixture
def kinds() -> Iterator[None]:
    """Unregister the kinds that a test registers."""
    before = set(registry._kinds) | set(registry.SHIPPED)
    yield
    for kind in set(registry._kinds) - before:
        del registry._kinds[kind]


@pytest.fixture
def loopback(settings: Any) -> None:
    """Monitors may reach loopback."""
    settings.CHRONIKER_MONITORS_ALLOWED_NETWORKS = ["127.0.0.0/8", "::1/128"]


@pytest.fixture
def web_server(loopback: None) -> Iterator[WebServer]:
    """A web server that monitors may reach."""
    with serve_http() as served:
        yield served


@pytest.fixture
def authority(loopback: None, settings: Any, tmp_path: Path) -> CertificateAuthority:
    """A certificate authority that monitors trust."""
    made = CertificateAuthority(tmp_path)
    settings.CHRONIKER_MONITORS_CA_FILE = str(made.path)
    return made
