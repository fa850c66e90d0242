"""A developer's script: the same decorators, without any agent around."""

import sys

from bedrock_agentcore.identity.auth import requires_access_token
from calling_agent import call

PROVIDER, RESOURCE, URL, BACK, FLOW = sys.argv[1:]


def show(url: str) -> None:
    print("OPEN", url, flush=True)


@requires_access_token(
    provider_name=PROVIDER,
    scopes=["tools:read"] + ([] if FLOW == "M2M" else ["openid", "offline_access"]),
    resources=[RESOURCE],
    auth_flow=FLOW,
    on_auth_url=show,
    callback_url=BACK or None,
)
def act(*, access_token: str) -> None:
    print("ANSWER", call(URL, access_token), flush=True)


act()
