"""The filters of the list of monitors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from chroniker.models import Host
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor, MonitorState, Probe
from chroniker_monitors.probes import probe_kinds

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    Choices = list[tuple[str, str | _StrPromise]]


def current_states() -> QuerySet[MonitorState]:
    """Select the states on current placements on active hosts, in a subquery of a query of jobs."""
    once = Q(host="") & ~Q(job__hostname="*")
    active = Host.objects.active().filter(name=OuterRef("host"))
    everywhere = ~Q(host="") & Q(job__hostname="*") & Exists(active)
    return MonitorState.objects.filter(once | everywhere, job=OuterRef("pk"))


class SeverityFilter(admin.SimpleListFilter):
    """Monitors by their severity on any host."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: object) -> Choices:
        """The severities, worst first."""
        return [
            ("bad", _("not ok")),
            *((s.name.lower(), s.label) for s in (
                Severity.CRITICAL, Severity.UNKNOWN, Severity.WARNING, Severity.OK
            )),
            ("none", _("no sample yet")),
        ]  # fmt: skip

    def queryset(self, request: HttpRequest, queryset: QuerySet[Monitor]) -> QuerySet[Monitor]:
        """The monitors with the chosen severity."""
        states = current_states()
        match self.value():
            case "bad":
                return queryset.filter(Exists(states.exclude(severity=Severity.OK)))
            case "none":
                return queryset.exclude(Exists(states.filter(last_sample_at__isnull=False)))
            case str(name) if name.upper() in Severity.__members__:
                return queryset.filter(Exists(states.filter(severity=Severity[name.upper()])))
        return queryset


class KindFilter(admin.SimpleListFilter):
    """Monitors by their kind."""

    title = _("kind")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: object) -> Choices:
        """The kinds in use."""
        kinds = probe_kinds()
        used = Probe.objects.order_by("kind").values_list("kind", flat=True).distinct()
        return [(kind, kinds[kind].label if kind in kinds else kind) for kind in used]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Monitor]) -> QuerySet[Monitor]:
        """The monitors of the chosen kind."""
        value = self.value()
        return queryset.filter(probe__kind=value) if value else queryset
