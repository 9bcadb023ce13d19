"""Updates of an open page: one JSON response with the parts that may have changed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.utils.http import parse_etags

_RELATIVE_TIME = re.compile(r'(<time datetime=\\"[^"\\]*\\">)[^<]*')


def live_response(
    request: HttpRequest,
    fragments: Mapping[str, str],
    *,
    active: bool,
    flags: Mapping[str, bool] | None = None,
) -> HttpResponse:
    """The HTML of each part by its name, or 304 if the client already has it.

    The script writes relative times ("2 minutes ago") itself, so they are not a change.

    Parameters:
        fragments: HTML that Django's templates or ``format_html`` have escaped
        active: whether something is running or due, so that the client should ask again soon
        flags: what the script shows or hides, for example whether a run is running
    """
    content = {"fragments": fragments, "flags": flags or {}, "active": active}
    body = json.dumps(content, cls=DjangoJSONEncoder, ensure_ascii=True, sort_keys=True)
    digest = hashlib.sha256(_RELATIVE_TIME.sub(r"\1", body).encode()).hexdigest()[:32]
    etag = f'"{digest}"'
    response: HttpResponse
    # A proxy that compresses makes the tag weak.
    known = {
        tag.removeprefix("W/") for tag in parse_etags(request.headers.get("If-None-Match", ""))
    }
    if etag in known:
        response = HttpResponseNotModified()
    else:
        response = HttpResponse(body, content_type="application/json")
    response["ETag"] = etag
    response["Cache-Control"] = "private, no-cache"
    return response
