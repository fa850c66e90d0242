"""Services that have each hard feature of their protocol: requests and answers as botocore's."""

import json
from typing import Any

import pytest
from smithy_compared import compared
from smithy_hard_services import ec2, json_rpc, query, rest
from smithy_of_botocore import told

from freehold.adapters.targets.smithy import convert

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("protocol", "description", "operations"),
    [
        ("awsJson1_0", json_rpc("1.0"), 3),
        ("awsJson1_1", json_rpc("1.1"), 3),
        ("awsQuery", query(), 3),
        ("ec2Query", ec2(), 1),
        ("restJson1", rest("rest-json"), 6),
        ("restXml", rest("rest-xml"), 6),
    ],
)
def test_every_feature_is_sent_and_read_as_botocore_does(
    protocol: str, description: Json, operations: int
) -> None:
    described = convert(json.dumps(told(description)), region="us-east-1")
    assert described.server["protocol"] == protocol
    count, differences = compared("hard", description, described, seeds=range(1, 41))
    assert not differences, "\n".join(differences[:3])
    assert count == operations
