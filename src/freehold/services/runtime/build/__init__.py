"""Builds: a code bundle or an image becomes directories that sandboxes start from."""

from freehold.services.runtime.build.builder import Builder
from freehold.services.runtime.build.images import ImageBuilder
from freehold.services.runtime.build.index import PackageIndex, operator_index
from freehold.services.runtime.build.model import (
    BuildFailed,
    BuildLimits,
    BuildRequest,
    BuildResult,
)

__all__ = [
    "BuildFailed",
    "BuildLimits",
    "BuildRequest",
    "BuildResult",
    "Builder",
    "ImageBuilder",
    "PackageIndex",
    "operator_index",
]
