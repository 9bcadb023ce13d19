"""The ``job_chain`` command."""

from __future__ import annotations

import pytest
from django.utils.timezone import now

from chroniker.models import JobDependency, Run
from tests.factories import make_job
from tests.support.types import RunManage

pytestmark = pytest.mark.django_db(transaction=True)


class TestJobChain:
    def test_prints_order_times_and_the_critical_path(self, manage: RunManage) -> None:
        seconds = {"fetch": 10.0, "import": 60.0, "thumbnails": 5.0, "report": 20.0}
        jobs = {name: make_job(name=name) for name in seconds}
        other = make_job(name="other")
        for name, job in jobs.items():
            for _ in range(3):
                Run.objects.create(
                    job=job, scheduled_for=now(), status="succeeded", attempt=1,
                    duration_seconds=seconds[name],
                )  # fmt: skip
        for downstream, upstream in (
            ("import", "fetch"), ("thumbnails", "fetch"), ("report", "import"),
            ("report", "thumbnails"),
        ):  # fmt: skip
            JobDependency.objects.create(downstream=jobs[downstream], upstream=jobs[upstream])
        lines = manage("job_chain", "import").stdout.splitlines()
        assert lines == [
            "*      0.0 s  fetch (10.0 s)",
            "*     10.0 s  import (60.0 s), after fetch",
            "*     70.0 s  report (20.0 s), after import",
            "Critical path: fetch → import → report; 90.0 s in total.",
        ]
        lines = manage("job_chain", "fetch").stdout.splitlines()
        assert "      10.0 s  thumbnails (5.0 s), after fetch" in lines
        assert lines[-1] == "Critical path: fetch → import → report; 90.0 s in total."
        assert "time unknown" in manage("job_chain", str(other.pk)).stdout
        assert manage("job_chain", "nobody").returncode == 1
