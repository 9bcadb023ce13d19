"""Start Django in a new process as the site's own ``manage.py`` does.

Not every site starts with a plain ``django.setup()``: its ``manage.py`` may read a ``.env`` file,
or install the importer of django-configurations. So it is run as it is, up to the point where it
would execute a command. This module needs neither settings nor models.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

SETTINGS_VARIABLE = "DJANGO_SETTINGS_MODULE"
_CONFIGURATION_VARIABLE = "DJANGO_CONFIGURATION"
_MAX_PARENTS = 4
"""How far above the file of the settings ``manage.py`` is looked for."""

_manage = ""


def start_django(manage: str, command: str, *, settings: str = "") -> None:
    """Set Django up, by running ``manage`` if it is the path of a ``manage.py``.

    Parameters:
        manage: the path; "" if there is none
        command: the command that this process is going to run, for a ``manage.py`` that looks
        settings: the settings module to use, whatever ``manage.py`` names
    """
    global _manage
    if settings:
        os.environ[SETTINGS_VARIABLE] = settings
    if manage:
        _manage = manage
        if _run_manage(manage, command, settings):
            return
    _setup()


def find_manage_py() -> str:
    """Return the path of the ``manage.py`` that a new process of this site can start with, or "".

    It is the one that this process was started with, or else the first one in the directories of
    the settings module and above.
    """
    if _manage:
        return _manage
    started_with = os.path.abspath(sys.argv[0]) if sys.argv else ""
    if os.path.basename(started_with) == "manage.py" and os.path.isfile(started_with):
        return started_with
    module = sys.modules.get(os.environ.get(SETTINGS_VARIABLE, ""))
    file = getattr(module, "__file__", None)
    for directory in list(Path(file).resolve().parents)[:_MAX_PARENTS] if file else ():
        if (directory / "manage.py").is_file():
            return str(directory / "manage.py")
    return ""


def _setup() -> None:
    """Set Django up without a ``manage.py``."""
    if os.environ.get(_CONFIGURATION_VARIABLE):
        try:
            import configurations
        except ImportError:
            pass
        else:
            configurations.setup()
            return
    import django

    django.setup()


def _run_manage(manage: str, command: str, settings: str) -> bool:
    """Run a ``manage.py`` until it executes a command; return whether it came that far."""
    from django.core.management import ManagementUtility

    started = False

    def execute(self: ManagementUtility) -> None:
        nonlocal started
        if settings:
            os.environ[SETTINGS_VARIABLE] = settings
        import django

        django.setup()
        started = True

    directory = os.path.dirname(os.path.abspath(manage))
    if directory not in sys.path:
        sys.path.insert(0, directory)
    arguments, original = sys.argv, ManagementUtility.execute
    sys.argv = [manage, command]
    ManagementUtility.execute = execute  # type: ignore[method-assign]
    try:
        runpy.run_path(manage, run_name="__main__")
    except SystemExit:
        if not started:  # otherwise it is the usual sys.exit(main())
            raise
    finally:
        sys.argv = arguments
        ManagementUtility.execute = original  # type: ignore[method-assign]
    return started
