"""The words for what a monitor says, each with its meaning."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Severity(models.IntegerChoices):
    """How bad it is. The numbers are exit codes (the convention of Nagios' plugins) and metrics."""

    OK = 0, _("ok")
    """The value is within its thresholds."""
    WARNING = 1, _("warning")
    """The value is beyond the first threshold."""
    CRITICAL = 2, _("critical")
    """The value is beyond the second threshold."""
    UNKNOWN = 3, _("unknown")
    """The probe itself failed: there is no value, which is not the same as zero."""


class Operator(models.TextChoices):
    """``value operator threshold`` is bad."""

    ABOVE = ">", _("is above")
    AT_LEAST = ">=", _("is at least")
    BELOW = "<", _("is below")
    AT_MOST = "<=", _("is at most")
    EQUAL = "==", _("is equal to")
    UNEQUAL = "!=", _("is not equal to")


class PingKind(models.TextChoices):
    """What an outside job told by its last ping."""

    SUCCESS = "success", _("success")
    """It ended well (or an exit code of 0)."""
    FAIL = "fail", _("failure")
    """It said that it failed (or an exit code other than 0)."""


HEARTBEAT = "heartbeat"
"""The kind whose value comes from pings."""
SQL = "sql"
"""The kind that needs a permission of its own."""
COMMAND = "check_monitor"
"""The management command of every monitor's job."""
