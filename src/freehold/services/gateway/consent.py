"""How a client learns that a person has to agree at a provider before a tool can be called.

MCP's URL elicitation: an `input_required` result in the stateless era (2026-07-28), the error
-32042 in the era with sessions (2025-11-25), and words for clients that declare neither.
"""

from typing import Literal

from freehold.ports.targets import Json, RpcRefused
from freehold.services.gateway.ports import ConsentNeeded

URL_ELICITATION_REQUIRED = -32042
_KEY = "consent"


def consent_result(
    era: Literal["legacy", "modern"], capabilities: Json, target: str, needed: ConsentNeeded
) -> Json:
    """The result of the tools/call. Raises RpcRefused in the era whose way that is.

    There is no `requestState`: whether the person agreed is found out by the gateway itself when
    the call is made again, and nothing that a client sends back is trusted for it.
    """
    message = (
        f"{target} is used with an account of yours: open the page, sign in and agree. "
        "Then the call works."
    )
    elicitation = capabilities.get("elicitation")
    if not isinstance(elicitation, dict) or "url" not in elicitation:
        text = (
            f"Not called yet: {target} needs the user's consent. Ask the user to open "
            f"{needed.url} in their browser, to sign in and to agree; then call the tool again."
        )
        return {"content": [{"type": "text", "text": text}], "isError": True}
    asked = {"mode": "url", "message": message, "url": needed.url}
    if era == "modern":
        return {
            "resultType": "input_required",
            "inputRequests": {_KEY: {"method": "elicitation/create", "params": asked}},
        }
    raise RpcRefused(
        URL_ELICITATION_REQUIRED,
        "This request needs the user's consent first.",
        {"elicitations": [{**asked, "elicitationId": needed.session}]},
    )
