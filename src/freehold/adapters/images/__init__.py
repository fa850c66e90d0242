"""Container images from registries and OCI layouts, unpacked below one directory."""

from freehold.adapters.images.store import ImageLimits, ImageStore

__all__ = ["ImageLimits", "ImageStore"]
