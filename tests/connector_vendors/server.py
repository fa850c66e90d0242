"""A vendor on loopback, made of its facts."""

import asyncio
import json
import secrets
from typing import Any, Self
from urllib.parse import unquote

from aiohttp import web

from connector_vendors.facts import facts_of
from connector_vendors.manners import Ask, Grant, Manners, Reply, Seen
from connector_vendors.oauth import OAuth
from connector_vendors.rest import Asana, GitHub, Jira, Zendesk, Zoom
from connector_vendors.salesforce import Salesforce
from connector_vendors.slack import Slack
from connector_vendors.store import Store, answered

_MANNERS: dict[str, type[Manners]] = {
    "salesforce": Salesforce, "slack": Slack, "jira": Jira, "asana": Asana, "zendesk": Zendesk,
    "zoom": Zoom, "github": GitHub,
}  # fmt: skip


class StandIn:
    """`seen` has every request, `findings` what the vendor lets pass undocumented."""

    def __init__(self, vendor: str) -> None:
        self.vendor, self.facts = vendor, facts_of(vendor)
        self.seen: list[Seen] = []
        self.findings: list[str] = []
        self.store = Store()
        self.manners = _MANNERS[vendor](self.facts, self.store, self.findings.append)
        self.oauth = OAuth(vendor, self.facts.about["oauth"], self.manners)
        self.url = ""
        self.limited = 0
        """How many of the next requests are answered as too many."""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=16 << 20)
        app.router.add_route("*", "/{rest:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = self.oauth.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.wait_for(self._runner.cleanup(), 10)

    def token(self, *scopes: str, kind: str = "user") -> str:
        """A new one with these scopes; without any, with all. `kind`: "bot" or "user"."""
        token = secrets.token_hex(16)
        self.manners.tokens[token] = Grant(frozenset(scopes) if scopes else None, kind)
        return token

    def password(self, user: str, secret: str, *scopes: str) -> None:
        """Of HTTP Basic, where the vendor has it."""
        self.manners.passwords[user, secret] = Grant(frozenset(scopes) if scopes else None)

    def asked(self, operation: str) -> list[Seen]:
        return [one for one in self.seen if one.operation == operation]

    async def _handle(self, request: web.Request) -> web.Response:
        raw = request.raw_path.partition("?")[0]
        seen = Seen(
            method=request.method,
            path=unquote(raw),
            parts=raw.strip("/").split("/"),
            query=list(request.query.items()),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.read(),
        )
        self.seen.append(seen)
        return _response(self._answer(seen))

    def _answer(self, seen: Seen) -> Reply:
        if self.limited:
            self.limited -= 1
            return self.manners.limited()
        token = self.oauth.takes(seen)
        if token is not None:
            return token
        parts = self.manners.parts(seen)
        if isinstance(parts, Reply):
            return parts
        path = "/" + "/".join(parts)
        if path in self.facts.about.get("removed", {}):
            self.findings.append(f"{path} was removed")
            return self._removed(path)
        found = self._find(seen, parts)
        if isinstance(found, Reply):
            return found
        operation, values = found
        seen.operation = operation.id
        ask = Ask(seen, operation, dict(values))
        return self._authorized(ask) or self._refused(ask, path) or self._done(ask, path)

    def _find(self, seen: Seen, parts: list[str]) -> Any:
        found = self.facts.find(seen.method, parts)
        if isinstance(found, tuple):
            return found
        if self.vendor == "slack":  # either method will do there
            for method in ("GET", "POST"):
                other = self.facts.find(method, parts)
                if isinstance(other, tuple):
                    return other
        if found:
            return self.manners.wrong_method(seen, found)
        return self.manners.nowhere(seen)

    def _removed(self, path: str) -> Reply:
        said = self.facts.about["removed"][path]
        if self.vendor == "slack":
            return Reply(200, {"ok": False, "error": said})
        return Reply(410, {"errorMessages": [said], "errors": {}})

    def _authorized(self, ask: Ask) -> Reply | None:
        if ask.operation.open:
            return None
        ask.grant = self.manners.grant(ask.seen)
        if ask.grant is None:
            return self.manners.unauthorized(ask.seen)
        return None if self.manners.may(ask.operation, ask.grant) else self.manners.forbidden(ask)

    def _refused(self, ask: Ask, path: str) -> Reply | None:
        refused = self.manners.read(ask)
        if refused is not None:
            return refused
        for problem in ask.problems:
            if problem.kind == "unknown":
                self.findings.append(f"{ask.operation.id}: {problem}")
        ask.problems = [p for p in ask.problems if p.kind != "unknown"]
        if any(p.where.startswith("path.") for p in ask.problems):
            return self.manners.not_found(ask)
        if ask.problems:
            return self.manners.refused(ask)
        if path in self.store.gone:
            return self.manners.not_found(ask)
        return self.manners.quirks(ask)

    def _done(self, ask: Ask, path: str) -> Reply:
        operation = ask.operation
        wrap = self.manners.wrap(operation)
        sent = self.manners.unwrapped(ask)
        if operation.method == "DELETE":
            self.store.delete(path)
        if operation.method in ("PUT", "PATCH") and sent:
            self.store.change(path, sent)
        answer, document = answered(operation, path, wrap, sent, self.store)
        keeps = operation.status == 201 and operation.id not in self.manners.keeps_itself
        if document is not None and keeps:
            also = operation.creates.format(**{**ask.values, **document})
            self.store.keep(path, document | sent if not wrap else document, also)
        return self.manners.done(ask, answer, document)


def _response(reply: Reply) -> web.Response:
    headers = dict(reply.headers)
    if reply.body is None:
        return web.Response(status=reply.status, headers=headers)
    if isinstance(reply.body, str):
        return web.Response(status=reply.status, headers=headers, body=reply.body.encode())
    headers.setdefault("content-type", "application/json; charset=utf-8")
    return web.Response(status=reply.status, headers=headers, body=json.dumps(reply.body).encode())
