"""A2A agent cards, as clients outside the sandbox must see them."""

from typing import Any

import msgspec

from freehold.kernel.errors import RuntimeClientFailed

Card = dict[str, Any]

CARD_PATH = "/.well-known/agent-card.json"
CARD_BYTES_MAX = 1 << 20
_JSON_RPC = "JSONRPC"


def parsed_card(data: bytes) -> Card:
    if len(data) >= CARD_BYTES_MAX:
        raise RuntimeClientFailed(f"the agent's card is larger than {CARD_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(data, type=Card)
    except msgspec.DecodeError:
        raise RuntimeClientFailed("the agent's card is not a JSON object") from None


def public_card(card: Card, url: str) -> Card:
    """The card with `url` for each JSON-RPC interface of the agent, and no other interface:
    the platform carries no gRPC and no HTTP+JSON. Knows the shapes of A2A 0.3 and 1.0, in one card
    even.

    A signature of the agent's own would not hold any more, and is left out.
    """
    public = {k: v for k, v in card.items() if k not in _ADDRESSES and k != "signatures"}
    interfaces = [
        {**i, "url": url} for i in _interfaces(card, "supportedInterfaces", "protocolBinding")
    ]
    if interfaces:
        public["supportedInterfaces"] = interfaces
    old = "url" in card and str(card.get("preferredTransport", _JSON_RPC)).upper() == _JSON_RPC
    if old or _interfaces(card, "additionalInterfaces", "transport"):
        public |= {"url": url, "preferredTransport": _JSON_RPC}
    if not interfaces and "url" not in public:
        raise RuntimeClientFailed("the agent's card names no JSON-RPC interface")
    return public


_ADDRESSES = frozenset({"url", "preferredTransport", "additionalInterfaces", "supportedInterfaces"})


def _interfaces(card: Card, member: str, binding: str) -> list[Card]:
    listed = card.get(member)
    return [
        interface
        for interface in (listed if isinstance(listed, list) else ())
        if isinstance(interface, dict) and str(interface.get(binding)).upper() == _JSON_RPC
    ]
