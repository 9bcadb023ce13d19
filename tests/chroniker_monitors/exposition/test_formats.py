"""Content negotiation of the metrics formats."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.support.metrics_page import METRICS_URL, OPENMETRICS_TYPE, TEXT_TYPE

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT_TYPE),
        ("*/*", TEXT_TYPE),
        ("text/html,application/xhtml+xml,*/*;q=0.8", TEXT_TYPE),
        ("image/png", TEXT_TYPE),
        (PROMETHEUS_2, OPENMETRICS_TYPE),
        (PROMETHEUS_3, OPENMETRICS_TYPE),
        ("application/openmetrics-text", OPENMETRICS_TYPE),
        ('Application/OpenMetrics-Text; version="1.0.0"', OPENMETRICS_TYPE),
        ("text/plain, application/openmetrics-text", OPENMETRICS_TYPE),
        ("application/openmetrics-text;q=0.1, text/plain;q=0.9", TEXT_TYPE),
        ("application/openmetrics-text;q=0", TEXT_TYPE),
        ("application/openmetrics-text;version=0.0.1", TEXT_TYPE),
        ("application/openmetrics-text;version=2.0.0", TEXT_TYPE),
        ("application/openmetrics-text;q=nonsense", TEXT_TYPE),
        (";;,,;q", TEXT_TYPE),
    ],
)
def test_format_is_the_preferred_one_of_the_scraper(accept: str, expected: str) -> None:
    response = Client().get(METRICS_URL, headers={"accept": accept})
    assert response["Content-Type"] == expected
    assert response.content.endswith(b"# EOF\n") == (expected == OPENMETRICS_TYPE)
    assert response.content.count(b"# EOF") == (expected == OPENMETRICS_TYPE)
    assert {part.strip() for part in response["Vary"].split(",")} >= {"Accept", "Accept-Encoding"}
