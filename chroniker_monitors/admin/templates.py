"""Render the templates of the admin of monitors."""

from __future__ import annotations

from collections.abc import Mapping

from django.template.loader import render_to_string


def render(template: str, context: Mapping[str, object]) -> str:
    """Render a template of ``chroniker_monitors/admin/`` to escaped HTML."""
    return render_to_string(f"chroniker_monitors/admin/{template}", dict(context))
