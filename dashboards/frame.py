"""Everything around the panels: variables, links, annotations and the grid."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from .panels import BLUE, RED, SOURCE, Row

Variable = Builder[models.VariableModel]

TAG = "chroniker"
TITLES = {
    "chroniker-fleet": "Chroniker / Fleet",
    "chroniker-job": "Chroniker / Job",
    "chroniker-monitors": "Chroniker / Monitors",
    "chroniker-hosts": "Chroniker / Hosts",
}
RECENT_SECONDS = 900
"""Age in seconds up to which a failed run is annotated, to limit the number of marks."""

# --- variables ------------------------------------------------------------------------------


def query_variable(
    name: str, label: str, values: str, description: str, *, several: bool
) -> dashboard.QueryVariable:
    """A drop-down list, read from Prometheus when the dashboard is opened."""
    variable = (
        dashboard.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(SOURCE)
        .query({"qryType": 1, "query": values, "refId": f"Variable-{name}"})
        .definition(values)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC)
        .multi(several)
        .include_all(several)
    )
    if several:
        # Match everything, including series without this label.
        variable.all_value(".*").current(models.VariableOption(text=["All"], value=["$__all"]))
    return variable


def base_variables() -> list[Variable]:
    """The Prometheus data source, and the site, by the name of its scrape job."""
    return [
        dashboard.DatasourceVariable("datasource")
        .label("Prometheus")
        .description("The Prometheus that scrapes the site.")
        .type("prometheus"),
        query_variable(
            "job",
            "Site",
            "label_values(chroniker_build_info, job)",
            "The site, by the job_name of its scrape configuration.",
            several=False,
        ).current(models.VariableOption(text="chroniker", value="chroniker")),
    ]


# --- annotations and links ------------------------------------------------------------------


def failed_runs(expr: str) -> dashboard.AnnotationQuery:
    """A mark at the time of a failed run, which is the value of the metric."""
    return (
        dashboard.AnnotationQuery()
        .name("Failed runs")
        .datasource(SOURCE)
        .enable(True)
        .icon_color(RED)
        .expr(f"(({expr}) > time() - {RECENT_SECONDS}) * 1000")
        .use_value_for_time(True)
        .step("1m")
        .title_format("{{job_name}} {{host}} failed")
        .text_format("A run did not succeed.")
        .tag_keys("job_name,host")
    )


def maintenance(expr: str, title: str) -> dashboard.AnnotationQuery:
    """A region while alerts are muted."""
    return (
        dashboard.AnnotationQuery()
        .name("Maintenance")
        .datasource(SOURCE)
        .enable(True)
        .icon_color(BLUE)
        .expr(expr)
        .step("1m")
        .title_format(title)
        .text_format("Alerts are muted by a maintenance window.")
        .tag_keys("job_name")
    )


def links(uid: str) -> list[Builder[models.DashboardLink]]:
    """Links to the other dashboards, with the same data source, site and time range."""
    return [
        dashboard.DashboardLink(title.removeprefix("Chroniker / "))
        .type(models.DashboardLinkType.LINK)
        .url(f"/d/{other}?${{datasource:queryparam}}&${{job:queryparam}}")
        .icon("dashboard")
        .keep_time(True)
        for other, title in TITLES.items()
        if other != uid
    ]


def compose(
    uid: str,
    description: str,
    sections: dict[str, Sequence[Row]],
    *,
    variables: Sequence[Variable],
    annotations: Sequence[dashboard.AnnotationQuery],
    since: str,
) -> models.Dashboard:
    """Build a dashboard. A section with an empty title has no heading."""
    board = (
        dashboard.Dashboard(TITLES[uid])
        .uid(uid)
        .description(description)
        .tags([TAG])
        .timezone("browser")
        .readonly()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .time(since, "now")
        .refresh("30s")
        .variables([*base_variables(), *variables])
        .annotations(list(annotations))
        .links(links(uid))
    )
    ids = iter(range(1, 1000))
    for heading, rows in sections.items():
        if heading:
            board.with_row(dashboard.Row(heading).id(next(ids)))
        for row in rows:
            assert sum(width for width, _ in row.panels) == 24, (uid, heading)
            for width, panel in row.panels:
                board.with_panel(panel.id(next(ids)).span(width).height(row.height))
    return board.build()
