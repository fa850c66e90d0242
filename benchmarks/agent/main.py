"""The agent of the benchmarks: the ordinary app of the SDK, answering at once."""

from bedrock_agentcore import BedrockAgentCoreApp

app = BedrockAgentCoreApp()
PIECES = 50


@app.entrypoint
def answer(payload: dict):
    if payload.get("stream"):
        return ({"piece": n} for n in range(PIECES))
    if "size" in payload:
        return {"received": len(payload["size"])}
    return {"answer": payload.get("prompt", "")}


if __name__ == "__main__":
    import sys

    app.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080)
