"""Forms that are saved while ticks write to the same tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django.contrib import admin
from django.db import connection
from django.db.models import Model
from django.http import HttpRequest, HttpResponse

from chroniker.db.transactions import run_transaction
from chroniker.models import JobState

T = TypeVar("T")
M = TypeVar("M", bound=Model)

if TYPE_CHECKING:

    class TypedAdmin(admin.ModelAdmin[M]):
        """Django's, as the type checker knows it."""
else:

    class TypedAdmin(admin.ModelAdmin, Generic[M]):
        """Django's, which takes no type arguments when it runs."""


class PatientAdmin(TypedAdmin[M]):
    """A form whose transaction is repeated where the database asks for that.

    Django reads the row in the transaction in which it then writes it. Where a tick has written
    in between, SQLite says "database is locked" at once, and MariaDB "record has changed".
    """

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Add or change."""
        view = super().changeform_view
        return _patiently(request, lambda: view(request, object_id, form_url, extra_context))

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Delete."""
        view = super().delete_view
        return _patiently(request, lambda: view(request, object_id, extra_context))


def _patiently(request: HttpRequest, view: Callable[[], T]) -> T:
    if request.method != "POST":
        return view()

    def write_first() -> T:
        if connection.vendor == "sqlite":
            # Changes no row, but waits for the write lock, which a transaction that has read
            # may no longer get.
            JobState.objects.filter(pk=0).update(blocked_reason="")
        return view()

    return run_transaction(write_first)
