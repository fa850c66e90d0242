"""What a platform under test takes for a model that learns: a program, which says so by its name.

It notes each message "KEY is VALUE" as it was said, and takes a later value of a key for the one
that holds. What it is told to answer comes first; and it can be made to wait.
"""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

MODEL_NAME = "freehold-learning-double"
_SECONDS_MAX = 180.0


class Asked(NamedTuple):
    """One question: which model, with what instructions, of what document."""

    model: str
    told: str
    document: dict[str, Any]


class Gate:
    """`arrived` once somebody waits at it; nobody passes until it is `opened`."""

    def __init__(self) -> None:
        self.arrived, self.opened = threading.Event(), threading.Event()

    def wait_for_one(self) -> None:
        assert self.arrived.wait(_SECONDS_MAX), "nobody asked the model"


class LearningModel:
    """Served in threads of its own, at `base_url`. `said[key]` are answers to questions whose
    document has that text in it, used up one by one: texts, or an HTTP status. `topic_url` is
    somebody's who is told of what was said; `notified` what they were told."""

    def __init__(self) -> None:
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with contextlib.suppress(ConnectionError):  # who asked was killed
                    self._answer(*model.answer(self.path, body))

            def _answer(self, status: int, document: Any) -> None:
                data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.asked: list[Asked] = []
        self.said: dict[str, list[str | int]] = {}
        self.notified: list[dict[str, Any]] = []
        self._gates: list[tuple[tuple[str, ...], Gate]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "LearningModel":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for _, gate in self._gates:
            gate.opened.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    @property
    def topic_url(self) -> str:
        return f"{self.origin}/topic"

    @contextlib.contextmanager
    def held(self, *texts: str) -> Iterator[Gate]:
        """Inside, questions with all of these in their document wait."""
        gate = Gate()
        self._gates.append((texts, gate))
        try:
            yield gate
        finally:
            self._gates.remove((texts, gate))
            gate.opened.set()

    def about(self, key: str) -> list[Asked]:
        return [each for each in self.asked if key in json.dumps(each.document)]

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/topic":
            self.notified.append(body)
            return 200, {}
        instructions, question = (each["content"] for each in body["messages"])
        asked = Asked(body["model"], instructions, json.loads(question))
        self.asked.append(asked)
        for texts, gate in list(self._gates):
            if all(text in question for text in texts):
                gate.arrived.set()
                assert gate.opened.wait(_SECONDS_MAX), "the gate stayed shut"
        text: str | int = next(
            (answers.pop(0) for key, answers in self.said.items() if answers and key in question),
            "",
        )
        if isinstance(text, int):
            error = {"message": "not today", "type": "invalid_request_error", "code": None}
            return text, {"error": error}
        choice = {
            "index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": text or sensible(asked)},
        }  # fmt: skip
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return 200, {"id": "1", "model": asked.model, "choices": [choice], "usage": usage}


def sensible(asked: Asked) -> str:
    document = asked.document
    if "candidates" in document:
        return json.dumps(_consolidated(document))
    facts = [
        each for each in document["messages"]
        if " is " in each["text"] and not each.get("context")
    ]  # fmt: skip
    numbers = [each["n"] for each in facts]
    if "topics" in document:
        if not facts:
            return json.dumps({"items": []})
        over = {"over": document["topics"][0]["label"]} if document["topics"] else {}
        before = [each["text"].splitlines()[1] for each in document["topics"][:1]]
        text = "; ".join([*before, *(each["text"] for each in facts)])
        return json.dumps({"items": [{**over, "topic": "talk", "text": text, "from": numbers}]})
    if "You note episodes" in asked.told:
        episodes = [
            {"situation": "a talk", "intent": each["text"], "actions": ["listened"],
             "outcome": "noted", "from": [each["n"]]}
            for each in facts
        ]  # fmt: skip
        return json.dumps({"items": episodes})
    return json.dumps({"items": [{"text": e["text"], "from": [e["n"]]} for e in facts]})


def _consolidated(document: dict[str, Any]) -> dict[str, Any]:
    near = {each["label"]: each["text"] for each in document["records"]}
    decisions, earlier = [], dict[str, str]()
    for each in document["candidates"]:
        key = each["text"].partition(" is ")[0]
        over = earlier.get(key) or next(
            (label for label in each["near"] if near[label].partition(" is ")[0] == key), None
        )
        action = {"action": "UPDATE", "over": over} if over else {"action": "ADD"}
        decisions.append({"candidate": each["label"], **action})
        earlier[key] = each["label"]
    answer: dict[str, Any] = {"decisions": decisions}
    if "reflections" in document:
        answer["reflections"] = [
            {"text": f"lesson of {each['text']}", "from": [each["label"]]}
            for each in document["candidates"]
        ]
    return answer
