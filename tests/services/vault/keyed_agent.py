"""An agent that asks for an API key by the SDK's decorator, and shows what it got in a digest."""

import hashlib

from bedrock_agentcore import BedrockAgentCoreApp
from bedrock_agentcore.identity.auth import requires_api_key
from botocore.exceptions import ClientError

app = BedrockAgentCoreApp()


@app.entrypoint
async def invoke(payload):
    @requires_api_key(provider_name=payload["provider"])
    async def use(*, api_key):
        return hashlib.sha256(api_key.encode()).hexdigest()

    try:
        return {"digest": await use()}
    except ClientError as error:
        return {"error": error.response["Error"]["Code"]}


app.run()
