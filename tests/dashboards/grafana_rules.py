"""The committed alerts of Grafana, read for tests."""

from __future__ import annotations

from typing import Any

import yaml

from dashboards.grafana_alerts import TARGET

FILE = yaml.safe_load(TARGET.read_text())
RULES: dict[str, Any] = {rule["title"]: rule for group in FILE["groups"] for rule in group["rules"]}
