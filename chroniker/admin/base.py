"""Base classes of the admin pages: retried transactions, links, read-only pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import F, Model
from django.db.models.expressions import BaseExpression
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html

from chroniker.db.alias import database
from chroniker.db.transactions import run_transaction
from chroniker.models import JobState

from . import formats
from .change_list import BaseChangeList, check_selected_keys, usable_initial
from .site_links import may_view_model

T = TypeVar("T")
M = TypeVar("M", bound=Model)

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

    class TypedAdmin(admin.ModelAdmin[M]):
        """``ModelAdmin`` as the type checker sees it."""
else:

    class TypedAdmin(admin.ModelAdmin, Generic[M]):
        """``ModelAdmin``, which takes no type arguments at run time."""


class BaseAdmin(TypedAdmin[M]):
    """An admin whose form and delete transactions are retried on transient database errors.

    Django reads a row and writes it in the same transaction. If a tick writes the row in between,
    SQLite fails at once with "database is locked", and MariaDB with "record has changed".
    """

    empty_text: _StrOrPromise = ""
    """What an empty list says: what will be there, and what to do."""
    belongs_to_job = False
    """Rows are deleted with their job, by whoever may delete the job."""
    show_facets = admin.ShowFacets.NEVER
    """Counting the rows of each filter would take seconds where there are many."""
    change_list_template = "chroniker/admin/change_list.html"
    change_form_template = "chroniker/admin/change_form.html"
    delete_confirmation_template = "chroniker/admin/delete_confirmation.html"
    delete_selected_confirmation_template = "chroniker/admin/delete_selected_confirmation.html"
    object_history_template = "chroniker/admin/object_history.html"

    class Media:
        css: ClassVar[dict[str, list[str]]] = {
            "all": ["chroniker/admin.css", "chroniker/pages.css"]
        }

    def get_changelist(self, request: HttpRequest, **kwargs: object) -> type[ChangeList]:
        """The list that refuses what no database can look up."""
        return BaseChangeList

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        """Show the list, or execute an action on rows that may exist."""
        check_selected_keys(request, self.model)
        return super().changelist_view(request, extra_context)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """The values in the query of the add page, without what no row can have."""
        return usable_initial(self.model, super().get_changeform_initial_data(request))

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, object] | None = None,
    ) -> HttpResponse:
        """Show or save the add or change form."""
        view = super().changeform_view
        return _with_retries(request, lambda: view(request, object_id, form_url, extra_context))

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        """Show or execute the deletion."""
        view = super().delete_view
        return _with_retries(request, lambda: view(request, object_id, extra_context))

    def get_visible(self, request: HttpRequest, pk: int, **annotations: BaseExpression | F) -> M:
        """The row ``pk``. Raises PermissionDenied if the user may not view it, else Http404."""
        row: M | None = self.get_queryset(request).annotate(**annotations).filter(pk=pk).first()
        if not self.has_view_or_change_permission(request, row):
            raise PermissionDenied
        if row is None:
            raise Http404
        return row

    def may_view(self, request: HttpRequest, model: str) -> bool:
        """Whether the user may open the pages of another model, for example ``run``."""
        return may_view_model(self.admin_site, request, model)

    def view_name(self, view: str) -> str:
        """The URL name of a view of this admin, for example ``chroniker_job_change``."""
        return f"{self.opts.app_label}_{self.opts.model_name}_{view}"

    def admin_url(self, name: str, *args: int) -> str:
        """The URL of a view of this admin site, for example of ``chroniker_run_change``."""
        return reverse(f"admin:{name}", args=args, current_app=self.admin_site.name)

    def link(self, name: str, row: Model | None) -> str:
        """A link to the view ``name`` of ``row``, without a view only its name.

        A dash if there is no row.
        """
        if row is None:
            return formats.EMPTY
        if not name:
            return str(row)
        return format_html('<a href="{}">{}</a>', self.admin_url(name, row.pk), row)


class ReadOnlyAdmin(BaseAdmin[M]):
    """Rows that only the scheduler writes; people change them only with actions."""

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """These rows cannot be added by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        """These rows cannot be edited in a form."""
        return False

    def may_act(self, request: HttpRequest) -> bool:
        """Whether the user has the model's change permission, which the actions need."""
        return request.user.has_perm(f"chroniker.change_{self.opts.model_name}")


def _with_retries(request: HttpRequest, view: Callable[[], T]) -> T:
    if request.method != "POST":
        return view()

    def write_first() -> T:
        if database().vendor == "sqlite":
            # Changes no row, but waits for the write lock. A transaction that reads first may
            # not be able to get the lock later.
            JobState.objects.filter(pk=0).update(last_error="")
        return view()

    return run_transaction(write_first)
