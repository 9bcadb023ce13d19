"""The pages of declarations: which jobs are kept in a file or in Python, and what was edited."""

from __future__ import annotations

import json

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from chroniker.models import Declaration

from . import formats
from .base import ReadOnlyAdmin


class DeclarationAdmin(ReadOnlyAdmin[Declaration]):
    """Written by ``chroniker_jobs apply``. Deleting one leaves its job to the admin."""

    belongs_to_job = True
    list_display = ("job_name", "source", "applied")
    list_display_links = ("job_name",)
    list_filter = ("source",)
    search_fields = ("job__name", "source")
    empty_text = gettext_lazy(
        "No declarations. They are written when jobs from a file or from Python are applied with "
        "chroniker_jobs apply."
    )
    fields = ("job_page", "source", "applied", "edited", "declared")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Declaration]:
        """With the jobs."""
        return super().get_queryset(request).select_related("job")

    @admin.display(description=gettext_lazy("job"), ordering="job__name")
    def job_name(self, declaration: Declaration) -> str:
        """The job's name."""
        return declaration.job.name

    @admin.display(description=gettext_lazy("job"))
    def job_page(self, declaration: Declaration) -> str:
        """A link to the job's page."""
        return self.link("chroniker_job_page", declaration.job)

    @admin.display(description=gettext_lazy("applied"), ordering="applied_at")
    def applied(self, declaration: Declaration) -> str:
        """When its values were last written."""
        return formats.time_html(declaration.applied_at)

    @admin.display(description=gettext_lazy("edited since then"))
    def edited(self, declaration: Declaration) -> str:
        """What somebody has changed in the admin, with both values."""
        # Here, because every process with the site's URLs imports this module.
        from chroniker.as_code.plan import edited_fields

        found = edited_fields(declaration)
        if not found:
            return _("nothing")
        rows = ((name, _text(declared), _text(now)) for name, declared, now in found)
        return format_html(
            "<ul>{}</ul>",
            format_html_join("", "<li>{}: <code>{}</code> → <code>{}</code></li>", rows),
        )

    @admin.display(description=gettext_lazy("declared values"))
    def declared(self, declaration: Declaration) -> str:
        """All values."""
        text = json.dumps(declaration.values, indent=2, ensure_ascii=False, sort_keys=True)
        return format_html("<pre>{}</pre>", text)


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
