"""An A2A agent's card, as clients of a gateway get it: its addresses lead through the gateway.

With the agent's own they would go around it: past its limits, and without its credentials.
"""

from typing import Any
from urllib.parse import urlsplit

import msgspec

CARD_BYTES_MAX = 1 << 20
CARD_PATH = "/.well-known/agent-card.json"
_PATHS = frozenset({CARD_PATH, "/.well-known/agent.json", "/v1/card"})


def is_card(method: str, rest: str) -> bool:
    return method == "GET" and rest in _PATHS


def through_gateway(raw: bytes, endpoint: str, own: str) -> bytes:
    """`own` is the target's URL at the gateway. What is no card comes back as it is."""
    try:
        card = msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.MsgspecError:
        return raw
    changed = _turned(card, endpoint, own)
    for name in ("supportedInterfaces", "additionalInterfaces"):
        for interface in card.get(name) or ():
            if isinstance(interface, dict):
                changed = _turned(interface, endpoint, own) or changed
    if not changed:
        return raw
    card.pop("signatures", None)  # they were of another card
    return msgspec.json.encode(card)


def of_our_agent(raw: bytes, own: str) -> bytes:
    """Of an agent of this platform, whose card has the platform's address of it and no other."""
    try:
        card = msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.MsgspecError:
        return raw
    interfaces = card.get("supportedInterfaces") or ()
    for holder in (card, *(each for each in interfaces if isinstance(each, dict))):
        if "url" in holder:
            holder["url"] = own + "/"  # clients post to it as it is
    return msgspec.json.encode(card)


def _turned(holder: dict[str, Any], endpoint: str, own: str) -> bool:
    url, base = holder.get("url"), urlsplit(endpoint.partition("?")[0])
    if not isinstance(url, str):
        return False
    try:
        found = urlsplit(url)
    except ValueError:
        return False
    root = base.path.rstrip("/")
    path = found.path or "/"
    inside = path == root or path.startswith(root + "/")
    if (found.scheme, found.netloc) != (base.scheme, base.netloc) or not inside:
        return False
    holder["url"] = own + path[len(root) :] + (f"?{found.query}" if found.query else "")
    return True
