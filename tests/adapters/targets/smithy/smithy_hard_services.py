"""Small services with each hard feature of a protocol, as botocore describes services."""

from typing import Any

Json = dict[str, Any]

_SIMPLE: Json = {
    "Text": {"type": "string"},
    "Secret": {"type": "string", "sensitive": True},
    "Kind": {"type": "string", "enum": ["one", "two words", "three,commas"]},
    "Whole": {"type": "integer"},
    "Long": {"type": "long"},
    "Part": {"type": "double"},
    "Flag": {"type": "boolean"},
    "Bytes": {"type": "blob"},
    "When": {"type": "timestamp"},
    "WhenIso": {"type": "timestamp", "timestampFormat": "iso8601"},
    "WhenHttp": {"type": "timestamp", "timestampFormat": "rfc822"},
    "WhenUnix": {"type": "timestamp", "timestampFormat": "unixTimestamp"},
    "Anything": {"type": "structure", "document": True, "members": {}},
    "Texts": {"type": "list", "member": {"shape": "Text"}},
    "Kinds": {"type": "list", "member": {"shape": "Kind"}},
    "Wholes": {"type": "list", "member": {"shape": "Whole"}},
    "Whens": {"type": "list", "member": {"shape": "When"}},
    "Flags": {"type": "list", "member": {"shape": "Flag"}},
    "Map": {"type": "map", "key": {"shape": "Text"}, "value": {"shape": "Text"}},
    "MapOfMaps": {"type": "map", "key": {"shape": "Kind"}, "value": {"shape": "Map"}},
    "MapOfTimes": {"type": "map", "key": {"shape": "Text"}, "value": {"shape": "WhenHttp"}},
    "ListOfLists": {"type": "list", "member": {"shape": "Texts"}},
    "Tree": {
        "type": "structure",
        "members": {
            "name": {"shape": "Text"},
            "grown": {"shape": "When"},
            "branches": {"shape": "Trees"},
            "named": {"shape": "TreesByName"},
        },
    },
    "Trees": {"type": "list", "member": {"shape": "Tree"}},
    "TreesByName": {"type": "map", "key": {"shape": "Text"}, "value": {"shape": "Tree"}},
    "Choice": {
        "type": "structure",
        "union": True,
        "members": {
            "text": {"shape": "Text"},
            "when": {"shape": "WhenIso"},
            "bytes": {"shape": "Bytes"},
            "tree": {"shape": "Tree"},
        },
    },
    "All": {
        "type": "structure",
        "members": {
            "text": {"shape": "Text"},
            "secret": {"shape": "Secret"},
            "kind": {"shape": "Kind"},
            "whole": {"shape": "Whole"},
            "long": {"shape": "Long"},
            "part": {"shape": "Part"},
            "flag": {"shape": "Flag"},
            "bytes": {"shape": "Bytes"},
            "when": {"shape": "When"},
            "whenIso": {"shape": "WhenIso"},
            "whenHttp": {"shape": "WhenHttp"},
            "whenUnix": {"shape": "WhenUnix"},
            "whenOfMember": {"shape": "When", "timestampFormat": "rfc822"},
            "texts": {"shape": "Texts"},
            "times": {"shape": "MapOfTimes"},
            "maps": {"shape": "MapOfMaps"},
            "lists": {"shape": "ListOfLists"},
            "tree": {"shape": "Tree"},
            "choice": {"shape": "Choice"},
        },
    },
}
_RENAMED: Json = {
    "Renamed": {
        "type": "structure",
        "members": {
            "inner": {"shape": "All", "locationName": "In-Ner"},
            "text": {"shape": "Text", "locationName": "TEXT"},
            "list": {"shape": "Renameds", "locationName": "more"},
        },
    },
    "Renameds": {"type": "list", "member": {"shape": "Renamed"}},
}
# What XML and forms may say of lists, maps and names.
_MARKED: Json = {
    "Items": {"type": "list", "member": {"shape": "Text", "locationName": "item"}},
    "Flat": {"type": "list", "member": {"shape": "All"}, "flattened": True},
    "FlatNamed": {
        "type": "list",
        "member": {"shape": "Text", "locationName": "Each"},
        "flattened": True,
    },
    "Pairs": {
        "type": "map",
        "key": {"shape": "Text", "locationName": "K"},
        "value": {"shape": "Whole", "locationName": "V"},
    },
    "FlatPairs": {
        "type": "map",
        "key": {"shape": "Text", "locationName": "Name"},
        "value": {"shape": "Tree", "locationName": "Value"},
        "flattened": True,
    },
    "Marked": {
        "type": "structure",
        "members": {
            "items": {"shape": "Items"},
            "flat": {"shape": "Flat"},
            "flatNamed": {"shape": "FlatNamed", "locationName": "Each"},
            "pairs": {"shape": "Pairs", "locationName": "PAIRS"},
            "flatPairs": {"shape": "FlatPairs", "locationName": "Pair"},
            "all": {"shape": "All", "locationName": "ALL"},
        },
    },
}
_XML_ONLY: Json = {
    "Grantee": {
        "type": "structure",
        "members": {
            "name": {"shape": "Text"},
            "type": {"shape": "Text", "xmlAttribute": True, "locationName": "xsi:type"},
        },
        "xmlNamespace": {"prefix": "xsi", "uri": "http://www.w3.org/2001/XMLSchema-instance"},
    },
    "Document": {
        "type": "structure",
        "members": {
            "marked": {"shape": "Marked"},
            "grantee": {"shape": "Grantee"},
            "spaced": {"shape": "Text", "xmlNamespace": {"uri": "urn:other"}},
        },
    },
}
_BOUND: Json = {
    "label": {"shape": "Text", "location": "uri", "locationName": "Label"},
    "rest": {"shape": "Text", "location": "uri", "locationName": "Rest"},
    "text": {"shape": "Text", "location": "querystring", "locationName": "te xt"},
    "texts": {"shape": "Texts", "location": "querystring", "locationName": "each"},
    "wholes": {"shape": "Wholes", "location": "querystring", "locationName": "n"},
    "part": {"shape": "Part", "location": "querystring", "locationName": "part"},
    "flag": {"shape": "Flag", "location": "querystring", "locationName": "flag"},
    "when": {"shape": "When", "location": "querystring", "locationName": "when"},
    "whenUnix": {"shape": "WhenUnix", "location": "querystring", "locationName": "unix"},
    "params": {"shape": "Map", "location": "querystring"},
    "header": {"shape": "Text", "location": "header", "locationName": "X-Text"},
    "headerWhole": {"shape": "Whole", "location": "header", "locationName": "X-Whole"},
    "headerFlag": {"shape": "Flag", "location": "header", "locationName": "X-Flag"},
    "headerWhen": {"shape": "When", "location": "header", "locationName": "X-When"},
    "headerIso": {"shape": "WhenIso", "location": "header", "locationName": "X-Iso"},
    "headerTexts": {"shape": "Texts", "location": "header", "locationName": "X-Texts"},
    "headerKinds": {"shape": "Kinds", "location": "header", "locationName": "X-Kinds"},
    "headerWholes": {"shape": "Wholes", "location": "header", "locationName": "X-Wholes"},
    "headerFlags": {"shape": "Flags", "location": "header", "locationName": "X-Flags"},
    "headerWhens": {"shape": "Whens", "location": "header", "locationName": "X-Whens"},
    "prefixed": {"shape": "Map", "location": "headers", "locationName": "X-Meta-"},
}
# botocore splits lists in headers at every comma, those within dates and quotes too.
_ANSWERED = {
    name: member
    for name, member in _BOUND.items()
    if member["location"] in ("header", "headers")
    and name not in ("headerWhens", "headerKinds", "headerTexts")
} | {"status": {"shape": "Whole", "location": "statusCode"}}


def json_rpc(version: str) -> Json:
    return _service(
        {"protocol": "json", "jsonVersion": version, "targetPrefix": "Hard_20260101"},
        {"All": ("All", "All"), "None": (None, None), "Tree": ("Tree", "Tree")},
        {},
    )


def query() -> Json:
    return _service(
        {"protocol": "query", "xmlNamespace": "urn:hard"},
        {"Marked": ("Marked", "Marked"), "All": ("All", "All"), "None": (None, None)},
        dict(_MARKED),
    )


def ec2() -> Json:
    """It has no maps; what it is sent has names of its own. botocore capitalizes those alone that
    are written down, so all are."""
    shapes: Json = {
        "Plain": {
            "type": "structure",
            "members": {
                "text": {"shape": "Text", "locationName": "tExt"},
                "queried": {"shape": "Text", "locationName": "a", "queryName": "B"},
                "items": {"shape": "Ec2Items", "locationName": "itemSet"},
                "when": {"shape": "When", "locationName": "when"},
                "flag": {"shape": "Flag", "locationName": "flag"},
                "more": {"shape": "Plain", "locationName": "more"},
            },
        },
        "Ec2Items": {"type": "list", "member": {"shape": "Plain", "locationName": "item"}},
    }
    return _service({"protocol": "ec2"}, {"Plain": ("Plain", "Plain")}, shapes)


def rest(protocol: str) -> Json:
    xml = protocol == "rest-xml"
    body = "Document" if xml else "Renamed"
    shapes = {**_MARKED, **_XML_ONLY} if xml else dict(_RENAMED)
    members = {"inBody": {"shape": body}, "textInBody": {"shape": "Text", "locationName": "TIB"}}
    shapes |= {
        "BoundIn": _structure({**_BOUND, **members}, required=["label", "rest"]),
        "BoundOut": _structure({**_ANSWERED, **members}),
        "StructureIn": _structure(
            {"data": {"shape": body, "locationName": "Data"}}, payload="data"
        ),
        "BytesIn": _structure(
            {
                "data": {"shape": "Bytes", "streaming": True},
                "type": {"shape": "Text", "location": "header", "locationName": "Content-Type"},
            },
            payload="data",
        ),
        "TextIn": _structure({"data": {"shape": "Text"}}, payload="data"),
        "HostIn": _structure(
            {
                "account": {"shape": "Text", "hostLabel": True, "location": "header",
                            "locationName": "x-account"},
                "token": {"shape": "Text", "idempotencyToken": True},
            },
            required=["account", "token"],
        ),
    }  # fmt: skip
    operations = {
        "Bound": ("BoundIn", "BoundOut", "POST", "/a/{Label}/b/{Rest+}/c?fixed=1&bare"),
        "Structure": ("StructureIn", "StructureIn", "PUT", "/structure"),
        "Bytes": ("BytesIn", "BytesIn", "PUT", "/bytes"),
        "Text": ("TextIn", "TextIn", "PUT", "/text"),
        "Host": ("HostIn", None, "DELETE", "/host"),
        "Nothing": (None, None, "GET", "/nothing"),
    }
    made = _service(
        {"protocol": protocol},
        {name: entry[:2] for name, entry in operations.items()},
        shapes,
        is_named=xml,
    )
    for name, (_, _, method, uri) in operations.items():
        made["operations"][name]["http"] = {"method": method, "requestUri": uri}
    made["operations"]["Host"]["endpoint"] = {"hostPrefix": "{account}.data."}
    made["operations"]["Host"]["idempotent"] = True
    return made


def _structure(members: Json, *, required: list[str] | None = None, payload: str = "") -> Json:
    made: Json = {"type": "structure", "members": members, "required": required or []}
    return {**made, "payload": payload} if payload else made


def _service(
    metadata: Json, operations: dict[str, Any], shapes: Json, *, is_named: bool = False
) -> Json:
    made: Json = {}
    for name, (taken, answered) in operations.items():
        made[name] = {"name": name, "http": {"method": "POST", "requestUri": "/"}}
        if taken:
            made[name]["input"] = {"shape": taken}
            if is_named:
                made[name]["input"] |= {
                    "locationName": f"{name}Request", "xmlNamespace": {"uri": "urn:hard"},
                }  # fmt: skip
        if answered:
            made[name]["output"] = {"shape": answered}
            if metadata["protocol"] == "query":
                made[name]["output"]["resultWrapper"] = f"{name}Result"
    return {
        "version": "2.0",
        "metadata": {
            "apiVersion": "2026-01-01",
            "endpointPrefix": "hard",
            "serviceId": "Hard",
            "protocols": [metadata["protocol"]],
            **metadata,
        },
        "operations": made,
        "shapes": {**_documentless(metadata["protocol"]), **shapes},
    }


def _documentless(protocol: str) -> Json:
    shapes = dict(_SIMPLE)
    if protocol in ("json", "rest-json"):
        members = {**shapes["All"]["members"], "anything": {"shape": "Anything"}}
        shapes["All"] = {**shapes["All"], "members": members}
    return shapes
