"""The kinds of panels that the dashboards use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")
HOURLY = "1h"
"""The step of bar charts: one bar per hour, so that a daily job is visible."""

GREEN, YELLOW, ORANGE, RED, PURPLE, BLUE, GREY = (
    "green", "yellow", "orange", "red", "purple", "blue", "text",
)  # fmt: skip
SEVERITIES = {
    0: ("ok", GREEN),
    1: ("warning", ORANGE),
    2: ("critical", RED),
    3: ("unknown", PURPLE),
}
STATUSES = {
    0: ("never ran", GREY),
    1: ("succeeded", GREEN),
    2: ("failed", RED),
    3: ("timed_out", ORANGE),
    4: ("stopped", YELLOW),
    5: ("lost", PURPLE),
    6: ("interrupted", BLUE),
}
YES_NO = {0: ("no", GREY), 1: ("yes", BLUE)}
STATUS_COLORS = {text: (text, colour) for text, colour in STATUSES.values()}

ValueMapping = Mapping[int, tuple[str, str]] | Mapping[str, tuple[str, str]]
"""Values, each with the text and color that replace it."""

Panel = (
    stat.Panel
    | timeseries.Panel
    | bargauge.Panel
    | statetimeline.Panel
    | table.Panel
    | dashboard.Panel
)
P = TypeVar("P", stat.Panel, timeseries.Panel, bargauge.Panel, statetimeline.Panel, table.Panel)
T = TypeVar("T")


class Row(NamedTuple):
    """Panels side by side, with their widths, which add up to 24."""

    height: int
    panels: Sequence[tuple[int, Panel]]


# --- queries --------------------------------------------------------------------------------


def query(expr: str, ref: str = "A", *, legend: str = "", step: str = "") -> prometheus.Dataquery:
    """A range query: series over time."""
    dataquery = prometheus.Dataquery().expr(expr).ref_id(ref).datasource(SOURCE).range()
    if legend:
        dataquery.legend_format(legend)
    return dataquery.interval(step) if step else dataquery


def now(expr: str, ref: str = "A", *, legend: str = "") -> prometheus.Dataquery:
    """An instant query at the end of the selected time range."""
    dataquery = prometheus.Dataquery().expr(expr).ref_id(ref).datasource(SOURCE).instant()
    return dataquery.legend_format(legend) if legend else dataquery


def refs(items: Iterable[T]) -> Iterable[tuple[str, T]]:
    """The items with the names of their queries."""
    return zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", items, strict=False)


# --- thresholds, mappings, links ------------------------------------------------------------


def threshold_steps(*limits: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Colors, each from its value upwards; the first value is None."""
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=color) for value, color in limits])
    )


def red_from(value: float, color: str = RED) -> dashboard.ThresholdsConfig:
    """Green, and this color from a value upwards."""
    return threshold_steps((None, GREEN), (value, color))


def green_from(value: float, fair: float) -> dashboard.ThresholdsConfig:
    """Red, orange from ``fair`` upwards, and green from ``value`` upwards."""
    return threshold_steps((None, RED), (fair, ORANGE), (value, GREEN))


NEUTRAL = threshold_steps((None, BLUE))


def value_mappings(mapping: ValueMapping) -> list[models.ValueMapping]:
    """Texts and colors in place of values."""
    options = {
        str(value): models.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(mapping.items())
    }
    return [models.ValueMap(options=options)]


def _configure(panel: P, title: str, description: str, unit: str) -> P:
    panel.title(title).description(description).datasource(SOURCE).unit(unit)
    return panel


def job_link(field_name: str = "job_name") -> dashboard.DashboardLink:
    """A link from a cell with a job's name to its dashboard."""
    return (
        dashboard.DashboardLink("Show this job")
        .type(models.DashboardLinkType.LINK)
        .url(
            "/d/chroniker-job?${datasource:queryparam}&${job:queryparam}"
            f"&var-job_name=${{__data.fields.{field_name}:percentencode}}"
        )
    )


# --- panels ---------------------------------------------------------------------------------


def stat_panel(
    title: str,
    description: str,
    expr: str,
    *,
    unit: str = "short",
    thresholds: dashboard.ThresholdsConfig | None = None,
    mapping: ValueMapping | None = None,
    no_value: str = "no data",
    decimals: int | None = None,
    legend: str = "",
    names: bool = False,
) -> stat.Panel:
    """One large number."""
    panel = _configure(stat.Panel(), title, description, unit)
    panel.with_target(now(expr, legend=legend)).no_value(no_value)
    panel.thresholds(thresholds or NEUTRAL)
    panel.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    panel.color_mode(common_models.BigValueColorMode.BACKGROUND)
    panel.graph_mode(common_models.BigValueGraphMode.NONE)
    panel.text_mode(
        common_models.BigValueTextMode.VALUE_AND_NAME
        if names
        else common_models.BigValueTextMode.VALUE
    )
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    if mapping:
        panel.mappings(value_mappings(mapping))
    if decimals is not None:
        panel.decimals(decimals)
    return panel


@dataclass(frozen=True, slots=True)
class Line:
    """A query of a chart, with its legend and line style."""

    expr: str
    legend: str = ""
    dashed: bool = False
    color: str = ""


def chart(
    title: str,
    description: str,
    *lines: Line,
    unit: str = "short",
    bars: bool = False,
    step: str = "",
    lowest: float | None = 0,
    highest: float | None = None,
    no_value: str = "",
    log: bool = False,
) -> timeseries.Panel:
    """Lines over time, or stacked bars, one per hour."""
    panel = _configure(timeseries.Panel(), title, description, unit)
    for ref, line in refs(lines):
        panel.with_target(query(line.expr, ref, legend=line.legend, step=step))
        overrides: list[tuple[str, object]] = []
        if line.dashed:
            overrides.append(("custom.lineStyle", {"fill": "dash", "dash": [8, 8]}))
            overrides.append(("custom.fillOpacity", 0))
        if line.color:
            overrides.append(("color", {"mode": "fixed", "fixedColor": line.color}))
        if overrides:
            panel.override_by_query(ref, [_override(name, value) for name, value in overrides])
    panel.legend(
        common.VizLegendOptions()
        .display_mode(common_models.LegendDisplayMode.LIST)
        .placement(common_models.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    panel.tooltip(
        common.VizTooltipOptions()
        .mode(common_models.TooltipDisplayMode.MULTI)
        .sort(common_models.SortOrder.DESCENDING)
    )
    if bars:
        panel.draw_style(common_models.GraphDrawStyle.BARS).fill_opacity(80).line_width(0)
        panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    else:
        panel.draw_style(common_models.GraphDrawStyle.LINE).fill_opacity(8).line_width(1)
        panel.show_points(common_models.VisibilityMode.NEVER)
    if log:
        panel.scale_distribution(
            common.ScaleDistributionConfig().type(common_models.ScaleDistribution.LOG).log(10)
        )
    if lowest is not None:
        panel.min(lowest)
    if highest is not None:
        panel.max(highest)
    if no_value:
        panel.no_value(no_value)
    return panel


def alert_list(title: str, description: str) -> dashboard.Panel:
    """The alerts of the site that fire or are pending, of Prometheus's rules and of Grafana's."""
    return (
        dashboard.Panel()
        .type("alertlist")
        .title(title)
        .description(description)
        .options(
            {
                "viewMode": "list",
                "groupMode": "default",
                "groupBy": [],
                "maxItems": 50,
                "sortOrder": 3,  # by importance
                "dashboardAlerts": False,
                "alertName": "Chroniker",
                # Not the one that always fires.
                "alertInstanceLabelFilter": '{job="$job", alertname!="ChronikerWatchdog"}',
                "stateFilter": {
                    "firing": True,
                    "pending": True,
                    "recovering": True,
                    "noData": False,
                    "normal": False,
                    "error": True,
                },
            }
        )
    )


def ranking(
    title: str, description: str, expr: str, legend: str, *, unit: str, no_value: str
) -> bargauge.Panel:
    """Horizontal bars, the longest first."""
    panel = _configure(bargauge.Panel(), title, description, unit)
    panel.with_target(now(f"sort_desc({expr})", legend=legend)).no_value(no_value).min(0)
    panel.orientation(common_models.VizOrientation.HORIZONTAL)
    panel.display_mode(common_models.BarGaugeDisplayMode.BASIC)
    panel.value_mode(common_models.BarGaugeValueMode.TEXT)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    panel.thresholds(NEUTRAL)
    return panel


def timeline(
    title: str,
    description: str,
    *lines: Line,
    mapping: ValueMapping,
    no_value: str = "no data",
) -> statetimeline.Panel:
    """States over time, one stripe per series."""
    panel = _configure(statetimeline.Panel(), title, description, "none")
    for ref, line in refs(lines):
        panel.with_target(query(line.expr, ref, legend=line.legend))
    panel.mappings(value_mappings(mapping)).no_value(no_value).thresholds(
        threshold_steps((None, GREY))
    )
    panel.merge_values(True).show_value(common_models.VisibilityMode.AUTO).row_height(0.8)
    panel.fill_opacity(80).line_width(0)
    panel.legend(
        common.VizLegendOptions()
        .display_mode(common_models.LegendDisplayMode.LIST)
        .placement(common_models.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    return panel


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: the value of a query or, with ``label``, a label of its series."""

    title: str
    expr: str
    label: str = ""
    unit: str = "short"
    cell_options: Mapping[str, object] = field(default_factory=dict)  # properties of the cells
    mapping: ValueMapping | None = None


PERCENT_BAR: Mapping[str, object] = {
    "min": 0,
    "max": 1,
    "custom.cellOptions": {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
}


def table_panel(
    title: str,
    description: str,
    *columns: Column,
    keys: dict[str, str],
    sort: str = "",
    ascending: bool = False,
    no_value: str,
) -> table.Panel:
    """A table of series with the same labels; ``keys`` are those labels and their titles."""
    panel = _configure(table.Panel(), title, description, "short")
    hidden, titles = {"Time": True}, dict(keys)
    order = {name: index for index, name in enumerate(keys)}
    for ref, column in refs(columns):
        panel.with_target(now(column.expr, ref).format(PromQueryFormat.TABLE))
        value = f"Value #{ref}" if len(columns) > 1 else "Value"
        shown = column.label or value
        titles[shown] = column.title
        order[shown] = len(order)
        if column.label:
            hidden[value] = True
        properties = [_override("unit", column.unit)]
        if column.mapping:
            cells = {"type": "color-text"}
            properties.append(_override("mappings", value_mappings(column.mapping)))
            properties.append(_override("custom.cellOptions", cells))
        properties += [_override(name, option) for name, option in column.cell_options.items()]
        panel.override_by_name(column.title, properties)
    if "job_name" in keys:
        panel.override_by_name(
            keys["job_name"],
            [_override("links", [job_link()]), _override("custom.minWidth", 180)],
        )
    if len(columns) > 1:
        panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={"excludeByName": hidden, "indexByName": order, "renameByName": titles},
        )
    )
    panel.no_value(no_value).thresholds(NEUTRAL)
    panel.cell_height(common_models.TableCellHeight.SM).show_header(True)
    if sort:
        panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(not ascending)])
    return panel


def _override(name: str, value: object) -> models.DynamicConfigValue:
    if isinstance(value, list):
        value = [item.build() if isinstance(item, Builder) else item for item in value]
    return models.DynamicConfigValue(id_val=name, value=value)
