"""Services described by Smithy's JSON models as tools, and their calls as requests."""

from freehold.adapters.targets.smithy.client import SmithyTargets
from freehold.adapters.targets.smithy.convert import convert

__all__ = ["SmithyTargets", "convert"]
