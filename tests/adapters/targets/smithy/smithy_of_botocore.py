"""A service as botocore describes it, told once more as a Smithy model.

Nothing of ours is in here, so that what botocore makes of its own description can be held against
what we make of this one.
"""

import re
from typing import Any

from botocore.loaders import Loader

Json = dict[str, Any]

NAMESPACE = "example.told"
_PROTOCOLS = {
    "rest-json": "aws.protocols#restJson1",
    "rest-xml": "aws.protocols#restXml",
    "query": "aws.protocols#awsQuery",
    "ec2": "aws.protocols#ec2Query",
}
_TYPES = {"character": "string", "bigdecimal": "bigDecimal"}
_TIMES = {"iso8601": "date-time", "rfc822": "http-date", "unixTimestamp": "epoch-seconds"}
_LOADER = Loader()


def description_of(service: str) -> Json:
    found: Json = _LOADER.load_service_model(service, "service-2")
    return found


def rules_of(service: str) -> Json:
    found: Json = _LOADER.load_service_model(service, "endpoint-rule-set-1")
    return found


def protocol_of(description: Json) -> str:
    """botocore's name of what it would speak with the service."""
    given = description["metadata"]
    known = ("json", "rest-json", "rest-xml", "query", "ec2")
    return next((p for p in given.get("protocols", [given["protocol"]]) if p in known), "")


def told(description: Json, rules: Json | None = None) -> Json:
    return _Teller(description, rules).model()


class _Teller:
    def __init__(self, description: Json, rules: Json | None) -> None:
        self._given, self._rules = description, rules
        self._protocol = protocol_of(description)
        self._shapes: Json = {}

    def model(self) -> Json:
        for name, shape in self._given["shapes"].items():
            self._shapes[_id(name)] = self._shape(shape)
        operations = [self._operation(n, o) for n, o in self._given["operations"].items()]
        metadata = self._given["metadata"]
        name = metadata["targetPrefix"] if self._protocol == "json" else "The.Service"
        traits: Json = {
            self._protocol_trait(): {},
            "aws.auth#sigv4": {"name": metadata.get("signingName", metadata["endpointPrefix"])},
            "aws.api#service": {
                "sdkId": metadata["serviceId"], "endpointPrefix": metadata["endpointPrefix"],
            },
        }  # fmt: skip
        if "xmlNamespace" in metadata:
            traits["smithy.api#xmlNamespace"] = _namespace(metadata["xmlNamespace"])
        if "awsQueryCompatible" in metadata:
            traits["aws.protocols#awsQueryCompatible"] = {}
        if self._rules is not None:
            traits["smithy.rules#endpointRuleSet"] = self._rules
        self._shapes[_id(name)] = {
            "type": "service",
            "version": metadata["apiVersion"],
            "operations": [{"target": o} for o in operations],
            "traits": traits,
        }
        return {"smithy": "2.0", "shapes": self._shapes}

    def _protocol_trait(self) -> str:
        if self._protocol == "json":
            version = self._given["metadata"].get("jsonVersion", "1.0").replace(".", "_")
            return f"aws.protocols#awsJson{version}"
        return _PROTOCOLS[self._protocol]

    def _shape(self, shape: Json) -> Json:
        kind = _TYPES.get(shape["type"], shape["type"])
        traits: Json = {}
        if shape.get("documentation"):
            traits["smithy.api#documentation"] = shape["documentation"]
        if "timestampFormat" in shape:
            traits["smithy.api#timestampFormat"] = _TIMES[shape["timestampFormat"]]
        if kind == "structure":
            return self._structure(shape, traits)
        if kind == "list":
            self._limit(shape, "length", traits)
            return {"type": "list", "member": self._member(shape["member"]), "traits": traits}
        if kind == "map":
            self._limit(shape, "length", traits)
            return {
                "type": "map",
                "key": self._member(shape["key"]),
                "value": self._member(shape["value"]),
                "traits": traits,
            }
        if kind == "string" and "enum" in shape:
            return {
                "type": "enum",
                "members": {
                    f"V{i}": {
                        "target": "smithy.api#Unit",
                        "traits": {"smithy.api#enumValue": value},
                    }
                    for i, value in enumerate(shape["enum"])
                },
                "traits": traits,
            }
        self._limit(shape, "length" if kind in ("string", "blob") else "range", traits)
        if "pattern" in shape:
            traits["smithy.api#pattern"] = shape["pattern"]
        if shape.get("sensitive"):
            traits["smithy.api#sensitive"] = {}
        return {"type": kind, "traits": traits}

    @staticmethod
    def _limit(shape: Json, trait: str, traits: Json) -> None:
        limits = {n: shape[n] for n in ("min", "max") if n in shape}
        if limits:
            traits[f"smithy.api#{trait}"] = limits

    def _structure(self, shape: Json, traits: Json) -> Json:
        if shape.get("document"):
            return {"type": "document", "traits": traits}
        members = {}
        for name, member in shape.get("members", {}).items():
            made = members[name] = self._member(member, name=name)
            if shape.get("payload") == name:
                made["traits"]["smithy.api#httpPayload"] = {}
                if self._protocol == "rest-xml" and "locationName" in member:
                    made["traits"]["smithy.api#xmlName"] = member["locationName"]
            if name in shape.get("required", []):
                made["traits"]["smithy.api#required"] = {}
        if "xmlNamespace" in shape:
            traits["smithy.api#xmlNamespace"] = _namespace(shape["xmlNamespace"])
        if shape.get("eventstream"):
            traits["smithy.api#streaming"] = {}
        is_union = shape.get("union") or shape.get("eventstream")
        return {"type": "union" if is_union else "structure", "members": members, "traits": traits}

    def _member(self, member: Json, *, name: str = "") -> Json:
        target = self._given["shapes"][member["shape"]]
        traits: Json = {}
        for ours, theirs in (
            ("idempotencyToken", "idempotencyToken"), ("xmlAttribute", "xmlAttribute"),
            ("hostLabel", "hostLabel"),
        ):  # fmt: skip
            if member.get(theirs):
                traits[f"smithy.api#{ours}"] = {}
        if member.get("streaming") or target.get("streaming"):
            traits["smithy.api#streaming"] = {}
        if member.get("jsonvalue"):
            traits["smithy.api#mediaType"] = "application/json"
        if member.get("documentation"):
            traits["smithy.api#documentation"] = member["documentation"]
        if "timestampFormat" in member:
            traits["smithy.api#timestampFormat"] = _TIMES[member["timestampFormat"]]
        if "xmlNamespace" in member:
            traits["smithy.api#xmlNamespace"] = _namespace(member["xmlNamespace"])
        if "queryName" in member:
            traits["aws.protocols#ec2QueryName"] = member["queryName"]
        flattened = target.get("flattened") or member.get("flattened")
        if flattened:
            traits["smithy.api#xmlFlattened"] = {}
        self._place(member, target, name, traits, is_flattened=bool(flattened))
        return {"target": _id(member["shape"]), "traits": traits}

    def _place(
        self, member: Json, target: Json, name: str, traits: Json, *, is_flattened: bool
    ) -> None:
        location = member.get("location")
        wire = member.get("locationName", target.get("locationName", name))
        if location == "uri":
            traits["smithy.api#httpLabel"] = {}
        elif location == "querystring":
            if target["type"] == "map":
                traits["smithy.api#httpQueryParams"] = {}
            else:
                traits["smithy.api#httpQuery"] = wire
        elif location == "header":
            traits["smithy.api#httpHeader"] = wire
        elif location == "headers":
            traits["smithy.api#httpPrefixHeaders"] = member.get("locationName", "")
        elif location == "statusCode":
            traits["smithy.api#httpResponseCode"] = {}
        elif self._protocol == "rest-json":
            if wire != name:
                traits["smithy.api#jsonName"] = wire
        elif self._protocol != "json":
            # botocore looks for the name of what is flattened at the list's own member.
            inner = target.get("member", {}).get("locationName") if is_flattened else None
            if self._protocol != "ec2" and inner:
                wire = inner
            if wire != name:
                traits["smithy.api#xmlName"] = wire

    def _operation(self, name: str, operation: Json) -> str:
        http = operation.get("http", {"method": "POST", "requestUri": "/"})
        traits: Json = {}
        if self._protocol.startswith("rest"):
            uri = self._uri(http.get("requestUri", "/"), operation)
            traits["smithy.api#http"] = {"method": http["method"], "uri": uri, "code": 200}
        if operation.get("documentation"):
            traits["smithy.api#documentation"] = operation["documentation"]
        if "endpoint" in operation:
            traits["smithy.api#endpoint"] = operation["endpoint"]
        if operation.get("httpChecksumRequired"):
            traits["smithy.api#httpChecksumRequired"] = {}
        if "httpChecksum" in operation:
            traits["aws.protocols#httpChecksum"] = operation["httpChecksum"]
        node: Json = {"type": "operation", "traits": traits}
        for way in ("input", "output"):
            if way not in operation:
                continue
            node[way] = {"target": self._root(name, way, operation[way])}
        # botocore gives operations and shapes names of two kinds; Smithy has one.
        operation_id = f"{NAMESPACE}.operations#{name}"
        self._shapes[operation_id] = node
        return operation_id

    def _root(self, name: str, way: str, reference: Json) -> str:
        """An input or output has a name and namespace of its own where botocore says so."""
        if "locationName" not in reference and "xmlNamespace" not in reference:
            return _id(reference["shape"])
        shape = self._shapes[_id(reference["shape"])]
        traits = dict(shape["traits"])
        if "locationName" in reference:
            traits["smithy.api#xmlName"] = reference["locationName"]
        if "xmlNamespace" in reference:
            traits["smithy.api#xmlNamespace"] = _namespace(reference["xmlNamespace"])
        root = f"{NAMESPACE}.{way}#{name}"
        self._shapes[root] = {**shape, "traits": traits}
        return root

    def _uri(self, uri: str, operation: Json) -> str:
        """botocore's labels are wire names, Smithy's are members."""
        if "input" not in operation:
            return uri
        members = self._given["shapes"][operation["input"]["shape"]]["members"]
        names = {
            m.get("locationName", n): n for n, m in members.items() if m.get("location") == "uri"
        }
        return re.sub(r"\{([^{}+]+)(\+?)\}", lambda m: f"{{{names.get(m[1], m[1])}{m[2]}}}", uri)


def _id(name: str) -> str:
    return f"{NAMESPACE}#{name}"


def _namespace(given: Json | str) -> Json:
    if isinstance(given, str):
        return {"uri": given}
    return {n: given[n] for n in ("uri", "prefix") if n in given}
