"""What the doctor examines of metrics, alert rules and dashboards."""

from __future__ import annotations

from collections.abc import Iterator

from django.http import HttpRequest
from django.test import RequestFactory
from django.urls import NoReverseMatch, Resolver404, resolve, reverse

from chroniker.doctor.findings import Area, Finding, Level
from chroniker.doctor.registry import Installation, Needs, examination
from chroniker_monitors.conf import conf
from chroniker_monitors.export import ExportFolder, ExportRefusedError, Problem, render_files
from chroniker_monitors.views import metrics


@examination(Area.METRICS)
def examine_urls(installation: Installation) -> Iterator[Finding]:
    """Check that the site serves the page of metrics."""
    try:
        path = reverse("chroniker_monitors:metrics")
    except NoReverseMatch:
        yield Finding(
            Area.METRICS,
            "metrics.no-url",
            Level.WARNING,
            "The site does not serve /metrics.",
            'Add path("", include("chroniker_monitors.urls")) to the root URLconf, or run '
            "`python manage.py serve_metrics`.",
        )
        return
    try:
        hidden = resolve(path).func is not metrics
    except Resolver404:
        hidden = True
    if hidden:
        yield Finding(
            Area.METRICS,
            "metrics.hidden",
            Level.ERROR,
            f"Another URL pattern of the site answers {path}.",
            "Move the include of chroniker_monitors.urls above that pattern.",
        )


@examination(Area.METRICS)
def examine_access(installation: Installation) -> Iterator[Finding]:
    """Say who may read the metrics."""
    if conf.METRICS_TOKEN:
        who = "whoever sends the token of CHRONIKER_METRICS_TOKEN"
    elif conf.METRICS_ALLOWED_NETWORKS:
        networks = sorted(map(str, conf.METRICS_ALLOWED_NETWORKS))
        open_to_all = {"0.0.0.0/0", "::/0"} & set(networks)
        if open_to_all:
            yield Finding(
                Area.METRICS,
                "metrics.public",
                Level.WARNING,
                "Everybody who reaches the site can read the metrics "
                f"(CHRONIKER_METRICS_ALLOWED_NETWORKS contains {', '.join(sorted(open_to_all))}).",
                "Set CHRONIKER_METRICS_TOKEN, or name the network of Prometheus.",
            )
            return
        who = f"loopback and {', '.join(networks)}"
    else:
        who = "loopback only (for others, set CHRONIKER_METRICS_TOKEN)"
    yield Finding(Area.METRICS, "metrics.access", Level.OK, f"Who may read the metrics: {who}.")


@examination(Area.METRICS, Needs.TABLES)
def examine_page(installation: Installation) -> Iterator[Finding]:
    """Render the page as a scrape would."""
    response = metrics(_scrape())
    text = response.content.decode()
    if response.status_code == 200 and "\nchroniker_collector_up 1" in text:
        series = sum(line.startswith("chroniker_") for line in text.splitlines())
        yield Finding(Area.METRICS, "metrics", Level.OK, f"A scrape gives {series} series.")
        return
    yield Finding(
        Area.METRICS,
        "metrics.broken",
        Level.ERROR,
        f"A scrape is answered with {response.status_code}"
        + ("." if response.status_code != 200 else ", but chroniker_collector_up is not 1."),
        "The log of the site has the reason. CHRONIKER_METRICS_TIMEOUT_SECONDS limits its queries.",
    )


def _scrape() -> HttpRequest:
    headers = {"Authorization": f"Bearer {conf.METRICS_TOKEN}"} if conf.METRICS_TOKEN else {}
    return RequestFactory(headers=headers).get("/metrics", REMOTE_ADDR="127.0.0.1")


@examination(Area.RULES)
def examine_exports(installation: Installation) -> Iterator[Finding]:
    """Compare exported rules and dashboards with those of this version."""
    for path in installation.monitoring_folders:
        try:
            folder = ExportFolder(path)
            files = render_files(folder.options)
            found = folder.findings(files, folder.options.parts)
        except ExportRefusedError as error:
            yield Finding(
                Area.RULES,
                "rules.unreadable",
                Level.ERROR,
                str(error),
                f"Run `python manage.py export_monitoring {path} --force`.",
            )
            continue
        if not folder.written:
            yield Finding(
                Area.RULES,
                "rules.missing",
                Level.ERROR,
                f"{path} contains nothing that export_monitoring has written.",
                f"Run `python manage.py export_monitoring {path}`.",
            )
            continue
        old = [f.name for f in found if set(f.problems) != {Problem.EDITED}]
        edited = [f.name for f in found if set(f.problems) == {Problem.EDITED}]
        if old:
            yield Finding(
                Area.RULES,
                "rules.outdated",
                Level.WARNING,
                f"Files in {path} that are not those of this version: {', '.join(old)}.",
                f"Run `python manage.py export_monitoring {path}`, and reload Prometheus.",
            )
        else:
            note = f" Edited by somebody: {', '.join(edited)}." if edited else ""
            yield Finding(
                Area.RULES, "rules", Level.OK, f"The files in {path} are up to date.{note}"
            )
