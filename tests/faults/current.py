"""The deployment of this process, which has one for all of its experiments.

Nothing of Django is imported here, because the settings ask this module.
"""

from __future__ import annotations

import os

from tests.faults.deployment import Deployment

VARIABLE = "CHRONIKER_FAULTS_DEPLOYMENT"
DEPLOYMENT = Deployment(os.environ.get(VARIABLE) or Deployment.DIRECT)
ALIAS = "scheduler" if DEPLOYMENT is Deployment.ALIAS else "default"
"""The alias of Chroniker's tables."""
