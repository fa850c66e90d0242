"""An agent that shows the token it was called with, and uses it as the SDK does."""

import json

import boto3
from bedrock_agentcore import BedrockAgentCoreApp
from bedrock_agentcore._utils.identity_propagation import register_identity_wat_propagation
from bedrock_agentcore.identity.auth import requires_wat
from bedrock_agentcore.runtime.context import BedrockAgentCoreContext
from botocore.config import Config
from botocore.exceptions import ClientError

app = BedrockAgentCoreApp()
CONFIG = Config(retries={"total_max_attempts": 1})


def shown():
    return {
        "token": BedrockAgentCoreContext.get_workload_access_token(),
        "callback": BedrockAgentCoreContext.get_oauth2_callback_url(),
    }


@requires_wat()
def by_decorator(*, identity_wat):
    return {"token": identity_wat}


def refused(error):
    return {"error": error.response["Error"]["Code"], "message": str(error)}


def call(payload):
    """Another agent, with the SDK's own header on the call or without it."""
    client = boto3.client("bedrock-agentcore", config=CONFIG)
    if payload.get("hand_on", True):
        register_identity_wat_propagation(client)
    if payload.get("token"):
        BedrockAgentCoreContext.set_workload_access_token(payload["token"])
    try:
        answer = client.invoke_agent_runtime(
            agentRuntimeArn=payload["arn"],
            payload=json.dumps(payload.get("payload", {})).encode(),
            **payload.get("more", {}),
        )
    except ClientError as error:
        return refused(error)
    return json.loads(answer["response"].read())


def grant(payload):
    client = boto3.client("bedrock-agentcore", config=CONFIG)
    try:
        answer = getattr(client, payload["operation"])(**payload["parameters"])
    except ClientError as error:
        return refused(error)
    return {"token": answer["workloadAccessToken"]}


def stream():
    yield shown()
    yield shown()


@app.entrypoint
def invoke(payload, context):
    do = payload.get("do")
    if do == "stream":
        return stream()
    if do == "decorator":
        return by_decorator()
    if do in ("call", "grant"):
        return {"call": call, "grant": grant}[do](payload)
    return {**shown(), "headers": dict(context.request_headers or {})}


@app.websocket
async def talk(websocket, context):
    await websocket.accept()
    await websocket.receive_text()
    await websocket.send_text(json.dumps(dict(websocket.headers)))
    await websocket.close()


if __name__ == "__main__":
    app.run()
