"""One scrape of the demo's metrics page."""

from __future__ import annotations

from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from demo.site import DemoSite


class DemoMetrics:
    """The samples of one scrape; labels without a value do not count."""

    def __init__(self, site: DemoSite) -> None:
        with urlopen(f"{site.url}/metrics", timeout=10) as response:
            page = response.read().decode()
        self.samples = {
            (sample.name, frozenset(pair for pair in sample.labels.items() if pair[1])): (
                sample.value
            )
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """The value of one sample, which has to be on the page."""
        key = (name, frozenset(pair for pair in labels.items() if pair[1]))
        assert key in self.samples, f"there is no {name}{labels}"
        return self.samples[key]

    def value_or_zero(self, name: str, **labels: str) -> float:
        """The value of a sample that the page leaves out while it is 0."""
        key = (name, frozenset(pair for pair in labels.items() if pair[1]))
        return self.samples.get(key, 0.0)
