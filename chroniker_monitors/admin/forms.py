"""The forms of monitors: the fields of the job, and one field for each parameter of the probe."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib.admin.widgets import AdminTextareaWidget, AdminTextInputWidget
from django.core.exceptions import ValidationError
from django.db.models import Field
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from chroniker_monitors.baselines import MIN_DAYS, MIN_FACTOR
from chroniker_monitors.enums import COMMAND, Operator
from chroniker_monitors.exceptions import ParamsInvalid, UnknownKind
from chroniker_monitors.models import Monitor, Probe
from chroniker_monitors.probes import ParamField, build_probe, fields, kind_class
from chroniker_monitors.thresholds import Rules, Thresholds

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
    "probe_own_process": "own_process",
}
"""Maps a field of the form to a field of the probe."""
HEARTBEAT_FORM_FIELDS = ("probe_warning", "probe_sample_days")
"""The fields of a heartbeat; the others follow from its period and its grace."""
EVERY_MINUTE = "* * * * *"


def _probe_field(name: str) -> forms.Field:
    model_field = Probe._meta.get_field(name)
    assert isinstance(model_field, Field)
    form_field = model_field.formfield()
    assert form_field is not None
    return form_field


class MonitorForm(MonitorModelForm):
    """The base class of the form of each kind; :func:`form_for` creates the subclass."""

    kind: ClassVar[str] = ""
    passive: ClassVar[bool] = False
    params: ClassVar[tuple[ParamField, ...]] = ()
    redisplay: ClassVar[bool] = False
    """Show the form again, with a measurement, instead of saving it."""
    test_only: ClassVar[bool] = False
    """Validate only the fields of the probe; those of the job may still be empty or invalid."""

    class Meta:
        model = Monitor
        fields: ClassVar[tuple[str, ...]] = ()

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
    def stored_params(self) -> dict[str, object]:
        """The parameters of the stored monitor."""
        return self.instance.probe.parameters if self.instance.pk else {}

    def is_valid(self) -> bool:
        """Whether the form may be saved."""
        return super().is_valid() and not self.redisplay

    def _post_clean(self) -> None:
        if not self.test_only:
            super()._post_clean()  # type: ignore[misc]

    def clean(self) -> dict[str, object]:
        """Validate the parameters and the thresholds."""
        cleaned: dict[str, object] = super().clean() or self.cleaned_data
        self._clean_params()
        self._clean_probe()
        self._clean_factors()
        if self.test_only:
            return cleaned
        if self.passive:
            self._clean_passive(cleaned)
        elif self.thresholds.warning_is_unreachable():
            self.add_error(
                "probe_warning" if "probe_warning" in self.fields else None,
                _("The critical threshold is reached first, so a warning would never occur."),
            )
        return cleaned

    def _clean_probe(self) -> None:
        """Run the validators of the fields of the probe."""
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

    def _clean_factors(self) -> None:
        """Check the factors of learned thresholds, and that enough history is kept to learn."""
        if not self.thresholds.learns:
            return
        for name in ("probe_warning", "probe_critical"):
            factor = self.cleaned_data.get(name)
            if factor is not None and factor < MIN_FACTOR:
                self.add_error(
                    name, _("“Is unusual” needs a factor of at least 1, such as 2 or 4.")
                )
        days = self.cleaned_data.get("probe_sample_days")
        if days is not None and days < MIN_DAYS:
            self.add_error(
                "probe_sample_days",
                _("“Is unusual” needs at least %(days)d days of history.") % {"days": MIN_DAYS},
            )

    def _clean_params(self) -> None:
        if any(name.startswith(PARAM_PREFIX) for name in self.errors):
            return
        for name in self.secrets_to_retype:
            self.add_error(
                PARAM_PREFIX + name,
                _("Enter this again: the stored secret belongs to another host and is not sent to "
                  "this one."),
            )  # fmt: skip
        try:
            build_probe(self.kind, self.probe_params)
        except UnknownKind as error:
            self.add_error(None, str(error))
        except ParamsInvalid as error:
            for name, messages in error.errors.items():
                field = PARAM_PREFIX + name
                for message in messages:
                    self.add_error(field if field in self.fields else None, message)

    def _clean_passive(self, cleaned: dict[str, object]) -> None:
        if not cleaned.get("schedule") and "schedule" not in self.errors:
            self.add_error(
                "schedule",
                _("A heartbeat needs a schedule to detect late pings; try %(cron)s.")
                % {"cron": EVERY_MINUTE},
            )

    @cached_property
    def secrets_to_retype(self) -> list[str]:
        """The stored secrets that were not entered again and must not be sent to the new host."""
        given = {
            param.name: self.cleaned_data.get(PARAM_PREFIX + param.name) for param in self.params
        }
        kept = [
            param.name
            for param in self.params
            if param.secret and not given[param.name] and self.stored_params.get(param.name)
        ]
        trusted = not kept or kind_class(self.kind).may_reuse_secrets(self.stored_params, given)
        return [] if trusted else kept

    @property
    def probe_params(self) -> dict[str, object]:
        """The parameters to store. Empty ones are omitted and get their default."""
        params: dict[str, object] = {}
        for param in self.params:
            value = self.cleaned_data.get(PARAM_PREFIX + param.name)
            if param.secret and not value and param.name not in self.secrets_to_retype:
                value = self.stored_params.get(param.name)
            if value is None or (value == "" and param.default in (None, "")):
                continue
            params[param.name] = value
        return params

    @property
    def rules(self) -> Rules:
        """The thresholds that were entered, and after how many samples they matter."""
        given = self.cleaned_data
        return Rules(self.thresholds, given["probe_consecutive"], given["probe_recovery"])

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds that were entered."""
        given = self.cleaned_data
        return Thresholds(
            given.get("probe_operator") or Operator.ABOVE,
            given.get("probe_warning"),
            given.get("probe_critical"),
        )

    def apply(self, probe: Probe) -> Probe:
        """Copy the entered values to ``probe``."""
        probe.kind, probe.params = self.kind, self.probe_params
        for name, target in PROBE_FORM_FIELDS.items():
            if name in self.cleaned_data:
                setattr(probe, target, self.cleaned_data[name])
        return probe


def form_for(kind: str, *, redisplay: bool = False, test_only: bool = False) -> type[MonitorForm]:
    """Make the form class of a kind. Raises UnknownKind."""
    params = tuple(fields(kind))
    passive = kind_class(kind).passive
    names = HEARTBEAT_FORM_FIELDS if passive else PROBE_FORM_FIELDS
    attributes: dict[str, object] = {
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
    """Make the form field of a parameter."""
    if param.type is bool:
        return _make_field(forms.BooleanField, param, required=False)
    if param.choices is not None:
        empty = [] if param.default not in (None, "") else [("", "---------")]
        return _make_field(forms.ChoiceField, param, choices=[*empty, *param.options()])
    if param.type in (int, float):
        number_field = forms.IntegerField if param.type is int else forms.FloatField
        return _make_field(number_field, param, min_value=param.minimum, max_value=param.maximum)
    if param.secret:
        note = str(gettext_lazy("It is not shown again. Leave empty to keep the stored value."))
        return _make_field(
            forms.CharField,
            param,
            widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
            required=False,
            help_text=" ".join(part for part in (param.help, note) if part),
        )
    if param.multiline:
        return _make_field(forms.CharField, param, widget=AdminTextareaWidget(attrs={"rows": 6}))
    return _make_field(forms.CharField, param, widget=AdminTextInputWidget())


def _make_field(
    field_class: Callable[..., forms.Field], param: ParamField, **options: object
) -> forms.Field:
    defaults = {
        "label": param.label,
        "help_text": param.help,
        "required": param.required,
        "initial": param.default,
    }
    return field_class(**{**defaults, **options})
