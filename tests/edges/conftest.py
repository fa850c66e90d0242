"""The edges' tests share what makes requests from the models, and a second tenant."""

import sys
from pathlib import Path

import pytest
from tenant_tables.table import STRANGER

from running import RunningPlatform

sys.path.append(str(Path(__file__).parent / "aws"))


@pytest.fixture(scope="module")
def stranger(platform: RunningPlatform) -> RunningPlatform:
    """The same platform as a second tenant's admin sees it."""
    return platform.as_tenant(STRANGER)
