"""Tests that need ``django.tasks``: Django 6, or the backport."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from chroniker.site_tasks import has_library

TASKS = "tests.testapp.tasks"
needs_tasks = pytest.mark.skipif(not has_library(), reason="neither Django 6 nor django-tasks")
needs_stored_results = pytest.mark.skipif(
    not (has_library() and find_spec("django_tasks_db")), reason="django-tasks-db is not installed"
)
