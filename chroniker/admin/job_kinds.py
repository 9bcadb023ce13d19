"""Kinds of jobs that other apps define as proxies of ``Job``, with a form of their own."""

from __future__ import annotations

from collections.abc import Iterable

from django.apps import apps
from django.db.models import Exists, OuterRef
from django.http import HttpRequest
from django.utils.text import capfirst

from chroniker.models import Job

from .base import BaseAdmin

_KIND = "_chroniker_kind"
_BATCH = 500
"""Jobs in one statement: SQLite limits the number of variables."""


def kinds() -> list[type[Job]]:
    """The proxies with a form of their own."""
    return [m for m in apps.get_models() if issubclass(m, Job) and m.has_own_form]


def kind_annotations() -> dict[str, Exists]:
    """Annotations of jobs with which ``kind_of`` needs no query."""
    return {
        _annotation(model): Exists(model._default_manager.filter(pk=OuterRef("pk")))
        for model in kinds()
    }


def load_kinds(jobs: Iterable[Job]) -> None:
    """Remember of which kind each job is: few queries for many jobs."""
    unknown = {job.pk: job for job in jobs if not hasattr(job, _KIND)}
    for job in unknown.values():
        setattr(job, _KIND, type(job) if type(job).has_own_form else None)
    for model in kinds():
        keys = []
        for pk, job in unknown.items():
            known = getattr(job, _annotation(model), None)
            if known:
                setattr(job, _KIND, model)
            elif known is None and getattr(job, _KIND) is None:
                keys.append(pk)
        for start in range(0, len(keys), _BATCH):
            found = model._default_manager.filter(pk__in=keys[start : start + _BATCH])
            for pk in found.values_list("pk", flat=True):
                setattr(unknown[pk], _KIND, model)


def _annotation(model: type[Job]) -> str:
    return f"is_{model._meta.label_lower.replace('.', '_')}"


def kind_of(job: Job) -> type[Job] | None:
    """The model whose form defines the job, or None if that is the form of jobs."""
    load_kinds([job])
    kind: type[Job] | None = getattr(job, _KIND)
    return kind


def own_form(admin: BaseAdmin[Job], request: HttpRequest, job: Job) -> tuple[str, str] | None:
    """The address and the name of a job's own form, if it has one that the user may see."""
    kind, site = kind_of(job), admin.admin_site
    if kind in (None, admin.model) or not site.is_registered(kind):
        return None
    owner = site.get_model_admin(kind)
    row = kind._default_manager.filter(pk=job.pk).first()
    if not isinstance(owner, BaseAdmin) or not owner.has_view_or_change_permission(request, row):
        return None
    label = capfirst(str(kind._meta.verbose_name))
    return owner.admin_url(owner.view_name("change"), job.pk), label
