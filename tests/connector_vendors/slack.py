"""The manners of Slack: methods in place of paths, 200 for nearly everything, forms or JSON."""

import json
import re
from typing import Any

from connector_vendors.facts import Operation
from connector_vendors.manners import Ask, Grant, Json, Manners, Reply, Seen, form_of
from connector_vendors.shapes import Problem, from_text, judge

_FORM, _JSON = "application/x-www-form-urlencoded", "application/json"
_CHANNEL = re.compile(r"^[CGD][A-Z0-9]{8,}$")
_USER = re.compile(r"^[UW][A-Z0-9]{8,}$")
_TS = re.compile(r"^\d{10}\.\d{6}$")
_SINGLE = {"channel": (_CHANNEL, "channel_not_found"), "user": (_USER, "user_not_found"),
           "ts": (_TS, "message_not_found"), "timestamp": (_TS, "message_not_found"),
           "message_ts": (_TS, "message_not_found")}  # fmt: skip


class Slack(Manners):
    def _error(self, error: str, **more: Any) -> Reply:
        return Reply(200, {"ok": False, "error": error, **more})

    def grant(self, seen: Seen) -> Grant | None:
        scheme, _, secret = seen.headers.get("authorization", "").partition(" ")
        if not secret and seen.media == _FORM:
            secret, scheme = form_of(seen).get("token", ""), "bearer"
        if not secret and "token" in dict(seen.query):
            self.note("a token in the query: since 2021 Slack takes none there")
        return self.tokens.get(secret) if scheme.lower() == "bearer" else None

    def may(self, operation: Operation, grant: Grant) -> bool:
        wanted = operation.scopes[grant.kind]
        if wanted is None or grant.scopes is None:
            return wanted is not None
        return not wanted or bool(set(wanted) & grant.scopes)

    def forbidden(self, ask: Ask) -> Reply:
        kind = ask.grant.kind if ask.grant else ""
        wanted = ask.operation.scopes.get(kind)
        if wanted is None:
            return self._error("not_allowed_token_type")
        provided = ",".join(sorted((ask.grant and ask.grant.scopes) or ()))
        return self._error("missing_scope", needed=",".join(wanted), provided=provided)

    def unauthorized(self, seen: Seen) -> Reply:
        return self._error("invalid_auth" if "authorization" in seen.headers else "not_authed")

    def nowhere(self, seen: Seen) -> Reply:
        if seen.parts[:1] != ["api"]:
            return Reply(404, "")
        return self._error("unknown_method", req_method=seen.parts[-1])

    def refused(self, ask: Ask) -> Reply:
        first = ask.problems[0]
        if first.where == "body.text" and first.expected.startswith("one of text"):
            return self._error("no_text")
        words = {"missing": "missing required field", "type": "must provide a", "choice": "value"}
        messages = [f"[ERROR] {words[p.kind]}: {p.where.split('.')[-1]} ({p.expected})"
                    for p in ask.problems]  # fmt: skip
        return self._error("invalid_arguments", response_metadata={"messages": messages})

    def read(self, ask: Ask) -> Reply | None:
        if ask.operation.open:  # an upload: its body is the file
            return None if ask.seen.body else Reply(400, "empty")
        operation, seen = ask.operation, ask.seen
        given: dict[str, Any] = dict(seen.query)
        if seen.method not in (operation.method, "POST"):
            self.note(f"{operation.id}: {seen.method} where {operation.method} is documented")
        if seen.method == "POST" and seen.body:
            if seen.media not in (_FORM, _JSON, "multipart/form-data"):
                return self._error("invalid_post_type")
            if seen.media == _JSON and _JSON in operation.content_types:
                return self._read_json(ask, given)
            if seen.media == _JSON:
                self.note(f"{operation.id}: takes no JSON body, its arguments are not seen")
            else:
                given |= form_of(seen)
        given.pop("token", None)
        return self._judge(ask, {name: self._value(ask, name, v) for name, v in given.items()})

    def _read_json(self, ask: Ask, given: dict[str, Any]) -> Reply | None:
        try:
            sent = json.loads(ask.seen.body)
        except ValueError:
            return self._error("invalid_json")
        if not isinstance(sent, dict):
            return self._error("json_not_object")
        if "token" in sent:
            self.note(f"{ask.operation.id}: a token in a JSON body is not seen")
        return self._judge(ask, {**given, **sent})

    def _value(self, ask: Ask, name: str, text: str) -> Any:
        known = {n.rstrip("!"): s for n, s in (ask.operation.arguments or {}).items()}
        shape = known.get(name, "string")
        if not isinstance(shape, str) or shape.startswith("object"):
            try:
                return json.loads(text)  # lists and objects are JSON within a form
            except ValueError:
                return text
        return from_text(text, shape) if shape != "boolean" else {"1": True, "0": False}.get(
            text, from_text(text, shape)
        )  # fmt: skip

    def _judge(self, ask: Ask, arguments: Json) -> Reply | None:
        ask.seen.arguments = arguments
        ask.problems += judge(arguments, ask.operation.arguments, "body")
        groups = ask.operation.needs
        if groups and not any(all(arguments.get(n) for n in group) for group in groups):
            names = " or ".join("+".join(group) for group in groups)
            ask.problems.insert(0, Problem("missing", f"body.{groups[0][0]}", f"one of {names}"))
        return None

    def quirks(self, ask: Ask) -> Reply | None:
        if ask.operation.open:
            return None
        for name, (pattern, error) in _SINGLE.items():
            value = ask.sent.get(name)
            if value is None or pattern.match(str(value)):
                continue
            if ask.operation.id == "chat.postMessage" and str(value).startswith("#"):
                continue
            return self._error(error)
        users = str(ask.sent.get("users", ""))
        if users and not all(_USER.match(one) for one in users.split(",")):
            return self._error("user_not_found")
        name = ask.sent.get("name", "")
        if ask.operation.id == "conversations.create" and not re.fullmatch(
            r"[a-z0-9_-]{1,80}", name
        ):
            return self._error("invalid_name_specials")
        if ask.operation.id.startswith("reactions.") and ":" in name:
            return self._error("invalid_name")
        return None

    def done(self, ask: Ask, answer: Any, document: Json | None) -> Reply:
        arguments, act = ask.sent, ask.operation.id
        if ask.operation.open:
            return Reply(200, f"OK - {len(ask.seen.body)}")
        if act == "files.getUploadURLExternal":
            answer["upload_url"] = "https://files.slack.com/upload/v1/CwABAAAAXAoAAQ"
        answer |= {"ok": True}
        if "response_metadata" in answer:
            answer["response_metadata"] = {"next_cursor": ""}
        if act == "chat.postMessage":
            ts = f"17637{self.store.number():05d}.000100"
            text = arguments.get("text") or arguments.get("markdown_text") or ""
            message = {"type": "message", "user": "U012AB3CD", "ts": ts, "text": text}
            if "thread_ts" in arguments:
                message["thread_ts"] = arguments["thread_ts"]
            self.store.keep(f"/{arguments['channel']}", {**message, "id": ts})
            answer |= {"channel": arguments["channel"], "ts": ts, "message": message}
        if act in ("chat.update", "chat.delete"):
            at = f"/{arguments['channel']}/{arguments['ts']}"
            if self.store.got(at) is None:
                return self._error("message_not_found")
            if act == "chat.delete":
                self.store.delete(at)
            else:
                self.store.change(at, {"text": arguments.get("text", "")})
            answer |= {"channel": arguments["channel"], "ts": arguments["ts"]}
        if act in ("conversations.history", "conversations.replies"):
            kept = self.store.listed(f"/{arguments['channel']}")
            of = arguments.get("ts")
            answer["messages"] = [
                {k: v for k, v in one.items() if k != "id"} for one in reversed(kept)
                if of is None or of in (one["ts"], one.get("thread_ts"))
            ]  # fmt: skip
            answer["has_more"] = False
        if ask.seen.media == _JSON and "charset" not in ask.seen.headers["content-type"]:
            answer["warning"] = "missing_charset"
        return Reply(200, answer)
