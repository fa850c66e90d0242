"""Models of real services: what we send and read is what botocore sends and reads."""

import json

import pytest
from botocore.loaders import Loader
from smithy_compared import compared
from smithy_of_botocore import description_of, protocol_of, rules_of, told

from freehold.adapters.targets.smithy import convert

SOME = (
    "s3", "dynamodb", "sqs", "sts", "sns", "lambda", "bedrock-agentcore",
    "bedrock-agentcore-control", "iam", "kinesis", "route53", "secretsmanager", "cloudwatch",
)  # fmt: skip
# botocore leaves elements of its own parser in it: two of its members have one name.
_BROKEN_IN_BOTOCORE = "s3.GetBucketNotification answer"


def differences_of(service: str, *seeds: int) -> tuple[int, list[str]]:
    description = description_of(service)
    made = convert(
        json.dumps(told(description, rules_of(service))), region="us-west-2", tools_max=5000
    )
    count, differences = compared(service, description, made, seeds=seeds)
    return count, [d for d in differences if not d.startswith(_BROKEN_IN_BOTOCORE)]


@pytest.mark.parametrize("service", SOME)
def test_what_goes_out_and_comes_in_is_what_botocore_makes_of_it(service: str) -> None:
    count, differences = differences_of(service, 1, 2)
    assert not differences, "\n".join(differences[:5])
    assert count > 5


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_services_that_botocore_knows_are_spoken_to_as_it_does() -> None:
    total, differences = 0, []
    for service in Loader().list_available_services("service-2"):
        if protocol_of(description_of(service)):
            count, found = differences_of(service, 3)
            total += count
            differences += found
    assert not differences, "\n".join(differences[:5])
    assert total > 15_000


def test_a_service_whose_protocol_is_cbor_alone_has_no_tools_and_says_why() -> None:
    description = description_of("sqs")
    model = told(description)
    service = next(s for s in model["shapes"].values() if s["type"] == "service")
    service["traits"]["smithy.protocols#rpcv2Cbor"] = service["traits"].pop(
        "aws.protocols#awsJson1_0"
    )
    described = convert(json.dumps(model))
    assert described.definitions == ()
    (problem,) = described.problems
    assert "smithy.protocols#rpcv2Cbor" in problem.why
    assert problem.skipped


@pytest.mark.parametrize(
    ("service", "endpoint", "signing"),
    [
        ("dynamodb", "https://dynamodb.eu-central-1.amazonaws.com", ("dynamodb", "eu-central-1")),
        ("iam", "https://iam.amazonaws.com", ("iam", "us-east-1")),
        ("s3", "https://s3.eu-central-1.amazonaws.com", ("s3", "eu-central-1")),
        (
            "bedrock-agentcore-control",
            "https://bedrock-agentcore-control.eu-central-1.amazonaws.com",
            ("bedrock-agentcore", "eu-central-1"),
        ),
    ],
)
def test_the_rules_of_a_model_say_where_it_is_and_how_to_sign(
    service: str, endpoint: str, signing: tuple[str, str]
) -> None:
    model = told(description_of(service), rules_of(service))
    server = convert(json.dumps(model), region="eu-central-1").server
    assert (server["endpoint"], server["endpointFrom"]) == (endpoint, "rules")
    assert (server["signing"]["service"], server["signing"]["region"]) == signing
