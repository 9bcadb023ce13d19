from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.types import Deploy


@pytest.fixture
def deploy(manage: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Any) -> Deploy:
    """``deploy("pool,own_alias")``: the ``manage`` of the test site with such a database."""

    def make(
        kinds: str, *, database: dict[str, Any] | None = None, replica: dict[str, Any] | None = None
    ) -> Callable[..., subprocess.CompletedProcess[str]]:
        env = {
            "DJANGO_SETTINGS_MODULE": "tests.deployments.settings",
            "CHRONIKER_DEPLOYMENT": kinds,
            "CHRONIKER_DEPLOYMENT_DATABASE": json.dumps(database or {}),
        }
        if replica is not None:
            env["CHRONIKER_DEPLOYMENT_REPLICA"] = json.dumps(replica)

        def run(*argv: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
            return manage(*argv, env=env, timeout=timeout)

        return run

    return make
