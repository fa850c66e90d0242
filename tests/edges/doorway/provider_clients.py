"""Each provider's own client: it has a tool called, and asks twice with the tool's result, at last
for a stream. Each runs in a process of its own, told by its environment alone.
"""

import asyncio
import json
import os
import sys
import textwrap
from typing import Any

import pytest

from freehold.testing.scripted_model import Rule, Script
from freehold.testing.scripted_model import ScriptedToolCall as Call

SCRIPT = Script(
    rules=(
        Rule(when="weather in Oslo", tool_call=Call("weather", {"city": "Oslo"})),
        Rule(role="tool", when=r"(\d+) degrees", reply=r"Oslo has \1 degrees today."),
    )
)
PRELUDE = """
    import json, os, sys
    result = sys.argv[1] + " degrees"
    ASKED = "the weather in Oslo"
    SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
"""
OPENAI = """
    from openai import OpenAI
    client, model = OpenAI(), os.environ["OPENAI_MODEL"]
    tools = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
    messages = [{"role": "user", "content": ASKED}]
    first = client.chat.completions.create(model=model, messages=messages, tools=tools)
    call = first.choices[0].message.tool_calls[0]
    messages += [first.choices[0].message,
                 {"role": "tool", "tool_call_id": call.id, "content": result}]
    whole = client.chat.completions.create(model=model, messages=messages, tools=tools)
    stream = client.chat.completions.create(model=model, messages=messages, stream=True)
    pieces = [c.choices[0].delta.content or "" for c in stream if c.choices]
    said = [call.function.name, json.loads(call.function.arguments),
            whole.choices[0].message.content, "".join(pieces), whole.usage.completion_tokens]
"""
RESPONSES = """
    from openai import OpenAI
    client, model = OpenAI(), os.environ["OPENAI_MODEL"]
    tools = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}]
    asked = [{"role": "user", "content": ASKED}]
    first = client.responses.create(model=model, input=asked, tools=tools)
    call = first.output[0]
    asked += [*first.output,
              {"type": "function_call_output", "call_id": call.call_id, "output": result}]
    whole = client.responses.create(model=model, input=asked, tools=tools)
    stream = client.responses.create(model=model, input=asked, tools=tools, stream=True)
    pieces = [e.delta for e in stream if e.type == "response.output_text.delta"]
    said = [call.name, json.loads(call.arguments), whole.output_text, "".join(pieces),
            whole.usage.output_tokens]
"""
ANTHROPIC = """
    from anthropic import Anthropic
    client, model = Anthropic(), os.environ["ANTHROPIC_MODEL"]
    tools = [{"name": "weather", "input_schema": SCHEMA}]
    ask = {"model": model, "max_tokens": 100, "tools": tools}
    messages = [{"role": "user", "content": ASKED}]
    first = client.messages.create(messages=messages, **ask)
    call = first.content[0]
    answer = {"type": "tool_result", "tool_use_id": call.id, "content": result}
    messages += [{"role": "assistant", "content": first.content},
                 {"role": "user", "content": [answer]}]
    whole = client.messages.create(messages=messages, **ask)
    with client.messages.stream(messages=messages, **ask) as stream:
        pieces = list(stream.text_stream)
    said = [call.name, call.input, whole.content[0].text, "".join(pieces),
            whole.usage.output_tokens]
"""
BEDROCK = """
    import boto3
    client, model = boto3.client("bedrock-runtime"), os.environ["BEDROCK_MODEL_ID"]
    spec = {"toolSpec": {"name": "weather", "inputSchema": {"json": SCHEMA}}}
    ask = {"modelId": model, "toolConfig": {"tools": [spec]}}
    messages = [{"role": "user", "content": [{"text": ASKED}]}]
    first = client.converse(messages=messages, **ask)["output"]["message"]
    call = first["content"][0]["toolUse"]
    answer = {"toolUseId": call["toolUseId"], "content": [{"text": result}]}
    messages += [first, {"role": "user", "content": [{"toolResult": answer}]}]
    whole = client.converse(messages=messages, **ask)
    stream = client.converse_stream(messages=messages, **ask)["stream"]
    pieces = [e["contentBlockDelta"]["delta"]["text"] for e in stream if "contentBlockDelta" in e]
    said = [call["name"], call["input"], whole["output"]["message"]["content"][0]["text"],
            "".join(pieces), whole["usage"]["outputTokens"]]
"""
GEMINI = """
    from google import genai
    from google.genai import types
    client, model = genai.Client(), os.environ["GEMINI_MODEL"]
    declared = types.FunctionDeclaration(name="weather", parameters_json_schema=SCHEMA)
    ask = {"model": model,
           "config": types.GenerateContentConfig(
               tools=[types.Tool(function_declarations=[declared])])}
    contents = [types.UserContent(ASKED)]
    first = client.models.generate_content(contents=contents, **ask)
    call = first.function_calls[0]
    answer = types.Part.from_function_response(name=call.name, response={"output": result})
    contents += [first.candidates[0].content, types.UserContent([answer])]
    whole = client.models.generate_content(contents=contents, **ask)
    stream = client.models.generate_content_stream(contents=contents, **ask)
    pieces = [chunk.text or "" for chunk in stream]
    said = [call.name, call.args, whole.text, "".join(pieces),
            whole.usage_metadata.candidates_token_count]
    assert [each.name for each in client.models.list()] == ["models/freehold-scripted"]
"""
MISTRAL = """
    from mistralai.client import Mistral
    base_url, key = os.environ["MISTRAL_BASE_URL"], os.environ["MISTRAL_API_KEY"]
    client = Mistral(api_key=key, server_url=base_url.removesuffix("/v1"))
    tool = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
    ask = {"model": os.environ["MISTRAL_MODEL"], "tools": [tool]}
    messages = [{"role": "user", "content": ASKED}]
    first = client.chat.complete(messages=messages, **ask).choices[0].message
    call = first.tool_calls[0]
    messages += [first, {"role": "tool", "tool_call_id": call.id, "content": result}]
    whole = client.chat.complete(messages=messages, **ask)
    with client.chat.stream(messages=messages, **ask) as stream:
        chunks = [event.data for event in stream]
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    said = [call.function.name, json.loads(call.function.arguments),
            whole.choices[0].message.content, "".join(pieces), chunks[-1].usage.completion_tokens]
"""


async def run_client(source: str, environment: dict[str, str], result: str) -> list[Any]:
    """What an agent prints whose environment is a session's, and nothing else."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(PRELUDE) + textwrap.dedent(source) + "\nprint(json.dumps(said))",
        result,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 180)
    assert process.returncode == 0, err.decode()
    said: list[Any] = json.loads(out)
    return said


CLIENTS = [
    pytest.param("openai", OPENAI, id="openai-chat"),
    pytest.param("openai", RESPONSES, id="openai-responses"),
    pytest.param("anthropic", ANTHROPIC, id="anthropic"),
    pytest.param("bedrock", BEDROCK, id="bedrock"),
    pytest.param("gemini", GEMINI, id="gemini"),
    pytest.param("mistral", MISTRAL, id="mistral"),
]
"""(kind of the provider, source of the client)"""
