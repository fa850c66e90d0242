"""A BedrockAgentCoreApp with a WebSocket: it does what a message's first word says."""

import json
import os

from bedrock_agentcore import BedrockAgentCoreApp

app = BedrockAgentCoreApp()
BOOT = os.urandom(8).hex()


@app.entrypoint
def invoke(payload):
    return {"pid": os.getpid(), "boot": BOOT}


@app.websocket
async def talk(websocket, context):
    if websocket.headers.get("x-amzn-bedrock-agentcore-runtime-custom-door") == "closed":
        await websocket.close(1008)
        return
    offered = websocket.headers.get("sec-websocket-protocol", "")
    await websocket.accept(subprotocol=offered.split(",")[0].strip() or None)
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if message.get("bytes") is not None:
            await websocket.send_bytes(message["bytes"])
            continue
        word, _, rest = message["text"].partition(" ")
        if word == "headers":
            seen = {**dict(websocket.headers), "session": context.session_id}
            await websocket.send_text(json.dumps(seen))
        elif word == "close":
            await websocket.close(int(rest), "as asked")
            return
        elif word == "die":
            os._exit(1)
        elif word == "flood":
            for _ in range(int(rest)):
                await websocket.send_bytes(b"x" * 65536)
        else:
            await websocket.send_text(message["text"])


if __name__ == "__main__":
    app.run()
