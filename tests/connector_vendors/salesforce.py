"""The manners of Salesforce: versions in the path, records of named kinds, SOQL in a parameter."""

import re
from typing import Any

from connector_vendors.manners import Ask, Json, Manners, Reply, Seen

_SOQL = re.compile(
    r"^\s*SELECT\s+.+?\s+FROM\s+(\w+)(\s+(WHERE|WITH|GROUP|ORDER|LIMIT|OFFSET|FOR|ALL|USING)\b.*)?\s*$",
    re.I | re.S,
)
_SOSL = re.compile(r"^\s*FIND\s+\{.+\}", re.I | re.S)


class Salesforce(Manners):
    keeps_itself = frozenset({"createRecord"})

    def _says(self, status: int, code: str, message: str, **more: Any) -> Reply:
        return Reply(status, [{"message": message, "errorCode": code, **more}])

    def parts(self, seen: Seen) -> list[str] | Reply:
        parts = [part for part in seen.parts if part]  # a slash at the end is let pass
        if parts[:2] == ["services", "data"] and len(parts) > 2:
            version = re.fullmatch(r"v(\d+)\.0", parts[2])
            limits = self.about["versions"]
            if version is None or int(version[1]) > limits["newest"]:
                return self.nowhere(seen)
            if int(version[1]) < limits["oldest"]:
                return self._says(410, "UNSUPPORTED_API_VERSION", "This version is retired")
        return parts

    def unauthorized(self, seen: Seen) -> Reply:
        return self._says(401, "INVALID_SESSION_ID", "The token is not known")

    def forbidden(self, ask: Ask) -> Reply:
        return self._says(403, "INSUFFICIENT_ACCESS", "The token's scopes do not include api")

    def nowhere(self, seen: Seen) -> Reply:
        return self._says(404, "NOT_FOUND", "There is no such resource")

    def wrong_method(self, seen: Seen, methods: set[str]) -> Reply:
        said = f"HTTP Method '{seen.method}' not allowed. Allowed are {','.join(sorted(methods))}"
        return self._says(405, "METHOD_NOT_ALLOWED", said)

    def unsupported(self, ask: Ask) -> Reply:
        return self._says(415, "UNSUPPORTED_MEDIA_TYPE", "The Content-Type is not supported")

    def malformed(self, ask: Ask) -> Reply:
        return self._says(400, "JSON_PARSER_ERROR", "The body is not JSON")

    def refused(self, ask: Ask) -> Reply:
        said = "; ".join(str(p) for p in ask.problems)
        if any(p.where.endswith(".q") for p in ask.problems):
            return self._says(400, "MALFORMED_QUERY", "The q parameter is required")
        return self._says(400, "JSON_PARSER_ERROR", said)

    def quirks(self, ask: Ask) -> Reply | None:
        kind = ask.values.get("sobject")
        if kind and kind not in self.about["sobjects"] and not kind.endswith("__c"):
            return self.nowhere(ask.seen)
        asks = ask.operation.id in ("query", "queryAll") and "q" in ask.query
        if asks and not _SOQL.match(ask.query["q"]):
            return self._says(400, "MALFORMED_QUERY", f"unexpected token: {ask.query['q']}")
        if ask.operation.id == "search" and not _SOSL.match(ask.query["q"]):
            return self._says(400, "MALFORMED_SEARCH", f"Unrecognized: {ask.query['q']}")
        return self._fields(ask, kind) if kind and isinstance(ask.sent, dict) else None

    def _fields(self, ask: Ask, kind: str) -> Reply | None:
        if {"id", "Id"} & ask.sent.keys():
            said = "A record names no Id of its own"
            return self._says(400, "INVALID_FIELD", said, fields=["Id"])
        if ask.operation.id != "createRecord":
            return None
        wanted = self.about["required_fields"].get(kind, [])
        missing = [name for name in wanted if not ask.sent.get(name)]
        if missing:
            said = f"Required fields are missing: [{', '.join(missing)}]"
            return self._says(400, "REQUIRED_FIELD_MISSING", said, fields=missing)
        return None

    def done(self, ask: Ask, answer: Any, document: Json | None) -> Reply:
        kind = ask.values.get("sobject", "")
        base = "/" + "/".join(part for part in ask.seen.parts if part)
        if ask.operation.id == "createRecord" and document:
            document["id"] = f"001{self.store.number():012d}AAA"
            attributes = {"type": kind, "url": f"{base}/{document['id']}"}
            self.store.keep(base, {"attributes": attributes, "Id": document["id"], **ask.sent})
            answer = {"id": document["id"], "success": True, "errors": []}
        if ask.operation.id == "getRecord":
            wanted = ask.query.get("fields")
            kept = self.store.got(base) or {"Id": ask.values["id"], "Name": "A record"}
            names = wanted.split(",") if wanted else kept.keys()
            answer = {"attributes": {"type": kind, "url": base}, "Id": ask.values["id"]}
            answer |= {name: kept.get(name) for name in names if name != "attributes"}
        if ask.operation.id in ("query", "queryAll") and "q" in ask.query:
            found = _SOQL.match(ask.query["q"])
            records = self.store.of_kind(found[1]) if found else []
            answer = {"totalSize": len(records), "done": True, "records": records}
        return Reply(ask.operation.status, answer)
