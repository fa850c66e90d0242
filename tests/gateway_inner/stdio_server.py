"""An MCP server over standard input and output, of the standard library."""

import json
import os
import sys
import uuid
from pathlib import Path

PROCESS = uuid.uuid4().hex
TOOLS = [
    {"name": name, "description": f"It can {name}.", "inputSchema": {"type": "object"}}
    for name in ("where", "count", "ask", "die", "remember")
]


def say(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def read():
    return json.loads(next(sys.stdin))


def where(asked):
    return {
        "process": PROCESS,
        "arguments": sys.argv[1:],
        "setting": os.environ.get("SETTING"),
        "home": sorted(path.name for path in Path.home().iterdir()),
        "files": sorted(path.name for path in Path().iterdir()),
    }


def count(asked):
    token = asked["params"].get("_meta", {}).get("progressToken")
    for number in (1, 2):
        params = {"progressToken": token, "progress": number, "total": 2}
        say({"method": "notifications/progress", "params": params})
    return {"counted": 2}


def ask(asked):
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    params = {"message": "Who?", "requestedSchema": schema}
    say({"id": "q1", "method": "elicitation/create", "params": params})
    answer = read()
    assert answer["id"] == "q1"
    return {"answered": answer["result"]}


def die(asked):
    os._exit(3)


def remember(asked):
    (Path.home() / "remembered").write_text("x")
    return {}


print("this line is no message", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    if asked["method"] == "initialize":
        result = {
            "protocolVersion": asked["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "stdio", "version": "1"},
        }
    elif asked["method"] == "tools/list":
        result = {"tools": TOOLS}
    elif asked["method"] == "tools/call":
        found = globals()[asked["params"]["name"]](asked)
        result = {"content": [{"type": "text", "text": json.dumps(found)}]}
    else:
        say({"id": asked["id"], "error": {"code": -32601, "message": "Method not found"}})
        continue
    say({"id": asked["id"], "result": result})
