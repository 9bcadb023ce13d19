"""The columns of the list of monitors. They use the rows that the list prefetches, no queries."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Case, IntegerField, Max, OrderBy, Subquery, Value, When
from django.utils.translation import gettext_lazy

from chroniker.admin import formats, job_columns
from chroniker.models import Job
from chroniker_monitors.thresholds import SEVERITY_ORDER, rank

from . import charts
from .filters import current_states
from .monitor_display import describe_bounds, describe_monitor, display_unit, kind_label
from .templates import render
from .values import format_value

_SEVERITY_RANKS = [
    When(severity=severity, then=Value(rank(severity))) for severity in SEVERITY_ORDER
]


def order_by_severity() -> OrderBy:
    """Order by the worst severity of a monitor, worst first; without a state, last."""
    worst = (
        current_states()
        .order_by()
        .values("job")
        .annotate(worst=Max(Case(*_SEVERITY_RANKS, output_field=IntegerField())))
        .values("worst")
    )
    return Subquery(worst).desc(nulls_last=True)


@admin.display(description=gettext_lazy("monitor"), ordering="name")
def title(job: Job) -> str:
    """Show the name and the kind."""
    return render("title.html", {"name": job.name, "kind": kind_label(job.probe.kind)})


@admin.display(description=gettext_lazy("state"), ordering=order_by_severity())
def severity(job: Job) -> str:
    """Show the severity and the last message or error."""
    return render("severity.html", {"display": describe_monitor(job)})


@admin.display(description=gettext_lazy("value"))
def value(job: Job) -> str:
    """Show the last value with its unit."""
    state = describe_monitor(job).state
    return formats.EMPTY if state is None else format_value(state.value, display_unit(job, state))


@admin.display(description=gettext_lazy("thresholds"))
def bounds(job: Job) -> str:
    """Show the thresholds."""
    return render("bounds.html", {"bounds": describe_bounds(job)})


@admin.display(description=gettext_lazy("recent values"))
def sparkline(job: Job) -> str:
    """Show the recent values as a small chart."""
    state = describe_monitor(job).state
    spark = charts.draw_sparkline(state.recent_values) if state is not None else None
    if spark is None or state is None:
        return formats.EMPTY
    values = [value for value, _severity in state.recent_values if value is not None]
    unit = display_unit(job, state)
    return render(
        "sparkline.html",
        {
            "spark": spark,
            "low": format_value(min(values), unit),
            "high": format_value(max(values), unit),
        },
    )


@admin.display(description=gettext_lazy("since"))
def since(job: Job) -> str:
    """Show since when the monitor has had its severity."""
    state = describe_monitor(job).state
    return formats.time_html(None if state is None else state.since)


@admin.display(description=gettext_lazy("next check"), ordering=job_columns.soonest_run())
def next_check(job: Job) -> str:
    """Show when the monitor is checked next."""
    return job_columns.next_run(job)
