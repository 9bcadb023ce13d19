"""Admin pages that are imported when they are first used.

Every process of a site imports its ``admin`` modules, each tick and each ``migrate`` included; the
pages are needed only where the URLs of the admin are.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.db.models import Model
from django.utils.functional import SimpleLazyObject


def register(model: type[Model], module: str, name: str) -> None:
    """Register the class ``name`` of ``module``; the module is imported at the first use."""

    def create(model: type[Model], site: admin.AdminSite) -> SimpleLazyObject[ModelAdmin[Model]]:
        return SimpleLazyObject(lambda: load(module, name)(model, site))

    # Django only calls what it is given, and keeps what it gets.
    admin.site.register(model, cast("type[ModelAdmin[Model]]", create))


def load(module: str, name: str) -> Any:
    """Return the class ``name`` of ``module``."""
    return getattr(import_module(module), name)
