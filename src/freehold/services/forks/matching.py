"""Which call of the record a call of the fork is. Pure.

A lane holds the calls of one kind and name, in their order. The same request comes first; until the
step has come, another request takes the place of the lane's next one, since agents seldom ask twice
in the same words. From the step on only the very same request is still answered from the record: a
call that was made beside the step, and began before it.
"""

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from freehold.services.forks.model import CallRow


class Found(NamedTuple):
    """`call` is the one of the record. "unknown": it is none of it, and may not be made."""

    what: Literal["recorded", "step", "live", "unknown"]
    call: CallRow | None = None
    differs: bool = False


def find(lane: Sequence[CallRow], digests: Collection[str], *, reached: bool) -> Found:
    """`lane` by position; `reached`: the step has come."""
    unused = [call for call in lane if not call.taken]
    call = next((each for each in unused if each.digest in digests), None)
    differs = False
    if call is None and not reached:
        # What came after the step was never asked before it: it takes nobody's place.
        call = next((each for each in unused if each.place != "after"), None)
        differs = True
    if call is None:
        return Found("live" if reached else "unknown")
    if call.place == "before":
        return Found("recorded", call, differs)
    return Found("step" if call.place == "step" else "live", call)
