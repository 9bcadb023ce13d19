from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from chroniker.outages import Outage

logger = logging.getLogger("chroniker.test")


@pytest.mark.usefixtures("own_runtime_dir")
def test_an_outage_is_logged_when_it_begins_and_when_it_ends(caplog: Any, tmp_path: Path) -> None:
    caplog.set_level("INFO")
    outage = Outage(logger, "post")
    outage.end("%s is back", "post")
    for _ in range(3):
        Outage(logger, "post").begin("%s is away", "post")
    assert [path.name.split("-")[0] for path in (tmp_path / "runtime").iterdir()] == ["post"]
    for _ in range(2):
        outage.end("%s is back", "post")
    assert caplog.messages == ["post is away", "post is back"]
    assert list((tmp_path / "runtime").iterdir()) == []


def test_without_a_directory_each_failure_is_logged(
    caplog: Any, settings: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    settings.CHRONIKER_RUNTIME_DIR = str(tmp_path / "file")
    for _ in range(2):
        Outage(logger, "post").begin("%s is away", "post")
    assert [message[:15] for message in caplog.messages] == ["post is away (T", "post is away (T"]
