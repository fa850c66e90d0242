"""`freehold policy generate`, with what a model wrote prepared."""

import json
from typing import Any

import pytest
from cli_doubles import Answer, Answering, Run

ARN = "arn:aws:bedrock-agentcore:us-east-1:100000000001"
ENGINE, GATEWAY, WRITTEN = "bank-abcdefghij", "bank-0123456789", "written-0123456789"
AT = "2026-01-01T00:00:00Z"
PERMIT = "permit (principal, action, resource);"
FORBID = "forbid (principal, action, resource);"


def answer(**document: Any) -> Answer:
    return Answer(body=json.dumps(document).encode())


def generation(status: str, **more: Any) -> Answer:
    return answer(
        policyEngineId=ENGINE, policyGenerationId=WRITTEN, name="written",
        policyGenerationArn=f"{ARN}:policy-engine/{ENGINE}/policy-generation/{WRITTEN}",
        resource={"arn": f"{ARN}:gateway/{GATEWAY}"}, createdAt=AT, updatedAt=AT, status=status,
        **{"statusReasons": [], **more},
    )  # fmt: skip


def asset(id: str, text: str, finding: str, statement: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {
        "policyGenerationAssetId": id, "rawTextFragment": text,
        "findings": [{"type": finding, "description": f"so says {finding}"}],
    }  # fmt: skip
    return {**made, "definition": {"cedar": {"statement": statement}}} if statement else made


@pytest.fixture
def writing(answering: Answering) -> Answering:
    """A platform with an engine and a gateway, whose model has answered."""
    place = f"/policy-engines/{ENGINE}"
    engine = {
        "policyEngineId": ENGINE, "policyEngineArn": f"{ARN}:policy-engine/{ENGINE}",
        "name": "bank", "createdAt": AT, "updatedAt": AT, "status": "ACTIVE", "statusReasons": [],
    }  # fmt: skip
    gateway = {
        "gatewayId": GATEWAY, "name": "bank", "status": "READY", "createdAt": AT, "updatedAt": AT,
        "authorizerType": "AWS_IAM",
    }  # fmt: skip
    answering.answers = {
        ("GET", "/policy-engines*"): answer(policyEngines=[engine]),
        ("GET", "/gateways*"): answer(items=[gateway]),
        ("GET", "/freehold/v1/health"): answer(account="100000000001"),
    }
    answering.answers = {
        ("POST", f"{place}/policy-generations"): generation("GENERATING"),
        ("GET", f"{place}/policy-generations/{WRITTEN}"): generation(
            "GENERATED", findings="2 of 2 parts of the text have a policy.\nand more"
        ),
        ("GET", f"{place}/policy-generations/{WRITTEN}/assets"): answer(
            policyGenerationAssets=[
                asset("permit-0123456789", "somebody may", "VALID", PERMIT),
                asset("forbid-0123456789", "nobody may", "VALID", FORBID),
            ]
        ),
        ("POST", f"{place}/policies"): policy("ACTIVE"),
        ("GET", f"{place}/policies/*"): policy("ACTIVE"),
        **answering.answers,
    }
    return answering


def policy(status: str) -> Answer:
    return answer(
        policyId="made-0123456789", name="made", policyEngineId=ENGINE, createdAt=AT, updatedAt=AT,
        policyArn=f"{ARN}:policy-engine/{ENGINE}/policy/made-0123456789", status=status,
        enforcementMode="ACTIVE", definition={"cedar": {"statement": PERMIT}}, statusReasons=[],
    )  # fmt: skip


def made(writing: Answering) -> list[dict[str, Any]]:
    posts = [seen for seen in writing.seen if seen.method == "POST"]
    return [json.loads(seen.body) for seen in posts if seen.path.endswith("/policies")]


def test_what_was_written_is_shown_with_what_was_found(run: Run, writing: Answering) -> None:
    done = run("policy", "generate", "bank", "bank", "somebody may, nobody may")
    assert done.exit_code == 0, done.output
    assert done.stdout == (
        "2 of 2 parts of the text have a policy.\n"
        f"# somebody may\n{PERMIT}\nVALID  so says VALID\n\n"
        f"# nobody may\n{FORBID}\nVALID  so says VALID\n"
    )
    assert made(writing) == [], "nothing is made of it unless somebody says so"


def test_what_forbids_is_made_first(run: Run, writing: Answering) -> None:
    done = run("policy", "generate", "bank", "bank", "text", "--create", "--name", "rules")
    assert done.exit_code == 0, done.output
    assets = [
        (each["name"], each["definition"]["policyGeneration"]["policyGenerationAssetId"])
        for each in made(writing)
    ]
    assert assets == [
        ("rules_2", "forbid-0123456789"), ("rules_1", "permit-0123456789"),
    ]  # fmt: skip


def test_nothing_is_permitted_where_a_forbid_is_not_taken(run: Run, writing: Answering) -> None:
    place = f"/policy-engines/{ENGINE}/policies/*"
    writing.answers["GET", place] = policy("CREATE_FAILED")
    done = run("policy", "generate", "bank", "bank", "text", "--create", "--name", "rules")
    assert done.exit_code == 1
    assert [each["name"] for each in made(writing)] == ["rules_2"]
    assert "Not made" in done.stderr


def test_only_what_is_valid_is_made(run: Run, writing: Answering) -> None:
    place = f"/policy-engines/{ENGINE}/policy-generations/{WRITTEN}/assets"
    writing.answers["GET", place] = answer(
        policyGenerationAssets=[
            asset("all-0123456789", "all may", "ALLOW_ALL", PERMIT),
            asset("nice-0123456789", "be nice", "NOT_TRANSLATABLE"),
        ]
    )
    done = run("policy", "generate", "bank", "bank", "text", "--create")
    assert done.exit_code == 1
    assert "ALLOW_ALL  so says ALLOW_ALL" in done.stdout
    assert "# be nice\nNOT_TRANSLATABLE" in done.stdout
    assert made(writing) == []


def test_that_nothing_was_written_is_an_error_with_the_reason(run: Run, writing: Answering) -> None:
    place = f"/policy-engines/{ENGINE}/policy-generations/{WRITTEN}"
    writing.answers["GET", place] = generation("GENERATE_FAILED", statusReasons=["it would not"])
    done = run("policy", "generate", "bank", "bank", "text", "--json")
    assert done.exit_code == 1
    error = json.loads(done.stderr)["error"]
    assert (error["code"], error["message"]) == (
        "GENERATE_FAILED", "No policy was written: it would not",
    )  # fmt: skip
