"""The unmodified BedrockAgentCoreApp, with the entry point that KIND names."""

import asyncio
import json
import os
import threading
import urllib.error
import urllib.request

from bedrock_agentcore import BedrockAgentCoreApp

app = BedrockAgentCoreApp()
turns = []
finish = threading.Event()


def sync(payload, context):
    turns.append(payload)
    return {
        "turn": len(turns),
        "session": context.session_id,
        "headers": dict(context.request_headers or {}),
    }


async def asynchronous(payload):
    await asyncio.sleep(0)
    return {"echo": payload}


def generator(payload):
    yield {"number": 1}
    yield {"number": 2}


async def async_generator(payload):
    yield {"number": 1}
    await asyncio.sleep(0)
    if payload.get("fail"):
        raise ValueError("in mid-stream")
    yield {"number": 2}


async def task(payload):
    """`start` begins a task in the background; `finish` has it end."""
    if "start" in payload:
        id = app.add_async_task("background")

        def work():
            finish.wait(120)
            app.complete_async_task(id)

        threading.Thread(target=work, daemon=True).start()
    else:
        finish.set()
    return {"ping": app.get_current_ping_status().value}


def raising(payload):
    raise RuntimeError("the entry point gave up")


def model(payload):
    """A chat completion over the OpenAI wire, by hand, passed on piece by piece."""
    body = {
        "model": os.environ.get("OPENAI_MODEL", "default"),
        "messages": [{"role": "user", "content": payload["prompt"]}],
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
                    yield {"text": piece}


def boto(payload):
    """Calls the platform as boto3 does in any session: nothing is configured here."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    config = Config(retries={"total_max_attempts": 1})
    client = boto3.client(payload["service"], config=config)
    try:
        answer = getattr(client, payload["operation"])(**payload["parameters"])
    except ClientError as error:
        return {"error": error.response["Error"]["Code"], "message": str(error)}
    if "response" in answer:
        return {"answer": json.loads(answer["response"].read())}
    return {"answer": sorted(answer)}


def fetch(payload):
    """A plain request to the doorway."""
    url = f"http://127.0.0.1:7400{payload['path']}"
    request = urllib.request.Request(url, method=payload.get("method", "GET"))
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return {"status": response.status, "body": response.read().decode()}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "body": error.read().decode()}


def inside(payload):
    return {"boto": boto, "fetch": fetch, "model": model}[payload.pop("do")](payload)


app.entrypoint(globals()[os.environ.get("KIND", "sync")])

if __name__ == "__main__":
    app.run()
