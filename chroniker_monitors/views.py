"""The page that Prometheus scrapes."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from .exposition.response import respond


@csrf_exempt  # it changes nothing, and a POST is told 405 rather than 403
@login_not_required
@transaction.non_atomic_requests  # ATOMIC_REQUESTS would ask the database first
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """All metrics, to those who may have them."""
    return respond(request)
