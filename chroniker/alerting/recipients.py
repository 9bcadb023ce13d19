"""Who is notified about a job, and through which channel."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db.models import Q
from django.db.models.query_utils import DeferredAttribute

from chroniker.conf import conf
from chroniker.db.alias import database_alias
from chroniker.logs import log_context
from chroniker.models import Incident, Job

logger = logging.getLogger(__name__)

MAIL = "mail"
"""The name of the mail channel; the name of any other channel is its dotted path."""

_ADDRESS = re.compile(r'[^\s@<>,;:"()\\\[\]]+@[^\s@<>,;:"()\\\[\]]+')
"""Not Django's pattern: the host of an intranet may have no dot in its name."""

APPRISE = "apprise"
"""The name of the Apprise channel. Its recipients are labels: the URLs contain secrets."""

Recipient = tuple[str, str]
"""The name of a channel, and an email address, the label of an Apprise URL or an empty string."""


def incident_recipients(incident: Incident) -> list[Recipient]:
    """Who is notified of an incident, and of those that are folded into it.

    The subscribers of the jobs by email, the Apprise URLs of their teams, and every notifier.
    """
    folded = Incident.objects.open().filter(cause=incident.pk, muted=False).order_by()
    jobs = Job.objects.filter(Q(pk=incident.job_id) | Q(pk__in=folded.values("job")))
    rows = list(jobs.values_list("pk", "team", "email_on_failure"))
    mailed = [pk for pk, _, email_on_failure in rows if email_on_failure]
    mail = [(MAIL, address) for address in subscriber_addresses(mailed)]
    teams = {incident.team, *(team for _, team, _ in rows)}
    apprise = [(APPRISE, label) for label in apprise_urls(teams)]
    return mail + apprise + [(path, "") for path in dict.fromkeys(conf.NOTIFIERS)]


def subscriber_addresses(jobs: Collection[int]) -> list[str]:
    """The email addresses of the subscribers and subscriber groups of jobs, without duplicates.

    For a job without any subscriber: the site's ADMINS, if CHRONIKER_EMAIL_TO_ADMINS is set. Users
    with a digest that replaces individual emails are left out.
    """
    if not jobs:
        return []
    model = get_user_model()
    chosen = Job.objects.filter(pk__in=jobs).order_by()
    subscribed = Q(pk__in=chosen.values("subscribers"))
    if hasattr(model, "groups"):  # a custom user model may have neither groups nor is_active
        subscribed |= Q(groups__in=chosen.values("subscriber_groups"))
    users = model._default_manager.using(database_alias()).filter(subscribed)
    if isinstance(getattr(model, "is_active", None), DeferredAttribute):
        users = users.filter(is_active=True)
    field = model.get_email_field_name()
    found = users.exclude(chroniker_digest__digest_only=True).values_list(field, flat=True)
    known = {address.lower(): address for address in found.distinct() if is_mail_address(address)}
    if conf.EMAIL_TO_ADMINS:
        with_subscribers = Q(subscribers__in=users.values("pk"))
        if hasattr(model, "groups"):
            with_subscribers |= Q(subscriber_groups__in=users.values("groups"))
        if set(jobs).difference(chosen.filter(with_subscribers).values_list("pk", flat=True)):
            known = {address.lower(): address for address in admin_addresses()} | known
    return sorted(known.values())


def apprise_urls(teams: Collection[str]) -> dict[str, str]:
    """The Apprise URLs for all teams and for these ones, by label.

    A label is the scheme and a hash: it can be stored and shown, and names the same URL as long as
    the URL is not changed.
    """
    configured = conf.APPRISE_URLS
    if not isinstance(configured, Mapping):
        configured = {"": configured}
    urls = [url for team in ("", *sorted(teams)) for url in _as_list(configured.get(team, ()))]
    return {apprise_label(url): url for url in urls}


def all_apprise_urls() -> dict[str, str]:
    """Every configured Apprise URL, by label."""
    configured = conf.APPRISE_URLS
    return apprise_urls(list(configured) if isinstance(configured, Mapping) else ())


def apprise_label(url: str) -> str:
    """What names an Apprise URL without its secrets: ``slack 3f2a91bc``."""
    scheme = url.partition("://")[0].lower()[:20]
    return f"{scheme} {sha256(url.encode('utf-8', 'backslashreplace')).hexdigest()[:8]}"


def _as_list(urls: str | Iterable[str]) -> list[str]:
    return [urls] if isinstance(urls, str) else list(urls)


def admin_addresses() -> list[str]:
    """The addresses of settings.ADMINS, which Django accepts as strings and as pairs."""
    entries: list[str | tuple[str, str]] = list(settings.ADMINS)
    found = [entry if isinstance(entry, str) else entry[-1] for entry in entries]
    return [address for address in found if is_mail_address(address)]


def is_mail_address(address: str | None) -> bool:
    """Whether email can be sent to it; anything else must not get into a header."""
    if not address:
        return False
    if _ADDRESS.fullmatch(address) and address.isprintable() and len(address) <= 254:
        return True
    logger.warning(
        "%r is not an email address; nothing is sent to it", address, extra=log_context()
    )
    return False
