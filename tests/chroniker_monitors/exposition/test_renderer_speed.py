from __future__ import annotations

import os

import pytest

from tests.support.scrape_times import measure


@pytest.mark.django_db
def test_renderer_beats_prometheus_client(capsys: pytest.CaptureFixture[str]) -> None:
    """Few jobs and wide margins: the benchmarks measure the real numbers."""
    speed = measure(int(os.environ.get("CHRONIKER_TEST_JOBS", "300")))
    with capsys.disabled():
        if "CHRONIKER_TEST_JOBS" in os.environ:
            print(f"\n{speed}")
    assert speed.cold < speed.prometheus_client / 2
    assert speed.warm < speed.prometheus_client / 3
    assert speed.memory < 6 * speed.page
