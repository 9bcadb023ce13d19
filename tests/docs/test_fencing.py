"""The example of docs/how-to/fencing.md protects its table."""

from __future__ import annotations

import pytest

from .blocks import REPO, iter_blocks
from .example_site import ExampleSite

PAGE = REPO / "docs" / "how-to" / "fencing.md"
STALE_RUN = """
import os
from chroniker.run_context import CurrentRun, attach
from datetime import UTC, datetime
from django.core.management import call_command
from shop.models import Guard, Price, StaleRun

def update(fence):
    slot = datetime(2026, 5, 4, 12, tzinfo=UTC)
    attach(CurrentRun(1, "update prices", slot, 1, "schedule", fence))
    call_command("update_prices")

assert Guard.objects.get().fence == 2, Guard.objects.get().fence  # two runs
Price.objects.update(cents=1)
try:
    update(1)  # the old run, after its host has thawed
except StaleRun as error:
    assert "newer than number 1" in str(error)
else:
    raise AssertionError("the stale run was not refused")
assert set(Price.objects.values_list("cents", flat=True)) == {1}
update(2)  # the owner may write again
update(3)
assert set(Price.objects.values_list("cents", flat=True)) == {120, 450}
"""


@pytest.mark.slow
def test_stale_run_is_refused(site: ExampleSite) -> None:
    for block in iter_blocks(PAGE):
        assert site.apply(block)
    site.manage("makemigrations", "shop", "--verbosity=0")
    site.migrate()
    site.manage(
        "shell", "-c",
        "from chroniker.models import Job;"
        "Job.objects.create(name='update prices', command='update_prices')",
    )  # fmt: skip
    for _ in range(2):
        assert "update prices: succeeded" in site.manage("run_job", "update prices")
    site.manage("shell", "-c", STALE_RUN)
