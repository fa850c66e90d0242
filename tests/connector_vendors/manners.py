"""How vendors take requests and refuse them; `Manners` is what most have in common."""

import base64
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from connector_vendors.facts import Facts, Operation
from connector_vendors.shapes import Problem, from_text, judge
from connector_vendors.store import Store

Json = dict[str, Any]


@dataclass
class Seen:
    """A request as it came. `headers`: lower-case names. `parts`: of the raw path."""

    method: str
    path: str
    parts: list[str]
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes
    operation: str = ""
    arguments: Any = None
    """The body, or a Slack method's arguments, as the stand-in understood them."""

    @property
    def media(self) -> str:
        return self.headers.get("content-type", "").split(";")[0].strip().lower()


@dataclass
class Reply:
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Grant:
    """What a token or password stands for. `scopes` of None: all."""

    scopes: frozenset[str] | None
    kind: str = "user"


@dataclass
class Ask:
    """A request on its way through a stand-in."""

    seen: Seen
    operation: Operation
    values: dict[str, Any]
    grant: Grant | None = None
    problems: list[Problem] = field(default_factory=list)

    @property
    def sent(self) -> Any:
        return self.seen.arguments

    @property
    def query(self) -> dict[str, str]:
        return dict(self.seen.query)


class Manners:
    """`note` takes what the vendor would ignore and an author of a client should know."""

    keeps_itself: frozenset[str] = frozenset()
    """The operations whose documents `done` puts into the store."""

    def __init__(self, facts: Facts, store: Store, note: Any) -> None:
        self.facts, self.about, self.store, self.note = facts, facts.about, store, note
        self.tokens: dict[str, Grant] = {}
        self.passwords: dict[tuple[str, str], Grant] = {}

    # Who asks.

    def grant(self, seen: Seen) -> Grant | None:
        scheme, _, secret = seen.headers.get("authorization", "").partition(" ")
        if scheme.lower() in self.about["authentication"]["schemes"] and scheme.lower() != "basic":
            return self.tokens.get(secret)
        if scheme.lower() == "basic" and "basic" in self.about["authentication"]["schemes"]:
            return self.passwords.get(basic(secret))
        return None

    def may(self, operation: Operation, grant: Grant) -> bool:
        if grant.scopes is None or not operation.scopes:
            return True
        if self.about.get("full_scope") in grant.scopes:
            return True
        wanted = set(operation.scopes)
        return wanted <= grant.scopes if operation.scopes_all else bool(wanted & grant.scopes)

    # What is asked.

    def parts(self, seen: Seen) -> list[str] | Reply:
        return seen.parts

    def read(self, ask: Ask) -> Reply | None:
        """Puts the body into `arguments` and what is wrong with the request into `problems`."""
        self._judge_named(ask.values, ask.operation.in_path, "path", ask)
        queried = dict(ask.seen.query)
        allowed = {**ask.operation.query, **self.about.get("always_query", {})}
        self._judge_named(queried, allowed, "query", ask)
        names = [name.rstrip("!") for name in ask.operation.headers]
        came = {n: ask.seen.headers[n.lower()] for n in names if n.lower() in ask.seen.headers}
        self._judge_named(came, ask.operation.headers, "header", ask)
        if ask.operation.body is None:
            if ask.seen.body.strip():
                self.note(f"{ask.operation.id}: a body where none is documented")
            self._judge_needs({**queried}, ask)
            return None
        refused = self._read_body(ask)
        if refused is None:
            self._judge_needs(self.unwrapped(ask), ask)
        return refused

    def _read_body(self, ask: Ask) -> Reply | None:
        wanted = ask.operation.body or {}
        if not ask.seen.body:
            if wanted["required"]:
                ask.problems += judge({}, _without_data(wanted["members"]), "body") or [
                    Problem("missing", "body", "a body")
                ]
            return None
        if ask.seen.media != wanted["type"]:
            return self.unsupported(ask)
        if wanted["type"] == "multipart/form-data":
            ask.seen.arguments = parts_of_form(ask.seen)
        else:
            try:
                ask.seen.arguments = json.loads(ask.seen.body)
            except ValueError:
                return self.malformed(ask)
        ask.problems += judge(ask.seen.arguments, wanted["members"], "body")
        return None

    def _judge_named(self, given: dict[str, Any], wanted: Json, where: str, ask: Ask) -> None:
        known = {name.rstrip("!"): inner for name, inner in wanted.items()}
        typed = {n: from_text(v, known[n]) if n in known else v for n, v in given.items()}
        ask.problems += judge(typed, wanted, where)

    def _judge_needs(self, members: Any, ask: Ask) -> None:
        groups = ask.operation.needs
        if groups and not any(all(members.get(n) for n in group) for group in groups):
            names = " or ".join("+".join(group) for group in groups)
            ask.problems.append(Problem("missing", "body." + groups[0][0], f"one of {names}"))

    # What is answered.

    def wrap(self, operation: Operation) -> str:
        """The member of a body and an answer that the document itself is in."""
        return ""

    def unwrapped(self, ask: Ask) -> Json:
        name = self.wrap(ask.operation)
        sent = ask.sent if isinstance(ask.sent, dict) else {}
        inner = sent.get(name, sent) if name else sent
        return inner if isinstance(inner, dict) else {}

    def quirks(self, ask: Ask) -> Reply | None:
        """What no shape can say."""
        return None

    def done(self, ask: Ask, answer: Any, document: Json | None) -> Reply:
        return Reply(ask.operation.status, answer)

    # Refusals.

    def unauthorized(self, seen: Seen) -> Reply:
        raise NotImplementedError

    def forbidden(self, ask: Ask) -> Reply:
        raise NotImplementedError

    def nowhere(self, seen: Seen) -> Reply:
        raise NotImplementedError

    def not_found(self, ask: Ask) -> Reply:
        return self.nowhere(ask.seen)

    def wrong_method(self, seen: Seen, methods: set[str]) -> Reply:
        reply = self.nowhere(seen)
        return Reply(405, reply.body, {"allow": ", ".join(sorted(methods))})

    def refused(self, ask: Ask) -> Reply:
        raise NotImplementedError

    def unsupported(self, ask: Ask) -> Reply:
        reply = self.nowhere(ask.seen)
        return Reply(415, reply.body)

    def malformed(self, ask: Ask) -> Reply:
        ask.problems.append(Problem("type", "body", "JSON"))
        return self.refused(ask)

    def limited(self) -> Reply:
        limit = self.about["rate_limit"]
        headers = {
            name: value if value.isdigit() else "7" for name, value in limit["headers"].items()
        }
        return Reply(limit["status"], limit["body"], headers)


def basic(secret: str) -> tuple[str, str]:
    try:
        user, _, password = base64.b64decode(secret, validate=True).decode().partition(":")
    except ValueError:
        return ("", "")
    return (user, password)


def form_of(seen: Seen) -> dict[str, str]:
    return dict(parse_qsl(seen.body.decode(), keep_blank_values=True))


def parts_of_form(seen: Seen) -> dict[str, Any]:
    """The parts of a multipart form by their names; files as their bytes."""
    boundary = seen.headers.get("content-type", "").partition("boundary=")[2].strip('"')
    found: dict[str, Any] = {}
    for part in seen.body.split(b"--" + boundary.encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        name = head.partition(b'name="')[2].partition(b'"')[0].decode()
        value = content.removesuffix(b"\r\n")
        found[name] = value if b"filename=" in head else value.decode()
    return found


def _without_data(members: Any) -> Any:
    return members if isinstance(members, dict) else {}
