"""For gunicorn. It also serves static files; on a real site, the web server does that."""

from __future__ import annotations

import os

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bookshop_site.settings")

application = StaticFilesHandler(get_wsgi_application())
