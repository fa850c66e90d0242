"""A layer with what `opentelemetry-instrument` consists of, small enough to watch its order.

Its instrumentor does what that of Starlette does: it puts a class of its own into a module, which
works only for modules that are imported afterwards. Its configurator starts a thread. The real
packages run in tests/frameworks.
"""

from pathlib import Path

_INITIALIZE = """
from importlib.metadata import entry_points
from opentelemetry.instrumentation.auto_instrumentation import _load

def initialize():
    distro = _load._load_distro()
    distro.configure()
    _load._load_configurators()
    _load._load_instrumentors(distro)
"""
_LOAD = """
import atexit, os, sys, threading

class Distro:
    def configure(self):
        print("distro in", os.getpid())
        os.environ.setdefault("OF_THE_DISTRO", "set")

def _load_distro():
    return Distro()

def _load_instrumentors(distro):
    print("instrumentors in", os.getpid(), "before", "dependency" not in sys.modules)
    os.environ.get("OTEL_SERVICE_NAME"), os.environ.get("OTEL_RESOURCE_ATTRIBUTES")
    import library
    class Instrumented(library.Server):
        traced = True
    library.Server = Instrumented

def _load_configurators():
    print("configurator in", os.getpid(), os.environ.get("OTEL_SERVICE_NAME"))
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    atexit.register(print, "flushed", flush=True)
"""
_ENTRY_POINTS = """
[opentelemetry_configurator]
configurator = opentelemetry.instrumentation.auto_instrumentation:_load
[opentelemetry_traces_exporter]
otlp_proto_http = opentelemetry.instrumentation.auto_instrumentation:_load
"""
_LIBRARY = "class Server:\n    traced = False\n"

DEPENDENCY = "from library import Server\nclass App(Server): pass\n"
"""As agents' servers do it: made of a class that an instrumentor replaces."""

ENTRY = ("opentelemetry-instrument", "main.py")


def fill(layer: Path) -> None:
    """`dependency` comes from the test."""
    package = layer / "opentelemetry" / "instrumentation" / "auto_instrumentation"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(_INITIALIZE)
    (package / "_load.py").write_text(_LOAD)
    metadata = layer / "stand_in-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stand-in\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(_ENTRY_POINTS)
    (layer / "library.py").write_text(_LIBRARY)
