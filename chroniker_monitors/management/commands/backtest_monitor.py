"""``manage.py backtest_monitor NAME``."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace

from django.core.management.base import CommandError, CommandParser

from chroniker.admin import formats
from chroniker.management.base import ChronikerCommand
from chroniker_monitors.backtest import Backtest
from chroniker_monitors.baselines import MIN_FACTOR
from chroniker_monitors.checking.past_samples import Comparison, compare_rules
from chroniker_monitors.enums import Operator
from chroniker_monitors.models import Monitor
from chroniker_monitors.models.probe import MAX_STREAK
from chroniker_monitors.thresholds import Rules, Thresholds


class Unchanged:
    """The stored threshold. Not None, which is no threshold."""


def threshold(text: str) -> float | None:
    """Parse a threshold; None for ``none``."""
    if text.lower() == "none":
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor none")
    return number


def streak(text: str) -> int:
    """Parse a number of samples in a row."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_STREAK:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MAX_STREAK}")
    return int(text)


class Command(ChronikerCommand):
    """Test thresholds on the stored samples of a monitor."""

    help = (
        "Show which incidents other thresholds would have opened for the stored samples of a "
        "monitor, compared with its present thresholds. Nothing is changed."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the arguments."""
        parser.add_argument("name", metavar="NAME", help="name of the monitor")
        parser.add_argument(
            "--operator",
            choices=Operator.values,
            help="how the value is compared (default: stored)",
        )
        for name in ("warning", "critical"):
            parser.add_argument(
                f"--{name}", type=threshold, default=Unchanged(), metavar="NUMBER",
                help=f"{name} threshold, or none (default: stored)",
            )  # fmt: skip
        parser.add_argument(
            "--consecutive", type=streak, metavar="N", help="bad samples in a row (default: stored)"
        )
        parser.add_argument(
            "--recovery", type=streak, metavar="N", help="good samples in a row (default: stored)"
        )

    def handle(
        self,
        *args: object,
        name: str,
        operator: str | None,
        warning: float | Unchanged | None,
        critical: float | Unchanged | None,
        consecutive: int | None,
        recovery: int | None,
        **options: object,
    ) -> None:
        """Compare and print."""
        try:
            monitor = Monitor.objects.select_related("probe").get(name=name)
        except Monitor.DoesNotExist:
            raise CommandError(f"There is no monitor named {name!r}.") from None
        if monitor.probe.passive:
            raise CommandError("A heartbeat has a period and a grace instead of thresholds.")
        stored = monitor.probe.rules
        bounds = stored.thresholds
        tested = replace(
            stored,
            thresholds=Thresholds(
                operator or bounds.operator,
                bounds.warning if isinstance(warning, Unchanged) else warning,
                bounds.critical if isinstance(critical, Unchanged) else critical,
            ),
            consecutive=consecutive or stored.consecutive,
            recovery=recovery or stored.recovery,
        )
        _check_factors(tested.thresholds)
        comparisons = list(compare_rules(monitor, tested))
        if not comparisons:
            raise CommandError(f"{name} has no samples yet.")
        for comparison in comparisons:
            self._print(monitor, comparison, stored, tested)

    def _print(
        self, monitor: Monitor, comparison: Comparison, stored: Rules, tested: Rules
    ) -> None:
        write, now, then = self.stdout.write, comparison.stored, comparison.tested
        begin, end = (
            formats.time_text(at, monitor.timezone) if at else "-" for at in (then.begin, then.end)
        )
        on_host = f" on {comparison.host}" if comparison.host else ""
        write(f"{monitor.name}{on_host}: {then.samples} samples, {begin} to {end}")
        rows = [
            ("", "stored", "tested"),
            ("thresholds", describe_thresholds(stored.thresholds),
             describe_thresholds(tested.thresholds)),
            ("bad, good samples", f"{stored.consecutive}, {stored.recovery}",
             f"{tested.consecutive}, {tested.recovery}"),
            ("incidents", str(len(now.incidents)), str(len(then.incidents))),
            ("critical", str(now.critical), str(then.critical)),
            ("hours bad", hours(now), hours(then)),
        ]  # fmt: skip
        if stored.thresholds.learns or tested.thresholds.learns:
            rows.append(("no verdict", str(now.without_verdict), str(then.without_verdict)))
        for title, *cells in rows:
            write(f"  {title:<18} {cells[0]:<24} {cells[1]}".rstrip())
        for incident in then.incidents:
            assert then.end is not None
            length = formats.duration(incident.length(then.end).total_seconds())
            parts = [
                formats.time_text(incident.opened_at, monitor.timezone),
                f"{incident.worst.name.lower():<8}",
                f"{length}{'' if incident.ended_at else ', still open'}",
                ", ".join(incident.series),
            ]
            write("  " + "  ".join(part for part in parts if part))


def _check_factors(thresholds: Thresholds) -> None:
    """Raise CommandError if a factor of learned thresholds would narrow what is usual."""
    for factor in (thresholds.warning, thresholds.critical):
        if thresholds.learns and factor is not None and factor < MIN_FACTOR:
            raise CommandError(f"{factor:g} is not a factor of at least {MIN_FACTOR:g}.")


def describe_thresholds(thresholds: Thresholds) -> str:
    """Describe thresholds: ``> 80, > 90``."""
    return ", ".join(
        "none" if bound is None else f"{thresholds.operator} {bound:g}"
        for bound in (thresholds.warning, thresholds.critical)
    )


def hours(result: Backtest) -> str:
    """Return the hours that were bad."""
    return f"{result.bad_time.total_seconds() / 3600:.1f}"
