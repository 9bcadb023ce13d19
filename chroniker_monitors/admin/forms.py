"""The form of a monitor: its job's fields, and those of its probe instead of raw JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib.admin.widgets import AdminTextareaWidget, AdminTextInputWidget
from django.core.exceptions import ValidationError
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from chroniker_monitors.enums import COMMAND, Operator
from chroniker_monitors.exceptions import ParamsInvalid, UnknownKind
from chroniker_monitors.models import Monitor, Probe
from chroniker_monitors.probes import ParamField, build, fields, kind_class
from chroniker_monitors.thresholds import Thresholds

if TYPE_CHECKING:
    MonitorModelForm = forms.ModelForm[Monitor]
else:
    MonitorModelForm = forms.ModelForm

PARAM_PREFIX = "param_"
PROBE_FORM_FIELDS = {
    "probe_operator": "operator",
    "probe_warning": "warning",
    "probe_critical": "critical",
    "probe_unit": "unit",
    "probe_consecutive": "consecutive",
    "probe_recovery": "recovery",
    "probe_timeout": "timeout_seconds",
    "probe_sample_days": "sample_days",
}
"""Field of the form: field of the probe."""
HEARTBEAT_FORM_FIELDS = ("probe_warning", "probe_sample_days")
"""Those that a heartbeat has; the rest follows from its period and its grace."""
EVERY_MINUTE = "* * * * *"


def _probe_field(name: str) -> Any:
    field: Any = Probe._meta.get_field(name)
    return field.formfield()


class MonitorForm(MonitorModelForm):
    """Subclassed for each kind by :func:`form_for`."""

    kind: ClassVar[str] = ""
    passive: ClassVar[bool] = False
    params: ClassVar[tuple[ParamField, ...]] = ()
    redisplay: ClassVar[bool] = False
    """It is not to be saved, but shown again as it is, with what it measured."""
    test_only: ClassVar[bool] = False
    """Only the probe's fields matter; the job's may still be empty or wrong."""

    class Meta:
        model = Monitor
        fields: ClassVar[Any] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance.command = COMMAND
        if self.instance.pk is None:
            self.initial.setdefault("schedule", EVERY_MINUTE)
            return
        probe = self.instance.probe
        for name, source in PROBE_FORM_FIELDS.items():
            self.initial.setdefault(name, getattr(probe, source))
        for param in self.params:
            if param.name in probe.parameters and not param.secret:
                self.initial[PARAM_PREFIX + param.name] = probe.parameters[param.name]

    @cached_property
    def stored_params(self) -> dict[str, Any]:
        """Those of the monitor as it is stored."""
        return self.instance.probe.parameters if self.instance.pk else {}

    def is_valid(self) -> bool:
        """Never where it is to be shown again."""
        return super().is_valid() and not self.redisplay

    def _post_clean(self) -> None:
        if not self.test_only:
            super()._post_clean()  # type: ignore[misc]

    def clean(self) -> dict[str, Any]:
        """Let the kind look at its parameters, and thresholds be in order."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        self._clean_params()
        self._clean_probe()
        if self.test_only:
            return cleaned
        if self.passive:
            self._clean_passive(cleaned)
        elif self.thresholds.warning_is_unreachable():
            self.add_error(
                "probe_warning" if "probe_warning" in self.fields else None,
                _("This is beyond the critical threshold, so that it would never be a warning."),
            )
        return cleaned

    def _clean_probe(self) -> None:
        """The validators of its columns."""
        names = {
            target: name for name, target in PROBE_FORM_FIELDS.items() if name in self.cleaned_data
        }
        others = [f.name for f in Probe._meta.concrete_fields if f.name not in names]
        probe = Probe(**{target: self.cleaned_data[name] for target, name in names.items()})
        try:
            probe.clean_fields(exclude=others)
        except ValidationError as error:
            for target, messages in error.error_dict.items():
                self.add_error(names[target], messages)

    def _clean_params(self) -> None:
        if any(name.startswith(PARAM_PREFIX) for name in self.errors):
            return
        for name in self.secrets_to_retype:
            self.add_error(
                PARAM_PREFIX + name,
                _("What is stored was meant for another host and is not sent to this one; type it "
                  "again."),
            )  # fmt: skip
        try:
            build(self.kind, self.probe_params)
        except UnknownKind as error:
            self.add_error(None, str(error))
        except ParamsInvalid as error:
            for name, messages in error.errors.items():
                field = PARAM_PREFIX + name
                for message in messages:
                    self.add_error(field if field in self.fields else None, message)

    def _clean_passive(self, cleaned: dict[str, Any]) -> None:
        if not cleaned.get("schedule") and "schedule" not in self.errors:
            self.add_error(
                "schedule",
                _("Without a schedule nobody would notice that a ping is late; try %(cron)s.")
                % {"cron": EVERY_MINUTE},
            )

    @cached_property
    def secrets_to_retype(self) -> list[str]:
        """Parameters that are stored, were not typed again, and must not go to the new place."""
        given = {
            param.name: self.cleaned_data.get(PARAM_PREFIX + param.name) for param in self.params
        }
        kept = [p.name for p in self.params if p.secret and not given[p.name]]
        kept = [name for name in kept if self.stored_params.get(name)]
        trusted = not kept or kind_class(self.kind).may_reuse_secrets(self.stored_params, given)
        return [] if trusted else kept

    @property
    def probe_params(self) -> dict[str, Any]:
        """The parameters as they are stored: what was left empty has its default."""
        params: dict[str, Any] = {}
        for param in self.params:
            value = self.cleaned_data.get(PARAM_PREFIX + param.name)
            if param.secret and not value and param.name not in self.secrets_to_retype:
                value = self.stored_params.get(param.name)
            if value is None or (value == "" and param.default in (None, "")):
                continue
            params[param.name] = value
        return params

    @property
    def thresholds(self) -> Thresholds:
        """What a value is held against, by what was typed."""
        given = self.cleaned_data
        return Thresholds(
            given.get("probe_operator") or Operator.ABOVE,
            given.get("probe_warning"),
            given.get("probe_critical"),
        )

    def apply(self, probe: Probe) -> Probe:
        """Write what was typed into ``probe``."""
        probe.kind, probe.params = self.kind, self.probe_params
        for name, target in PROBE_FORM_FIELDS.items():
            if name in self.cleaned_data:
                setattr(probe, target, self.cleaned_data[name])
        return probe


def form_for(kind: str, *, redisplay: bool = False, test_only: bool = False) -> type[MonitorForm]:
    """The form of one kind. Raises UnknownKind."""
    params = tuple(fields(kind))
    passive = kind_class(kind).passive
    names = HEARTBEAT_FORM_FIELDS if passive else PROBE_FORM_FIELDS
    attributes: dict[str, Any] = {
        "__module__": __name__,
        "kind": kind,
        "params": params,
        "passive": passive,
        "redisplay": redisplay,
        "test_only": test_only,
        **{name: _probe_field(PROBE_FORM_FIELDS[name]) for name in names},
        **{PARAM_PREFIX + param.name: param_field(param) for param in params},
    }
    return type("MonitorForm", (MonitorForm,), attributes)


def param_field(param: ParamField) -> forms.Field:
    """The form field of a parameter."""
    shared: dict[str, Any] = {
        "label": param.label,
        "help_text": param.help,
        "required": param.required,
        "initial": param.default,
    }
    if param.type is bool:
        return forms.BooleanField(**{**shared, "required": False})
    if param.choices is not None:
        options = list(param.options())
        empty = [] if param.default not in (None, "") else [("", "---------")]
        return forms.ChoiceField(choices=[*empty, *options], **shared)
    if param.type in (int, float):
        field: Any = forms.IntegerField if param.type is int else forms.FloatField
        number: forms.Field = field(min_value=param.minimum, max_value=param.maximum, **shared)
        return number
    if param.secret:
        return forms.CharField(
            widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
            **{
                **shared,
                "required": False,
                "help_text": " ".join(
                    part
                    for part in (
                        param.help,
                        str(gettext_lazy("Never shown again. Empty: it stays as it is.")),
                    )
                    if part
                ),
            },
        )
    widget: Any = (
        AdminTextareaWidget(attrs={"rows": 6}) if param.multiline else (AdminTextInputWidget())
    )
    return forms.CharField(widget=widget, **shared)
