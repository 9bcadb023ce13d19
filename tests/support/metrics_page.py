"""The metrics page, scraped and parsed."""

from __future__ import annotations

import re
import threading

from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

OPENMETRICS = "application/openmetrics-text; version=1.0.0"

SAMPLE_LINE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
"""Name, labels and value of a line of the text format."""

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(client: Client | None = None, **headers: str) -> str:
    response = (client or Client()).get("/metrics", headers=headers)
    assert response.status_code == 200
    return response.content.decode()


def samples(page: str) -> Samples:
    """The value of each sample by name and labels; duplicates fail."""
    found: Samples = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"twice on the page: {key}"
            found[key] = sample.value
    return found


class MetricsPage:
    """A scraped page; ``page("chroniker_job_running", job_name="a")`` is a value."""

    def __init__(self, text: str | None = None) -> None:
        self.text = scrape() if text is None else text
        self.samples = samples(self.text)

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.samples.get((name, frozenset(labels.items())))

    def samples_named(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        return {labels: value for (found, labels), value in self.samples.items() if found == name}


def scrape_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "chroniker-scrape"]


METRICS_URL = "/metrics"
TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
