"""The edge that a session sees: the platform and its models on one loopback port.

Who calls is the session that the connection belongs to; no header says it.
"""

from freehold.edges.doorway.app import DoorwayEdge
from freehold.edges.doorway.environment import DOORWAY_PORT, PLACEHOLDER_KEY, session_environment
from freehold.edges.doorway.limits import DoorwayLimits
from freehold.edges.doorway.otlp import TelemetrySink

__all__ = [
    "DOORWAY_PORT",
    "PLACEHOLDER_KEY",
    "DoorwayEdge",
    "DoorwayLimits",
    "TelemetrySink",
    "session_environment",
]
