"""Rows of a model: their number, their age, or an aggregate of a field."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from typing import ClassVar

from django.db import connections, models, router
from django.db.models import Aggregate, Avg, Count, Max, Min, Q, QuerySet, Sum
from django.utils import timezone

from chroniker_monitors.exceptions import ParamsInvalid, ProbeError

from .base import MAX_GROUPS, BaseProbe, Reading
from .limited_connections import limited_connection
from .lookups import (
    Condition,
    get_field,
    get_group_field,
    get_model,
    model_choices,
    parse_conditions,
)
from .params import param
from .registry import register_probe

_AGES: dict[str, type[Aggregate]] = {"oldest_seconds": Min, "newest_seconds": Max}
_NUMBERS: dict[str, type[Aggregate]] = {"sum": Sum, "avg": Avg, "min": Min, "max": Max}
_NUMERIC = (models.IntegerField, models.FloatField, models.DecimalField, models.DurationField)


def database_choices() -> list[tuple[str, str]]:
    """Return the databases of the site."""
    return [(alias, alias) for alias in connections]


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsProbe(BaseProbe):
    """Rows that match conditions."""

    kind: ClassVar[str] = "records"
    label: ClassVar[str] = "Records"
    description: ClassVar[str] = "Number or age of a model's rows, or an aggregate of a field."
    unit: ClassVar[str] = "rows"

    model: str = param(label="Model", choices=model_choices)
    measure: str = param(
        "count",
        label="Measure",
        choices=(
            ("count", "Number of rows"),
            ("oldest_seconds", "Age of the oldest, seconds"),
            ("newest_seconds", "Age of the newest, seconds"),
            ("sum", "Sum of a field"),
            ("avg", "Average of a field"),
            ("min", "Minimum of a field"),
            ("max", "Maximum of a field"),
        ),
    )
    field: str = param(
        "", label="Field", help="For an age: a date or time field. For a sum: a number field."
    )
    filters: str = param(
        "",
        label="Conditions",
        help="One per line; all must match. `status = failed`, `created__gte = now-1h`, "
        "`total__range = 10, 20`.",
        multiline=True,
    )
    exclude: str = param(
        "", label="Except", help="Rows that match any of these are left out.", multiline=True
    )
    group_by: str = param(
        "",
        label="Group by",
        help="A field, such as `status` or `shop__country`: measures each of its values. Empty: "
        "one value.",
    )
    when_empty: float | None = param(
        None,
        label="Without rows",
        help="The value if no row matches. Empty: 0 for a number of rows, a sum and the age of "
        "the oldest (nothing waits); otherwise the monitor is unknown. A group without rows is "
        "not measured.",
    )
    database: str = param(
        "",
        label="Database",
        help="Empty: the one the site reads from.",
        choices=database_choices,
    )

    def clean(self) -> None:
        """Check that model, field and conditions are allowed and fit together."""
        now = timezone.now()
        try:
            model = get_model(self.model)
        except ProbeError as error:
            raise ParamsInvalid({"model": [str(error)]}) from error
        errors: dict[str, list[str]] = {}
        for name, check in (
            ("field", lambda: self._check_field(model)),
            ("filters", lambda: parse_conditions(model, self.filters, now)),
            ("exclude", lambda: parse_conditions(model, self.exclude, now)),
            ("group_by", lambda: self._check_group(model)),
        ):
            try:
                check()
            except ProbeError as error:
                errors[name] = [str(error)]
        if errors:
            raise ParamsInvalid(errors)

    def _check_group(self, model: type[models.Model]) -> None:
        if self.group_by:
            get_group_field(model, self.group_by)

    def _check_field(self, model: type[models.Model]) -> None:
        if self.measure == "count":
            return
        if not self.field:
            raise ProbeError("This measure needs a field.")
        field = get_field(model, self.field)
        if self.measure in _AGES:
            if not isinstance(field, models.DateField):
                raise ProbeError(f"{self.field} is not a date or time. An age needs one.")
        elif field.is_relation or not isinstance(field, _NUMERIC):
            raise ProbeError(f"{self.field} is not a number.")

    def run(self) -> Reading:
        """Run one query."""
        now = timezone.now()
        # Checked again: the site's allow-list may have changed since the monitor was defined.
        model = get_model(self.model)
        self._check_field(model)
        self._check_group(model)
        filters = parse_conditions(model, self.filters, now)
        exclude = parse_conditions(model, self.exclude, now)
        with limited_connection(self.database or router.db_for_read(model)) as connection:
            rows = model._default_manager.using(connection.alias).all()
            rows = _apply_conditions(rows, filters, exclude)
            return self._read_groups(rows, now) if self.group_by else self._read(rows, now)

    def _read_groups(self, rows: QuerySet[models.Model], now: datetime) -> Reading:
        """Measure each group, by name. One more query if there are too many groups."""
        measure: Aggregate = (
            Count("*") if self.measure == "count" else (_AGES | _NUMBERS)[self.measure](self.field)
        )
        # The clause is needed: the model may order by other fields, which would make more groups.
        groups = rows.order_by().values(self.group_by)
        found = list(
            groups.annotate(chroniker_measured=measure)
            .order_by(self.group_by)
            .values_list(self.group_by, "chroniker_measured")[: MAX_GROUPS + 1]
        )
        more = 0
        if len(found) > MAX_GROUPS:
            more = groups.distinct().count() - MAX_GROUPS
        series, unit = [], None if self.measure == "count" else ""
        for group, value in found[:MAX_GROUPS]:
            if isinstance(value, date):
                value, unit = (now - _as_datetime(value)).total_seconds(), "seconds"
            elif isinstance(value, timedelta):
                value, unit = value.total_seconds(), "seconds"
            elif value is None:
                value = self.when_empty
            if value is not None:
                series.append((group, float(value)))
        return Reading(0, unit=unit, series=tuple(series), more_series=max(more, 0))

    def _read(self, rows: QuerySet[models.Model], now: datetime) -> Reading:
        label = rows.model._meta.label
        if self.measure == "count":
            count = rows.order_by().count()
            if not count and self.when_empty is not None:
                return Reading(self.when_empty, f"no rows of {label}")
            return Reading(count, label)
        combine = (_AGES | _NUMBERS)[self.measure]
        found = rows.order_by().aggregate(found=combine(self.field))["found"]
        if found is None:
            return self._empty(label)
        if self.measure in _AGES:
            age = (now - _as_datetime(found)).total_seconds()
            return Reading(age, f"{self.field} of {label}: {_format_time(found)}", "seconds")
        if isinstance(found, timedelta):
            return Reading(found.total_seconds(), f"{self.measure} of {self.field}", "seconds")
        return Reading(float(found), f"{self.measure} of {self.field} of {label}", "")

    def _empty(self, label: str) -> Reading:
        unit = "seconds" if self.measure in _AGES else ""
        message = f"no rows of {label} match the conditions"
        if self.when_empty is not None:
            return Reading(self.when_empty, message, unit)
        if self.measure in ("sum", "oldest_seconds"):
            return Reading(0, message, unit)
        raise ProbeError(
            f"No rows of {label} match the conditions, so {self.measure} of {self.field} has no "
            "value. Set when_empty to define one."
        )


def _apply_conditions(
    rows: QuerySet[models.Model], filters: list[Condition], exclude: list[Condition]
) -> QuerySet[models.Model]:
    # As pairs, not as keyword arguments: Q() gives _connector and _negated a special meaning.
    for condition in filters:
        rows = rows.filter(Q(condition))
    for condition in exclude:
        rows = rows.exclude(Q(condition))
    return rows


def _format_time(found: date | datetime) -> str:
    """Format a date or time for a message: to the second, in the site's time zone."""
    if not isinstance(found, datetime):
        return str(found)
    if timezone.is_aware(found):
        found = timezone.localtime(found)
    return found.isoformat(" ", "seconds")


def _as_datetime(found: date | datetime) -> datetime:
    if not isinstance(found, datetime):
        found = datetime.combine(found, time_of_day())
        return timezone.make_aware(found)
    return found if timezone.is_aware(found) else found.replace(tzinfo=UTC)
