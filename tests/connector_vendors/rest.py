"""The manners of the vendors with paths and methods; Slack's are in slack.py."""

import base64
import re
from typing import Any
from urllib.parse import unquote

from connector_vendors.facts import Operation
from connector_vendors.manners import Ask, Json, Manners, Reply, Seen


class GitHub(Manners):
    def _says(self, status: int, message: str, **more: Any) -> Reply:
        document = {"message": message, "documentation_url": "https://docs.github.com/rest"}
        return Reply(status, {**document, "status": str(status), **more})

    def parts(self, seen: Seen) -> list[str] | Reply:
        if not seen.headers.get("user-agent"):
            return self._says(403, "Request forbidden: there is no User-Agent header")
        version = seen.headers.get("x-github-api-version")
        if version is None:
            self.note("no X-GitHub-Api-Version header")
        elif version not in self.about["api_versions"]:
            return self._says(400, f"{version} is not a supported version")
        accepts = [
            one.split(";")[0].strip() for one in seen.headers.get("accept", "*/*").split(",")
        ]
        if not any(a in self.about["accept"] or a.startswith(self.about["accept_prefix"])
                   for a in accepts):  # fmt: skip
            return self._says(415, "Unsupported 'Accept' header")
        if not any(one.startswith("application/vnd.github") for one in accepts):
            self.note("no Accept header of GitHub's own")
        return seen.parts

    def unauthorized(self, seen: Seen) -> Reply:
        if not seen.headers.get("authorization"):
            return self._says(401, "Requires authentication")
        return self._says(401, "Bad credentials")

    def forbidden(self, ask: Ask) -> Reply:
        if "{repo}" in ask.operation.path:
            return self._says(404, "Not Found")  # as what is private is not told from what is not
        return self._says(403, "The token may not do this")

    def nowhere(self, seen: Seen) -> Reply:
        return self._says(404, "Not Found")

    def refused(self, ask: Ask) -> Reply:
        codes = {"missing": "missing_field", "type": "invalid", "choice": "invalid"}
        errors = [
            {"resource": ask.operation.id.split("/")[0], "field": p.where.split(".")[-1],
             "code": codes[p.kind]}
            for p in ask.problems
        ]  # fmt: skip
        return self._says(422, "Validation Failed", errors=errors)

    def unsupported(self, ask: Ask) -> Reply:
        return self._says(415, "Unsupported Media Type")

    def malformed(self, ask: Ask) -> Reply:
        return self._says(400, "Problems parsing JSON")

    def quirks(self, ask: Ask) -> Reply | None:
        if ask.operation.id == "repos/create-or-update-file-contents":
            try:
                base64.b64decode(ask.sent["content"], validate=True)
            except ValueError:
                return self._says(422, "content is not valid Base64")
        if ask.operation.id.startswith("search/") and not ask.query.get("q", "").strip():
            return self._says(422, "Validation Failed", errors=[{"field": "q", "code": "missing"}])
        return None

    def done(self, ask: Ask, answer: Any, document: Json | None) -> Reply:
        raw = "raw" in ask.seen.headers.get("accept", "")
        if raw and ask.operation.id in ("repos/get-content", "repos/get-readme"):
            kind = {"content-type": "application/vnd.github.raw+json; charset=utf-8"}
            return Reply(200, "# A file\n", kind)
        if ask.operation.id == "repos/get-content":
            text = base64.b64encode(b"# A file\n").decode()
            answer = {
                "type": "file", "encoding": "base64", "content": text + "\n", "sha": "ab12",
                "path": ask.values["path"], "name": ask.values["path"].rsplit("/", 1)[-1],
                "size": 9, "url": "u", "html_url": "u", "git_url": "u", "download_url": "u",
                "_links": {},
            }  # fmt: skip
        return Reply(ask.operation.status, answer, {"x-github-media-type": "github.v3"})


class Asana(Manners):
    def _says(self, status: int, *messages: str) -> Reply:
        return Reply(status, {"errors": [{"message": m, "help": ""} for m in messages]})

    def wrap(self, operation: Operation) -> str:
        return "data"

    def unauthorized(self, seen: Seen) -> Reply:
        return self._says(401, "Not Authorized")

    def forbidden(self, ask: Ask) -> Reply:
        return self._says(403, f"Your token lacks one of the scopes {ask.operation.scopes}")

    def nowhere(self, seen: Seen) -> Reply:
        return self._says(404, "There is no such route")

    def not_found(self, ask: Ask) -> Reply:
        return self._says(404, f"Unknown object: {ask.seen.parts[-1]}")

    def refused(self, ask: Ask) -> Reply:
        said = [f"{p.where.removeprefix('body.data.')}: {p.expected}" for p in ask.problems]
        return self._says(400, *said)

    def done(self, ask: Ask, answer: Any, document: Json | None) -> Reply:
        last = ask.seen.parts[-1]
        if document and ask.operation.status == 201 and len(ask.operation.parts) > 3:
            kind = {"subtasks": "tasks", "duplicate": "jobs"}.get(last, last)
            self.store.keep(f"/api/1.0/{kind}", document)
        return Reply(ask.operation.status, answer)


class Zendesk(Manners):
    def parts(self, seen: Seen) -> list[str] | Reply:
        return [*seen.parts[:-1], seen.parts[-1].removesuffix(".json")]

    def wrap(self, operation: Operation) -> str:
        for name, inner in (operation.answer or {}).items():
            if isinstance(inner, dict) and "id" in inner:
                return str(name)
        return ""

    def unauthorized(self, seen: Seen) -> Reply:
        return Reply(401, {"error": "Couldn't authenticate you"}, {"www-authenticate": "Basic"})

    def forbidden(self, ask: Ask) -> Reply:
        said = {"title": "Forbidden", "message": "This is not for the token."}
        return Reply(403, {"error": said})

    def nowhere(self, seen: Seen) -> Reply:
        return Reply(404, {"error": "InvalidEndpoint", "description": "Not found"})

    def not_found(self, ask: Ask) -> Reply:
        return Reply(404, {"error": "RecordNotFound", "description": "Not found"})

    def refused(self, ask: Ask) -> Reply:
        if all(p.where.startswith("body.") and p.where.count(".") > 1 for p in ask.problems):
            details: dict[str, list[Json]] = {}
            for p in ask.problems:
                error = "BlankValue" if p.kind == "missing" else "InvalidValue"
                one = {"description": f"{p.where}: {p.expected}", "error": error}
                details.setdefault(p.where.split(".")[-1], []).append(one)
            said = "Record validation errors"
            return Reply(422, {"error": "RecordInvalid", "description": said, "details": details})
        said = "; ".join(str(p) for p in ask.problems)
        return Reply(400, {"error": {"title": "Invalid attribute", "message": said}})


class Zoom(Manners):
    def _says(self, status: int, code: int, message: str, **more: Any) -> Reply:
        return Reply(status, {"code": code, "message": message, **more})

    def unauthorized(self, seen: Seen) -> Reply:
        return self._says(401, 124, "Invalid access token.")

    def forbidden(self, ask: Ask) -> Reply:
        wanted = ", ".join(ask.operation.scopes)
        return self._says(400, 4711, f"The token lacks scopes:[{wanted}].")

    def nowhere(self, seen: Seen) -> Reply:
        return self._says(404, 2300, "There is no such endpoint.")

    def not_found(self, ask: Ask) -> Reply:
        if "meeting" in ask.operation.path:
            return self._says(404, 3001, f"There is no meeting {ask.seen.parts[-1]}.")
        return self._says(404, 1001, f"There is no user {ask.seen.parts[-1]}.")

    def refused(self, ask: Ask) -> Reply:
        errors = [{"field": p.where.split(".", 1)[-1], "message": p.expected} for p in ask.problems]
        return self._says(400, 300, "Validation Failed.", errors=errors)

    def read(self, ask: Ask) -> Reply | None:
        for name, value in ask.values.items():
            if "uuid" not in str(ask.operation.in_path.get(name)):
                continue
            if value.startswith("/") or "//" in value:
                self.note(f"{ask.operation.id}: {name} is to be percent-encoded twice")
                return self.nowhere(ask.seen)  # a proxy takes its slashes for the path's
            ask.values[name] = unquote(value)
        return super().read(ask)


class Jira(Manners):
    keeps_itself = frozenset({"createIssue"})

    def _says(self, status: int, *messages: str, **errors: str) -> Reply:
        return Reply(status, {"errorMessages": list(messages), "errors": errors})

    def parts(self, seen: Seen) -> list[str] | Reply:
        if seen.parts[:2] == ["ex", "jira"] and len(seen.parts) > 3:
            return seen.parts[3:]
        return seen.parts

    def grant(self, seen: Seen) -> Any:
        """Tokens of OAuth and API tokens with scopes count at api.atlassian.com/ex/jira alone, API
        tokens without scopes at the site."""
        scheme = seen.headers.get("authorization", "").partition(" ")[0].lower()
        found = super().grant(seen)
        scoped = scheme == "bearer" or (found is not None and found.scopes is not None)
        if (seen.parts[:2] == ["ex", "jira"]) != scoped:
            self.note(f"{scheme or 'no'} authentication at {'/'.join(seen.parts[:2])}")
            return None
        return found

    def unauthorized(self, seen: Seen) -> Reply:
        return Reply(401, {"code": 401, "message": "Unauthorized"})

    def forbidden(self, ask: Ask) -> Reply:
        return Reply(401, {"code": 401, "message": "Unauthorized; scope does not match"})

    def nowhere(self, seen: Seen) -> Reply:
        return Reply(404, {"status": 404, "error": "Not Found"})

    def not_found(self, ask: Ask) -> Reply:
        return self._says(404, "There is no such issue, or none for this account.")

    def refused(self, ask: Ask) -> Reply:
        errors = {}
        for p in ask.problems:
            name = p.where.removeprefix("body.").removeprefix("fields.").split(".")[0]
            if any(
                doc in p.where for doc in ("description", "environment", "comment", "body.body")
            ):
                errors[name] = "An Atlassian Document is wanted here"
            else:
                errors[name] = f"{name}: {p.expected}"
        return self._says(400, **errors)

    def quirks(self, ask: Ask) -> Reply | None:
        if ask.operation.bounded_jql:
            asked = ask.query if ask.operation.method == "GET" else ask.sent or {}
            where = re.split(r"\border\s+by\b", asked.get("jql", ""), flags=re.I)[0].strip()
            if not where:
                return self._says(400, "This JQL has no bound: it needs a restriction beside "
                                       "its order.")  # fmt: skip
        if (
            ask.operation.id == "addAttachment"
            and ask.seen.headers.get("x-atlassian-token", "") != "no-check"
        ):
            return Reply(403, "XSRF check failed")
        return None

    def done(self, ask: Ask, answer: Any, document: Json | None) -> Reply:
        if ask.operation.id == "createIssue" and document:
            fields = ask.sent["fields"]
            document["key"] = f"{fields['project'].get('key', 'TEST')}-{document['id']}"
            self.store.keep("/rest/api/3/issue", {**document, "fields": fields})
        if ask.operation.bounded_jql:
            kept = self.store.listed("/rest/api/3/issue")
            answer = {"issues": kept or answer["issues"], "isLast": True}
        return Reply(ask.operation.status, answer)
