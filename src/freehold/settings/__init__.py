"""Every setting of the platform: type, default, meaning. The only reader of FREEHOLD_* variables.

Order: a command-line flag, then the environment, then the default. `markdown()` makes
docs/settings.md; a test keeps that page true.
"""

from freehold.settings.checks import TIERS, SettingsError, allowed_tiers, variable
from freehold.settings.environment import (
    default_state,
    environment_of,
    load,
    unknown_variables,
)
from freehold.settings.fields import Settings
from freehold.settings.log import configure_logging
from freehold.settings.page import markdown

__all__ = [
    "TIERS",
    "Settings",
    "SettingsError",
    "allowed_tiers",
    "configure_logging",
    "default_state",
    "environment_of",
    "load",
    "markdown",
    "unknown_variables",
    "variable",
]
