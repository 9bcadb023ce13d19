"""The lists of all pages: what databases refuse in an address is the reader's mistake."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import BadRequest, ValidationError
from django.db import DataError
from django.db.models import DateTimeField, Model
from django.http import HttpRequest
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_naive, localtime, make_aware


class BaseChangeList(ChangeList):
    """A list that ignores values which no database can look up."""

    def __init__(self, request: HttpRequest, *args: object, **kwargs: object) -> None:
        if any("\0" in value for _name, values in request.GET.lists() for value in values):
            raise IncorrectLookupParameters
        try:
            super().__init__(request, *args, **kwargs)  # type: ignore[arg-type]
        except (OverflowError, DataError) as error:  # a number or a date beyond all limits
            raise IncorrectLookupParameters from error


def check_selected_keys(request: HttpRequest, model: type[Model]) -> None:
    """Raise BadRequest if a selected row cannot exist; Django looks up whatever is posted."""
    for key in request.POST.getlist("_selected_action"):
        if not is_key(model, key):
            raise BadRequest("Not the key of a row.")


def is_key(model: type[Model], text: str) -> bool:
    """Whether a row of the model may have this key."""
    try:
        model._meta.pk.run_validators(model._meta.pk.to_python(text))
    except (ValidationError, ValueError, TypeError, OverflowError):
        return False
    return "\0" not in text


def usable_initial(model: type[Model], initial: dict[str, Any]) -> dict[str, Any]:
    """The values of an add page's query, without keys and times that no row can have.

    Django shows times as texts only in fields that take one, so they are converted.
    """
    usable = dict(initial)
    for field in (*model._meta.fields, *model._meta.many_to_many):
        if field.name not in initial:
            continue
        value, related = initial[field.name], field.related_model
        if isinstance(field, DateTimeField):
            usable[field.name] = _moment(str(value))
        elif related is not None and not isinstance(related, str):
            keys = value if isinstance(value, list) else [value]
            if not all(is_key(related, str(key)) for key in keys):
                del usable[field.name]
    return usable


def _moment(text: str) -> datetime | None:
    try:
        moment = parse_datetime(text)
        if moment is None:
            return None
        return localtime(make_aware(moment) if is_naive(moment) else moment)
    except (ValueError, OverflowError):
        return None
