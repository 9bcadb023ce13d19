"""A check of django-health-check, by its dotted path."""

from __future__ import annotations

import dataclasses
import inspect
import json
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar

from django.apps import apps

from chroniker_monitors.conf import conf
from chroniker_monitors.exceptions import ParamsInvalid, ProbeError

from .base import BaseProbe, Reading
from .params import param
from .registry import register_probe
from .time_limit import remaining_seconds

if TYPE_CHECKING:
    from health_check.base import HealthCheck


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class HealthProbe(BaseProbe):
    """A check of django-health-check."""

    kind: ClassVar[str] = "health"
    label: ClassVar[str] = "Health check"
    description: ClassVar[str] = (
        "A django-health-check: 0 if it passes, 1 if it warns, 2 if it fails."
    )
    unit: ClassVar[str] = "severity"
    modules: ClassVar[tuple[str, ...]] = ("health_check.checks",)

    check: str = param(label="Check", help="Such as health_check.checks.Cache.")
    options: str = param(
        "", label="Options", help='As JSON, such as {"alias": "replica"}.', multiline=True
    )

    def clean(self) -> None:
        """Check that the check exists and accepts the options."""
        errors: dict[str, list[str]] = {}
        try:
            cls = _check_class(self.check)
        except ProbeError as error:
            raise ParamsInvalid({"check": [str(error)]}) from error
        try:
            _instance(cls, _options(self.options))
        except ProbeError as error:
            errors["options"] = [str(error)]
        if errors:
            raise ParamsInvalid(errors)

    def run(self) -> Reading:
        """Run the check. The exception that it raises determines the severity."""
        check = _instance(_check_class(self.check), _options(self.options))
        from health_check.exceptions import (
            HealthCheckException,
            ServiceReturnedUnexpectedResult,
            ServiceUnavailable,
            ServiceWarning,
        )

        try:
            _run(check)
        except ServiceWarning as warned:
            return Reading(1, str(warned))
        except (ServiceUnavailable, ServiceReturnedUnexpectedResult) as failed:
            return Reading(2, str(failed))
        except HealthCheckException as error:
            raise ProbeError(f"{self.check} could not be run: {error}") from error
        return Reading(0, "healthy")


def _run(check: HealthCheck) -> None:
    outcome = check.run()
    if inspect.isawaitable(outcome):
        import asyncio

        async def wait() -> None:
            await asyncio.wait_for(outcome, remaining_seconds())

        asyncio.run(wait())


def _check_class(path: str) -> type[HealthCheck]:
    """Return the class of a check, importing only allowed modules. Raises ProbeError."""
    try:
        from health_check.base import HealthCheck
    except ImportError as error:
        raise ProbeError(
            "Health checks need django-health-check 4 or later: pip install 'chroniker[health]'."
        ) from error
    module, _, name = path.rpartition(".")
    homes = {"health_check", *conf.MONITORS_HEALTH_CHECKS}
    homes |= {config.name for config in apps.get_app_configs()}
    if not any(module == home or module.startswith(f"{home}.") for home in homes):
        raise ProbeError(
            f"{path!r:.100} is not in health_check or an installed app. Add its module to "
            "CHRONIKER_MONITORS_HEALTH_CHECKS."
        )
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ProbeError(f"{path!r:.100} cannot be imported: {error}.") from error
    if not (isinstance(found, type) and issubclass(found, HealthCheck)):
        raise ProbeError(f"{path!r:.100} is not a subclass of health_check.base.HealthCheck.")
    return found


def _options(text: str) -> dict[str, object]:
    try:
        options = json.loads(text or "{}")
    except ValueError as error:
        raise ProbeError(f"The options are not JSON: {error}.") from error
    if not isinstance(options, dict):
        raise ProbeError('The options must be a JSON object, such as {"alias": "replica"}.')
    return options


def _instance(cls: type[HealthCheck], options: dict[str, object]) -> HealthCheck:
    known = [field for field in dataclasses.fields(cls) if field.init]
    unknown = options.keys() - {field.name for field in known}
    if unknown:
        names = ", ".join(field.name for field in known) or "none"
        raise ProbeError(f"{cls.__name__} has no option {', '.join(unknown)}. It has: {names}.")
    values = dict(options)
    for field in known:
        given = values.get(field.name)
        if isinstance(field.default, timedelta) and isinstance(given, int | float):
            values[field.name] = timedelta(seconds=given)
    try:
        return cls(**values)
    except Exception as error:
        raise ProbeError(f"{cls.__name__} does not accept these options: {error}") from error
