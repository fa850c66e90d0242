"""Rules of endpoints: as botocore evaluates them, and no more than rules."""

import base64
import itertools
import json
import struct
from typing import Any

import pytest
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import EndpointProviderError
from botocore.loaders import Loader, UnknownServiceError
from smithy_models import model, operation
from smithy_of_botocore import rules_of

from freehold.adapters.targets.smithy import convert
from freehold.adapters.targets.smithy.endpoint_rules import NoEndpoint, resolved

Json = dict[str, Any]
REGIONS = ("us-east-1", "eu-central-1", "cn-north-1", "us-gov-west-1", "nowhere-1")
SOME = ("s3", "iam", "sts", "dynamodb", "route53", "cloudfront", "lambda", "ec2", "s3control",
        "bedrock-agentcore", "events", "organizations")  # fmt: skip


def differences(services: tuple[str, ...] | list[str]) -> tuple[int, list[str]]:
    partitions = Loader().load_data("partitions")
    count, found = 0, []
    for service in services:
        try:
            rules = rules_of(service)
        except UnknownServiceError:
            continue
        provider = EndpointProvider(rules, partitions)
        for region in REGIONS:
            given = {"Region": region, "UseFIPS": False, "UseDualStack": False}
            known = {n: v for n, v in given.items() if n in rules["parameters"]}
            try:
                theirs: Any = provider.resolve_endpoint(**known).url
            except EndpointProviderError:
                theirs = None
            try:
                ours: Any = resolved(rules, region)[0]
            except NoEndpoint:
                ours = None
            count += 1
            if theirs != ours:
                found.append(f"{service} {region}: {theirs} {ours}")
    return count, found


def test_trees_lead_where_botocore_says() -> None:
    count, found = differences(SOME)
    assert not found
    assert count == len(SOME) * len(REGIONS)


@pytest.mark.slow
def test_all_trees_lead_where_botocore_says() -> None:
    count, found = differences(Loader().list_available_services("endpoint-rule-set-1"))
    assert not found
    assert count > 1500


def diagram(*nodes: tuple[int, int, int], root: int) -> Json:
    """Two conditions: the region is known, and it is in China."""
    region = {"ref": "Region"}
    partition = {"fn": "aws.partition", "argv": [region], "assign": "P"}
    return {
        "version": "1.1",
        "parameters": {
            "Region": {"type": "string", "builtIn": "AWS::Region"},
            "UseFIPS": {"type": "boolean", "builtIn": "AWS::UseFIPS", "default": False},
        },
        "conditions": [
            {"fn": "isSet", "argv": [region]},
            partition,
            {"fn": "stringEquals", "argv": [
                {"fn": "getAttr", "argv": [{"ref": "P"}, "name"]}, "aws-cn",
            ]},
        ],
        "results": [
            {"conditions": [], "type": "endpoint", "endpoint": {
                "url": "https://pets.{Region}.{P#dnsSuffix}",
                "properties": {"authSchemes": [
                    {"name": "sigv4", "signingName": "pets", "signingRegion": "{Region}"},
                ]},
            }},
            {"conditions": [], "type": "endpoint", "endpoint": {"url": "https://pets.example.cn"}},
            {"conditions": [], "type": "error", "error": "no region"},
        ],
        "root": root,
        "nodeCount": len(nodes),
        "nodes": base64.b64encode(b"".join(struct.pack(">iii", *n) for n in nodes)).decode(),
    }  # fmt: skip


R = 100_000_000
NODES = ((-1, 1, -1), (0, 3, R + 3), (1, 4, R), (2, R + 2, R + 1))


@pytest.mark.parametrize(
    ("rules", "region", "url"),
    [
        (diagram(*NODES, root=2), "eu-west-1", "https://pets.eu-west-1.amazonaws.com"),
        (diagram(*NODES, root=2), "cn-north-1", "https://pets.example.cn"),
        (diagram(*NODES, root=2), "", None),
        # A negative reference means its condition the other way around.
        (diagram(*NODES, root=-2), "", None),
        (
            diagram((-1, 1, -1), (0, -3, R), (1, R, 4), (2, R + 2, R + 1), root=2),
            "eu-west-1",
            "https://pets.eu-west-1.amazonaws.com",
        ),
        (diagram((-1, 1, -1), (0, 1, -1), root=2), "eu-west-1", None),
        (diagram((-1, 1, -1), (0, 2, 2), root=2), "eu-west-1", None),
        (diagram((0, 50, 50), root=1), "eu-west-1", None),
        (diagram((0, R + 9, R + 9), (0, R + 9, R + 9), root=2), "eu-west-1", None),
    ],
)
def test_diagrams_lead_to_their_results_and_nowhere_else(
    rules: Json, region: str, url: str | None
) -> None:
    if url is None:
        with pytest.raises(NoEndpoint):
            resolved(rules, region)
    else:
        assert resolved(rules, region)[0] == url


def test_a_diagram_says_how_to_sign() -> None:
    text = json.dumps(
        model({"Get": operation(http=("GET", "/"))},
              traits={"smithy.rules#endpointBdd": diagram(*NODES, root=2)})
    )  # fmt: skip
    assert convert(text, region="eu-west-1").server["signing"] == {
        "service": "pets",
        "region": "eu-west-1",
    }


def ruled(*conditions: Json, url: Any = "https://pets.example.com") -> Json:
    endpoint = {"conditions": list(conditions), "type": "endpoint", "endpoint": {"url": url}}
    return {"version": "1.0", "parameters": {}, "rules": [endpoint]}


@pytest.mark.parametrize(
    "name",
    ["__init__", "__setattr__", "__getattribute__", "__reduce_ex__", "call_function",
     "callFunction", "resolve_value", "__class__", "is_partition_match", "", None, 5],
)  # fmt: skip
def test_a_rule_calls_the_functions_of_rules_and_no_others(name: Any) -> None:
    call = {"fn": name, "argv": ["x", "y"]}
    for rules in (ruled(call), ruled({"fn": "isSet", "argv": [call]}), ruled(url=call)):
        with pytest.raises(NoEndpoint):
            resolved(rules, "eu-west-1")


def test_a_text_in_rules_does_not_grow_without_an_end() -> None:
    names = ["a" * n for n in range(1, 30)]
    grown = [{"fn": "uriEncode", "argv": ["x" * 100], "assign": "a"}]
    for shorter, longer in itertools.pairwise(names):
        grown.append({"fn": "uriEncode", "argv": [f"{{{shorter}}}" * 9], "assign": longer})
    with pytest.raises(NoEndpoint):
        resolved(ruled(*grown), "eu-west-1")


def test_rules_that_are_none_have_no_endpoint() -> None:
    deep: Any = "x"
    for _ in range(5000):
        deep = {"fn": "isSet", "argv": [deep]}
    none: list[Any] = [
        ruled(deep),
        ruled(url=5),
        ruled(url="{gone}"),
        {"rules": 5},
        {"rules": [5]},
        {"rules": []},
        {"rules": [{"conditions": [5]}]},
        {"parameters": [], "rules": []},
        {"nodes": "x"},
        {"root": "x", "nodes": "", "conditions": [], "results": []},
    ]
    for rules in none:
        with pytest.raises(NoEndpoint):
            resolved(rules, "eu-west-1")
