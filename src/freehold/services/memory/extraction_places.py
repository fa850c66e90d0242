"""What is learned is learned of places: one strategy's view of one session."""

import msgspec

Thread = tuple[str, str]
"""An actor and a session of theirs."""
Said = tuple[str, str, str]
"""An actor, a session of theirs, and an event in it."""


class Place(msgspec.Struct, frozen=True, order=True):
    tenant: str
    memory_id: str
    strategy_id: str
    actor_id: str
    session_id: str


def values(place: Place) -> tuple[str, str, str, str, str]:
    """For statements."""
    return msgspec.structs.astuple(place)
