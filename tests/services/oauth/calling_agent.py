"""An agent that calls a protected API with the SDK's decorators, for itself or for its user."""

import asyncio
import contextvars
import threading
import urllib.error
import urllib.request

from bedrock_agentcore import BedrockAgentCoreApp
from bedrock_agentcore.identity.auth import requires_access_token

app = BedrockAgentCoreApp()
under_way = {}


def call(url, token):
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        return urllib.request.urlopen(request, timeout=20).read().decode()
    except urllib.error.HTTPError as error:
        return f"{error.code}"


def of_its_own(payload):
    @requires_access_token(
        provider_name=payload["provider"],
        scopes=["tools:read"],
        resources=[payload["resource"]],
        auth_flow="M2M",
    )
    def act(*, access_token):
        return call(payload["url"], access_token)

    return {"answer": act()}


def begin(payload):
    """Answers with the address for the user; the token is waited for meanwhile."""
    shown = threading.Event()

    def show(url):
        under_way["url"] = url
        shown.set()

    @requires_access_token(
        provider_name=payload["provider"],
        scopes=["openid", "offline_access", "tools:read"],
        resources=[payload["resource"]],
        auth_flow="USER_FEDERATION",
        on_auth_url=show,
        callback_url=payload["back"],
    )
    async def act(*, access_token):
        return call(payload["url"], access_token)

    def run():
        try:
            under_way["answer"] = asyncio.run(act())
        except Exception as error:  # noqa: BLE001 - the test is told
            under_way["answer"] = repr(error)
        shown.set()

    context = contextvars.copy_context()
    under_way["thread"] = threading.Thread(target=context.run, args=(run,))
    under_way["thread"].start()
    shown.wait(30)
    return {"url": under_way.get("url"), "answer": under_way.get("answer")}


def end(payload):
    under_way["thread"].join(40)
    return {"answer": under_way.get("answer")}


@app.entrypoint
def invoke(payload):
    return {"machine": of_its_own, "begin": begin, "end": end}[payload["do"]](payload)


if __name__ == "__main__":
    app.run()
