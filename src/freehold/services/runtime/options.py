"""`freehold:*` tags of runtimes and endpoints. A row here is all that a new setting needs."""

import re
from collections.abc import Mapping

from freehold.kernel.options import Options, Reader, one_of, whole_number

WARM_MAX = 100
"""Started sandboxes that wait for sessions of one endpoint."""
_SHARE = re.compile(r"([0-9]{1,5}):([0-9]{1,3})")

BEARER_SHELLS = "bearer-shells"
"""Whether users with a bearer token may open shells and run commands in their sessions: there they
see what the agent sees."""


CONTENT_CAPTURE = "content-capture"
"""Whether the texts of its model calls, tool calls and searches are kept in its traces."""


def shares(text: str) -> tuple[tuple[int, int], ...]:
    """Pairs of (version, percent): "3:10", "3:10 4:5"."""
    pairs = [_SHARE.fullmatch(word) for word in text.split()]
    found = tuple((int(pair[1]), int(pair[2])) for pair in pairs if pair)
    total = sum(percent for _, percent in found)
    if len(found) != len(pairs) or not found or total > 100 or 0 in dict(found):
        raise ValueError('VERSION:PERCENT, such as "3:10", of 100 percent at most in all')
    return found


def runtime_options(*, tiers: frozenset[str], bounds: Mapping[str, Reader]) -> Options:
    """`tiers`: those that this platform allows; `bounds`: see SessionBounds."""
    return Options(
        "an agent runtime",
        {
            "tier": one_of(*tiers),
            BEARER_SHELLS: one_of("true", "false"),
            CONTENT_CAPTURE: one_of("on", "off"),
            **bounds,
        },
    )


def endpoint_options() -> Options:
    return Options("an endpoint", {"split": shares, "warm": whole_number(0, WARM_MAX)})
