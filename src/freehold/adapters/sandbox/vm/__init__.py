"""Virtual machines: a kernel of its own for each sandbox."""

from freehold.adapters.sandbox.vm.driver import VmDriver
from freehold.adapters.sandbox.vm.template import VmTemplate

__all__ = ["VmDriver", "VmTemplate"]
