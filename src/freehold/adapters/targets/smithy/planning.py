"""From an operation of the model to the plan of its calls."""

import re
from dataclasses import dataclass

from freehold.adapters.targets.smithy import plan as plans
from freehold.adapters.targets.smithy.aggregates import Aggregates, slot_kind
from freehold.adapters.targets.smithy.model import Json, Member, Model, Shape, Unusable
from freehold.adapters.targets.smithy.service import Service

_LABEL = re.compile(r"\{([^{}+]+)(\+?)\}")
_WRITTEN = re.compile(r"(?:[A-Za-z0-9._~:/@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*")
_HOST = re.compile(r"[A-Za-z0-9.-]*")
_METHOD = re.compile(r"[A-Z]{3,10}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# What frames a message, and what says who asks, is not an argument.
FORBIDDEN_HEADERS = frozenset(
    {
        "authorization", "connection", "content-length", "expect", "host", "keep-alive",
        "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_REST = ("restJson1", "restXml")


@dataclass(slots=True)
class Operation:
    """An operation with its shapes at hand, and what could not be taken over of it."""

    shape: Shape
    input: Shape
    output: Shape
    restrictions: list[str]


class Planner:
    def __init__(self, model: Model, service: Service) -> None:
        self._model, self._service = model, service
        self._aggregates = Aggregates(model, service.protocol)

    def plan(self, operation: Operation) -> plans.Plan:
        """Raises Unusable."""
        protocol = self._service.protocol
        self._refuse_streams(operation)
        tokens = tuple(
            n for n, m in operation.input.members.items() if "idempotencyToken" in m.traits
        )
        traits = operation.shape.traits
        parts: Json = {
            "protocol": protocol,
            "operation": operation.shape.name,
            "tokens": tokens,
            "host": self._host(operation),
            "unwrapped": "aws.customizations#s3UnwrappedXmlOutput" in traits,
            **self._checksum(operation),
        }
        if protocol in _REST:
            parts |= self._bindings(operation)
            safe = parts["method"] in ("GET", "HEAD", "PUT", "DELETE")
        else:
            parts |= self._posted(operation)
            safe = False
        parts["safe"] = safe or bool(tokens) or "readonly" in traits or "idempotent" in traits
        return plans.Plan(**parts)

    def _refuse_streams(self, operation: Operation) -> None:
        for shape, way in ((operation.input, "takes"), (operation.output, "answers")):
            for member in shape.members.values():
                target = self._model.shape(member.target)
                streams = "streaming" in target.traits or "streaming" in member.traits
                if streams and target.type == "union":
                    raise Unusable(
                        f"it {way} a stream of events ({member.name}), which a tool cannot: call"
                        " the service itself for it"
                    )
                if streams:
                    operation.restrictions.append(
                        f"{member.name} is a stream; here it is whole, and limited in size"
                    )

    def _posted(self, operation: Operation) -> Json:
        """awsJson and the query protocols: one path, everything in the body."""
        service = self._service.shape
        if self._service.protocol.startswith("awsJson"):
            return {
                "target": f"{service.name}.{operation.shape.name}",
                "query_mode": "aws.protocols#awsQueryCompatible" in service.traits,
                "has_body": True,
                "input": self._side(operation.input, operation.input.members),
                "output": self._side(operation.output, operation.output.members, sent=False),
            }
        version = service.node.get("version")
        if not isinstance(version, str) or not version:
            raise Unusable("the service has no version, which its protocol sends: add one")
        return {
            "target": version,
            "has_body": True,
            "input": self._side(operation.input, operation.input.members),
            "output": self._side(
                operation.output, operation.output.members, sent=False,
                root=f"{operation.shape.name}Result"
                if self._service.protocol == "awsQuery" else "",
            ),
        }  # fmt: skip

    def _side(
        self, shape: Shape, members: dict[str, Member], *, sent: bool = True, root: str = ""
    ) -> plans.Side:
        shapes, body = self._aggregates.body(shape, members, sent=sent)
        return plans.Side(body=body, root=root, shapes=shapes)

    def _bindings(self, operation: Operation) -> Json:
        http = operation.shape.traits.members("http")
        method, uri = http.get("method"), http.get("uri")
        if not isinstance(method, str) or not isinstance(uri, str) or not uri.startswith("/"):
            raise Unusable(
                "it has no HTTP binding, which the protocol needs: add the trait smithy.api#http"
            )
        if not _METHOD.fullmatch(method):
            raise Unusable(f"its HTTP method {method[:20]!r} is none")
        path, labels, query = self._uri(uri, operation.input)
        queries, params, rest = self._queries(operation.input, labels)
        side, has_body = self._http_side(operation.input, rest, operation, sent=True)
        answered, _ = self._http_side(
            operation.output, dict(operation.output.members), operation, sent=False
        )
        status = next(
            (n for n, m in operation.output.members.items() if "httpResponseCode" in m.traits), ""
        )
        return {
            "method": method,
            "path": path,
            "labels": labels,
            "query": query,
            "queries": queries,
            "params": params,
            "has_body": has_body,
            "status": status,
            "statuses": self._statuses(operation),
            "input": side,
            "output": answered,
        }

    def _uri(
        self, uri: str, shape: Shape
    ) -> tuple[tuple[str, ...], dict[str, plans.Bound], tuple[tuple[str, str], ...]]:
        path, _, literal = uri.partition("?")
        parts: list[str] = []
        labels: dict[str, plans.Bound] = {}
        end = 0
        for match in _LABEL.finditer(path):
            name = match[1]
            member = shape.members.get(name)
            if member is None or "httpLabel" not in member.traits:
                raise Unusable(f"its path has {{{name}}}, which no member of the input fills")
            labels[name] = self._bound(member, name, "date-time", greedy=bool(match[2]))
            parts += [path[end : match.start()], name]
            end = match.end()
        parts.append(path[end:])
        if not all(_WRITTEN.fullmatch(literal) for literal in parts[::2]):
            raise Unusable(f"its path {uri[:100]!r} has characters that are no path's")
        unfilled = {n for n, m in shape.members.items() if "httpLabel" in m.traits} - labels.keys()
        if unfilled:
            raise Unusable(f"its path has no {{{min(unfilled)}}}, which its input has")
        pairs = [tuple((entry + "=").split("=")[:2]) for entry in literal.split("&") if entry]
        return tuple(parts), labels, tuple((name, value) for name, value in pairs)

    def _queries(
        self, shape: Shape, labels: dict[str, plans.Bound]
    ) -> tuple[dict[str, plans.Bound], str, dict[str, Member]]:
        queries: dict[str, plans.Bound] = {}
        params = ""
        rest: dict[str, Member] = {}
        for name, member in shape.members.items():
            if name in labels:
                continue
            if "httpQuery" in member.traits:
                queries[name] = self._bound(member, member.traits.text("httpQuery"), "date-time")
            elif "httpQueryParams" in member.traits:
                params = name
            else:
                rest[name] = member
        return queries, params, rest

    def _http_side(
        self, shape: Shape, rest: dict[str, Member], operation: Operation, *, sent: bool
    ) -> tuple[plans.Side, bool]:
        """Headers and body. Says too whether there is a body by the model."""
        headers: dict[str, plans.Bound] = {}
        prefixes: dict[str, str] = {}
        payload: Member | None = None
        body: dict[str, Member] = {}
        for name, member in rest.items():
            traits = member.traits
            if "httpHeader" in traits:
                header = traits.text("httpHeader").lower()
                if not _HEADER.fullmatch(header):
                    raise Unusable(f"{name} goes into a header of no valid name")
                if sent and header in FORBIDDEN_HEADERS:
                    operation.restrictions.append(f"{name} is not sent: {header} is ours to say")
                headers[name] = self._bound(member, header, "http-date")
            elif "httpPrefixHeaders" in traits:
                prefixes[name] = traits.text("httpPrefixHeaders").lower()
            elif "httpPayload" in traits:
                payload = member
            elif "httpResponseCode" in traits and not sent:
                continue
            else:
                body[name] = member
        if payload is not None:
            return self._payload(payload, headers, prefixes, sent=sent), True
        shapes, key = self._aggregates.body(shape, body, sent=sent)
        root, namespace, prefix = self._aggregates.root(shape, None, self._service)
        side = plans.Side(
            headers=headers, prefixes=prefixes, body=key, root=root, namespace=namespace,
            prefix=prefix, shapes=shapes,
        )  # fmt: skip
        return side, bool(body)

    def _payload(
        self, member: Member, headers: dict[str, plans.Bound], prefixes: dict[str, str], *,
        sent: bool,
    ) -> plans.Side:  # fmt: skip
        target = self._model.shape(member.target)
        shapes, slot = self._aggregates.payload(member, sent=sent)
        root, namespace, prefix = self._aggregates.root(target, member, self._service)
        return plans.Side(
            headers=headers,
            prefixes=prefixes,
            payload=member.name,
            payload_slot=slot,
            payload_type=target.traits.text("mediaType") or member.traits.text("mediaType"),
            root=root,
            namespace=namespace,
            prefix=prefix,
            shapes=shapes,
        )

    def _bound(
        self, member: Member, name: str, time_format: str, *, greedy: bool = False
    ) -> plans.Bound:
        shape = self._model.shape(member.target)
        many = shape.type == "list"
        element = member
        if many:
            element = shape.members["member"]
            shape = self._model.shape(element.target)
        kind = slot_kind(shape)
        if not kind or kind == "document" or not name:
            raise Unusable(
                f"{member.name} is {shape.type}, which goes into no header, query or path"
            )
        written = next(
            (t.text("timestampFormat") for t in (element.traits, shape.traits)
             if "timestampFormat" in t), time_format,
        )  # fmt: skip
        return plans.Bound(
            name=name,
            kind=kind,
            format=written if kind == "timestamp" else "",
            many=many,
            encoded=kind == "string"
            and bool(shape.traits.text("mediaType") or member.traits.text("mediaType")),
            greedy=greedy,
        )

    def _host(self, operation: Operation) -> tuple[str, ...]:
        prefix = operation.shape.traits.members("endpoint").get("hostPrefix", "")
        if not isinstance(prefix, str):
            raise Unusable("its hostPrefix is no text")
        parts: list[str] = []
        end = 0
        for match in _LABEL.finditer(prefix):
            if match[1] not in operation.input.members:
                raise Unusable(f"its host has {{{match[1]}}}, which no member of the input fills")
            parts += [prefix[end : match.start()], match[1]]
            end = match.end()
        parts.append(prefix[end:])
        if not all(_HOST.fullmatch(literal) for literal in parts[::2]):
            raise Unusable(f"its hostPrefix {prefix[:100]!r} has characters that are no host's")
        return tuple(parts) if prefix else ()

    def _checksum(self, operation: Operation) -> Json:
        """Services that want one refuse the request without it."""
        traits = operation.shape.traits
        checksum = traits.members("aws.protocols#httpChecksum")
        if checksum.get("requestChecksumRequired") is True:
            member = checksum.get("requestAlgorithmMember", "")
            return {
                "checksum": "crc32",
                "checksum_member": member if isinstance(member, str) else "",
            }
        return {"checksum": "md5"} if "httpChecksumRequired" in traits else {}

    def _statuses(self, operation: Operation) -> dict[str, str]:
        """Protocols without a name of the error in the answer tell errors apart by their status."""
        if self._service.protocol_trait != "alloy#simpleRestJson":
            return {}
        found: dict[str, list[str]] = {}
        for entry in operation.shape.node.get("errors") or []:
            shape = self._model.shape(str(entry.get("target", "")))
            status = shape.traits.value("httpError")
            if status is None:
                status = 400 if shape.traits.value("error") == "client" else 500
            found.setdefault(str(status), []).append(shape.name)
        return {status: names[0] for status, names in found.items() if len(names) == 1}
