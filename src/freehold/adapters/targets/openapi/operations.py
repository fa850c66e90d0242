"""Operations as tools."""

import re
from typing import Any
from urllib.parse import quote

import jsonschema_rs
import msgspec

from freehold.adapters.targets.openapi.arguments import Arguments
from freehold.adapters.targets.openapi.naming import Names
from freehold.adapters.targets.openapi.plan import Plan, stored
from freehold.adapters.targets.openapi.references import Library, Node, Unconvertible
from freehold.adapters.targets.openapi.schemas import Schemas
from freehold.adapters.targets.openapi.security import Security
from freehold.adapters.targets.openapi.servers import Servers
from freehold.adapters.targets.openapi.versions import Dialect, Operation, Operations
from freehold.ports.targets import Definition, Json, Problem

_INPUT_BYTES_MAX = 96 << 10
_OUTPUT_BYTES_MAX = 32 << 10
_DESCRIPTION_MAX = 4000
_TITLE_MAX = 100
_VISITED_MAX = 60
_PARAMETERS_MAX = 1000
_ALL_BYTES_MAX = 32 << 20
_IN_PATH = re.compile(r"\{([^{}]*)\}")
_SAFE = frozenset({"get", "head", "options", "query"})
IDEMPOTENT = _SAFE | {"put", "delete"}


class Tools:
    def __init__(self, library: Library, dialect: Dialect, url: str) -> None:
        self._library = library
        self._operations = Operations(library, dialect)
        self.security = Security(library)
        self._servers = Servers(library, dialect, url)
        self._schemas = Schemas(library, dialect)
        self._names = Names()
        self._seen_ids: set[str] = set()
        self._bytes = 0

    def all(self, tools_max: int) -> tuple[list[Definition], list[Problem]]:
        definitions: list[Definition] = []
        problems: list[Problem] = []
        for place in self._operations.places():
            if len(place) == 2:
                problems.append(Problem(where=place[0], why=str(place[1])))
                continue
            method, path, item, node = place
            where = f"{method.upper()} {path}"
            if len(definitions) >= tools_max:
                why = f"A target has at most {tools_max} tools: make a second one of the rest."
                problems.append(Problem(where=where, why=why))
                continue
            try:
                operation = self._operations.operation(method, path, item, node)
                definition, more = self._tool(operation)
            except Unconvertible as error:
                problems.append(Problem(where=where, why=str(error)))
            # What is of the wrong kind somewhere in it must not cost the other operations.
            except (TypeError, ValueError, KeyError, AttributeError, IndexError, RecursionError):
                why = "Its description is not well formed: check it with a validator of OpenAPI."
                problems.append(Problem(where=where, why=why))
            else:
                definitions.append(definition)
                problems += more
        return definitions, [*problems, *self._schemas.problems.values()]

    def _tool(self, operation: Operation) -> tuple[Definition, list[Problem]]:
        if self._bytes > _ALL_BYTES_MAX:
            raise Unconvertible(f"The tools before it have {_ALL_BYTES_MAX >> 20} MiB already.")
        if len(operation.parameters) > _PARAMETERS_MAX:
            raise Unconvertible(f"It has more than {_PARAMETERS_MAX} parameters.")
        server = self._servers.of(operation.servers)
        path, _, query = operation.path.split("#", 1)[0].partition("?")
        arguments = Arguments(self._schemas, self.security)
        arguments.take(operation, server, _IN_PATH.findall(path))
        schema, complete = self._schemas.whole(arguments.schema(), "in", bytes_max=_INPUT_BYTES_MAX)
        try:
            jsonschema_rs.validator_for(schema)
        except ValueError as error:
            why = f"Its arguments make no valid JSON Schema: {str(error).splitlines()[0][:300]}"
            raise Unconvertible(why) from None
        output = self._output(operation)
        plan = Plan(
            method=operation.method.upper(),
            server=server.url,
            path=quote("/" + path.lstrip("/"), safe="/{}%:@!$&'()*+,;=~"),
            query=quote(query, safe="/?%:@!$&'()*+,;=~"),
            variables=tuple(arguments.variables),
            parameters=tuple(arguments.parameters),
            body=arguments.body,
            accept=_accept(operation),
            structured=output is not None,
        )
        notes = (*operation.notes, *arguments.notes)
        problems = [Problem(where=operation.where, why=note, skipped=False) for note in notes]
        if not complete:
            problems.append(_cut(operation))
        identifier = operation.node.text("operationId")
        name = self._names.tool(identifier, operation.method, operation.path)
        if identifier and identifier in self._seen_ids:
            why = f'operationId "{identifier[:100]}" is another operation\'s: the tool is "{name}".'
            problems.append(Problem(where=operation.where, why=why, skipped=False))
        self._seen_ids.add(identifier)
        document = _document(name, operation, schema, output)
        self._bytes += len(msgspec.json.encode(document))
        return Definition(name=name, document=document, plan=stored(plan)), problems

    def _output(self, operation: Operation) -> Json | None:
        """Only where success has one form, and that is an object: MCP knows no other."""
        forms: dict[tuple[str, str], Node] = {}
        for answer in operation.answers:
            for media in answer.media:
                form = media.schema
                if "json" in media.type and form is not None and isinstance(form.value, dict):
                    forms[form.document, form.text("$ref") or form.pointer] = form
        if len(forms) != 1:
            return None
        try:
            node = self._schemas.followed(next(iter(forms.values())))
            if not _is_object(node, self._schemas):
                return None
        except Unconvertible:
            return None
        converted: dict[str, Any] = dict(self._schemas.converted(node, "out"))
        converted["type"] = "object"
        schema, complete = self._schemas.whole(converted, "out", bytes_max=_OUTPUT_BYTES_MAX)
        return schema if complete else None


def _is_object(node: Node, schemas: Schemas) -> bool:
    """Whatever of it is chosen. What is too entangled to be told is none."""
    visited = 0

    def told(node: Node) -> bool:
        nonlocal visited
        visited += 1
        node = schemas.followed(node)
        if visited > _VISITED_MAX or not isinstance(node.value, dict):
            return False
        if node.text("type"):
            return node.text("type") == "object"
        if node.get("properties") is not None:
            return True
        for word, enough in (("allOf", any), ("oneOf", all), ("anyOf", all)):
            parts = list(node.elements(word))
            if parts:
                return enough(told(part) for part in parts)
        return False

    return told(node)


def _document(name: str, operation: Operation, schema: Json, output: Json | None) -> Json:
    node = operation.node
    summary, about = node.text("summary").strip(), node.text("description").strip()
    if about.startswith(summary):
        summary, about = about, ""
    description = "\n\n".join(part for part in (summary, about) if part) or operation.where
    if node.flag("deprecated"):
        description = f"Deprecated. {description}"
    found: Json = {"name": name}
    title = node.text("summary").strip()
    if title and len(title) <= _TITLE_MAX:
        found["title"] = title
    found["description"] = description[:_DESCRIPTION_MAX]
    found["inputSchema"] = schema
    if output is not None:
        found["outputSchema"] = output
    found["annotations"] = _annotations(operation.method)
    return found


def _annotations(method: str) -> Json:
    """POST is left open: MCP's clients then expect the worst of it."""
    found: Json = {"readOnlyHint": method in _SAFE}
    if method in _SAFE:
        found["destructiveHint"] = False
    elif method != "post":
        found["destructiveHint"] = True
    found["idempotentHint"] = method in IDEMPOTENT
    found["openWorldHint"] = True
    return found


def _accept(operation: Operation) -> str:
    types = dict.fromkeys(m.type for answer in operation.answers for m in answer.media)
    good = [t for t in types if t.isascii() and t.isprintable() and "*" not in t][:8]
    good.sort(key=lambda t: "json" not in t)
    return ", ".join([*good, "*/*;q=0.5"]) if good else "application/json, */*;q=0.5"


def _cut(operation: Operation) -> Problem:
    return Problem(
        where=operation.where,
        why=f"The schema of its arguments is larger than {_INPUT_BYTES_MAX >> 10} KiB: what is"
        " deepest in it is not described, and not checked before the API is called.",
        skipped=False,
    )
