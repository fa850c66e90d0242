"""The corpus of hand-written policies, and the two gateways that they are written for."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import cedarpy
from cedar_requests import Pools
from cedar_worlds import (
    BOOL,
    DATETIME,
    DECIMAL,
    IP,
    LONG,
    STRING,
    Act,
    EntityKind,
    Field,
    Type,
    World,
    record,
)

from freehold.ports.policies import Rule

_HERE = Path(__file__).parent
_SPACE = "AgentCore"
STRINGS = Type("Set", element=STRING)

TOOLS: dict[str, tuple[Field, ...]] = {
    "Bank___get_balance": (Field("account", STRING),),
    "Bank___transfer": (
        Field("from", STRING), Field("to", STRING), Field("amount", LONG),
        Field("currency", STRING), Field("memo", STRING, False),
        Field("approval", record(
            Field("manager", STRING), Field("approved", BOOL), Field("limit", LONG, False)
        ), False),
    ),
    "Refund___process": (
        Field("orderId", STRING), Field("amount", LONG), Field("reason", STRING, False),
        Field("express", BOOL, False),
    ),
    "Insurance___file_claim": (
        Field("claimType", STRING), Field("amount", DECIMAL), Field("attachments", STRINGS),
        Field("urgent", BOOL, False),
    ),
    "Travel___book_flight": (
        Field("origin", STRING), Field("destination", STRING), Field("passengers", LONG),
        Field("price", DECIMAL), Field("cabin", STRING, False),
        Field("dates", record(Field("depart", STRING), Field("return", STRING, False))),
    ),
    "Shipping___ship": (
        Field("country", STRING), Field("weight", DECIMAL), Field("items", STRINGS),
        Field("insured", BOOL, False),
        Field("address", record(
            Field("street", STRING), Field("city", STRING), Field("zip", STRING),
            Field("country", STRING),
        )),
    ),
    "Admin___delete_resource": (
        Field("resourceId", STRING), Field("region", STRING), Field("force", BOOL, False),
        Field("tags", STRINGS, False),
    ),
    "Files___write_file": (
        Field("path", STRING), Field("content", STRING), Field("size", LONG),
        Field("overwrite", BOOL, False),
    ),
    "Search___query": (
        Field("q", STRING), Field("limit", LONG, False),
        Field("filters", record(Field("sources", STRINGS, False), Field("safe", BOOL, False)),
              False),
    ),
}  # fmt: skip


class Entry(NamedTuple):
    rule: Rule
    expect: str
    """`fine`, or a Property: what a person says of the policy by itself."""
    schema: dict[str, Any]


def shop(principal: str) -> World:
    """The gateway of the corpus; its callers are all of one kind."""
    session = record(
        Field("id", STRING), Field("agent", STRING, False), Field("user", STRING, False)
    )
    actions = {}
    for name, fields in TOOLS.items():
        context = record(
            Field("input", record(*fields)), Field("time", DATETIME),
            Field("session", session, False), Field("source", IP, False),
        )  # fmt: skip
        target = name.partition("___")[0]
        kinds = ((f"{_SPACE}::{principal}",), (f"{_SPACE}::Gateway",))
        actions[name] = Act(*kinds, context, (target,))
    targets = {name.partition("___")[0]: ("CallTool",) for name in TOOLS}
    named = (Field("id", STRING),)
    arn = "arn:aws:bedrock-agentcore:us-east-1:123456789012:gateway/shop"
    entities = {
        f"{_SPACE}::OAuthUser": EntityKind(("alice", "bob"), named, STRING),
        f"{_SPACE}::IamEntity": EntityKind(("arn:aws:iam::123456789012:user/alice",), named),
        f"{_SPACE}::Gateway": EntityKind((arn, "other"), (*named, Field("name", STRING))),
    }
    groups = {"Mcp": (), "CallTool": ("Mcp",), **targets}
    return World(_SPACE, entities, actions, groups, same_id=True)


def corpus() -> list[Entry]:
    oauth = _read("corpus_oauth.cedar", shop("OAuthUser").schema())
    return oauth + _read("corpus_iam.cedar", shop("IamEntity").schema())


def _read(file: str, schema: dict[str, Any]) -> list[Entry]:
    text = (_HERE / file).read_text("utf-8")
    entries = []
    for policy in json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"].values():
        notes = policy["annotations"]
        alone = {"staticPolicies": {"p": policy}, "templates": {}, "templateLinks": []}
        statement = cedarpy.policies_from_json_str(json.dumps(alone))
        entries.append(Entry(Rule(id=notes["id"], statement=statement), notes["expect"], schema))
    return entries


def pools_of(statement: str) -> Pools:
    """The constants of the policy, so that requests come near it."""
    pools = Pools()
    texts = re.findall(r'"((?:[^"\\]|\\.)*)"', statement)
    pools.String += [
        text.replace("\\", "").replace("*", filling) for text in texts for filling in ("", "x")
    ]
    pools.tag_keys = [*re.findall(r'hasTag\("(\w+)"\)', statement), "role"]
    pools.Long += [int(number) for number in re.findall(r"(?<![\w.])\d{1,18}(?![\w.])", statement)]
    return pools
