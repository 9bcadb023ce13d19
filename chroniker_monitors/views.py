"""The page that Prometheus scrapes, and the addresses that outside jobs ping."""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils.timezone import now as utc_now
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from chroniker.db.alias import non_atomic_requests

from . import badges
from .checking.pings import MAX_BODY_BYTES, Ping, PingEvent, PingResult, record_ping
from .exposition.response import respond
from .models import Badge


@csrf_exempt  # it changes nothing; a POST gets 405 instead of 403
@login_not_required
@non_atomic_requests  # ATOMIC_REQUESTS would query the database first
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Serve all metrics to clients that may read them."""
    return respond(request)


@csrf_exempt  # the address is the credential, and curl in a crontab has no cookie
@login_not_required
@non_atomic_requests  # a ping has its own transaction, which is retried
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def ping(
    request: HttpRequest,
    address: UUID,
    event: PingEvent = PingEvent.SUCCESS,
    exit_code: int | None = None,
) -> HttpResponse:
    """Record a ping: success, or ``start``, ``fail`` or an exit code at the end of the address."""
    if exit_code is not None and exit_code > 255:
        raise Http404
    result = record_ping(
        address,
        Ping(
            event=event,
            exit_code=exit_code,
            body=_body(request) if request.method == "POST" else b"",
        ),
        now=utc_now(),
    )
    match result:
        case PingResult.NOT_FOUND:
            raise Http404
        case PingResult.RATE_LIMITED:
            return _text_response("too many pings", status=429)
        case PingResult.RECORDED:
            return _text_response("ok")


@login_not_required
@non_atomic_requests
@require_safe
def badge(request: HttpRequest, address: UUID, form: str) -> HttpResponse:
    """Show the state of one job or monitor. The address is the credential, and can be revoked."""
    found = Badge.objects.select_related("job").filter(address=address).first()
    if found is None:
        raise Http404
    rendered = badges.render(found.job)
    response: HttpResponse
    if form == "json":
        response = JsonResponse(rendered.as_dict())
    else:
        response = HttpResponse(rendered.as_svg(), content_type="image/svg+xml; charset=utf-8")
        response["Content-Security-Policy"] = "default-src 'none'"
    response["Cache-Control"] = "max-age=60"
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _body(request: HttpRequest) -> bytes:
    """Read the start of the body. A body of a gigabyte is never held in memory."""
    try:
        return bytes(request.read(MAX_BODY_BYTES))
    except OSError:  # the connection broke; the ping itself still counts
        return b""


def _text_response(text: str, status: int = 200) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
