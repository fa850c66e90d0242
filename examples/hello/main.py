"""A small agent: it asks a model, streams the answer, and remembers what its session was told.

Nothing here knows of Freehold. `OPENAI_BASE_URL` is set in every session; the key is not in it:
the platform adds it on the way out.
"""

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bedrock_agentcore import BedrockAgentCoreApp

app = BedrockAgentCoreApp()
told: list[str] = []


@app.entrypoint
def answer(payload: dict) -> Iterator[dict]:
    prompt = payload.get("prompt", "")
    told.append(prompt)
    home = Path.home()
    yield {"session": {"process": os.getpid(), "home": sorted(f.name for f in home.iterdir())}}
    (home / f"note-{len(told)}.txt").write_text(prompt)
    for piece in ask_model(prompt):
        yield {"text": piece}
    yield {"told": told}


def ask_model(prompt: str) -> Iterator[str]:
    """The chat-completions wire, by hand: one request, its stream of pieces."""
    body = {
        "model": os.environ.get("OPENAI_MODEL", "default"),
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
    }
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        for line in response:
            if line.startswith(b"data: {"):
                choices = json.loads(line[6:])["choices"]
                if choices and (piece := choices[0]["delta"].get("content")):
                    yield piece


if __name__ == "__main__":
    app.run()
