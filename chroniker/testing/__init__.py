"""For the tests of a site: run jobs inline, freeze schedules, override jobs.

from chroniker.testing import run_job

class ImportTests(TestCase):
    def test_import(self):
        result = run_job("import sales")
        result.assert_succeeded()
        self.assertIn("3 sales", result.stdout)
"""

from __future__ import annotations

from .frozen import FrozenSchedules, freeze_schedules
from .inline import JobResult, run_job
from .overrides import override_jobs

__all__ = ["FrozenSchedules", "JobResult", "freeze_schedules", "override_jobs", "run_job"]
