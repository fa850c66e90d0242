"""Tools of a model of S3, against a server that speaks S3 and checks signatures: ours."""

import base64
import importlib.util
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from smithy_of_botocore import description_of, rules_of, told

from freehold.adapters.aws_signing.signer import Keys, sigv4_signer
from freehold.adapters.egress.addresses import denied, forbidden
from freehold.adapters.targets.smithy import SmithyTargets
from freehold.adapters.web.client import CheckedWeb
from freehold.adapters.web.destination import Destinations
from freehold.ports.targets import Credential, Definition, Errand, Place

Json = dict[str, Any]
ODD_KEYS = ("plain.txt", "a b/c+d.txt", "ü/€~*'()!.txt", "100%/%2F.txt", "a//b", "x&y=z?#;:@,$")


def s3_edge_driver() -> ModuleType:
    """It stands beside the tests of the edge."""
    name = "s3_edge_driver"
    if name not in sys.modules:
        path = Path(__file__).parents[3] / "edges" / "s3" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


class Storage:
    def __init__(self, client: SmithyTargets, place: Place, tools: dict[str, Definition],
                 credential: Credential) -> None:  # fmt: skip
        self._client, self._place, self._tools = client, place, tools
        self._credential = credential

    async def call(self, tool: str, **arguments: Any) -> Json:
        errand = Errand(request_id="r", owner="someone", credential=self._credential)
        return await self._client.call(self._place, self._tools[tool], arguments, errand)

    async def done(self, tool: str, **arguments: Any) -> Json:
        result = await self.call(tool, **arguments)
        assert result["isError"] is False, (tool, result["content"])
        found: Json = result["structuredContent"]
        return found


@pytest.fixture
async def storage(tmp_path: Path, tenant: str) -> AsyncIterator[Storage]:
    driver = s3_edge_driver()
    model = told(description_of("s3"), rules_of("s3"))
    model["shapes"]["example.told.operations#GetBucketLocation"]["traits"][
        "aws.customizations#s3UnwrappedXmlOutput"
    ] = {}
    with driver.served(tmp_path) as running:
        web = CheckedWeb(
            Destinations(denied=denied, forbidden=forbidden, listed=frozenset({"127.0.0.1"}),
                         setting="LISTED")
        )  # fmt: skip
        await web.start()
        client = SmithyTargets(web)
        place = Place(
            tenant=tenant, gateway_id="g", target_id="t", name="s3", kind="mcp.smithyModel",
            gateway_arn=f"arn:aws:bedrock-agentcore:{driver.REGION}:{tenant}:gateway/g",
            configuration={"inlinePayload": json.dumps(model), "endpoint": running.endpoint},
        )  # fmt: skip
        described = await client.describe(place, Errand(request_id="r", owner="someone"))
        signing = described.server["signing"]
        assert (signing["service"], signing["region"]) == ("s3", driver.REGION)
        known = Place(
            tenant=tenant, gateway_id="g", target_id="t", name="s3", kind=place.kind,
            gateway_arn=place.gateway_arn, configuration=place.configuration,
            server=described.server,
        )  # fmt: skip
        key = running.keys.make(tenant)
        signer = sigv4_signer(Keys(key.id, key.secret), **signing)
        yield Storage(
            client, known, {d.name: d for d in described.definitions}, Credential(signer=signer)
        )
        await web.close()


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def test_objects_of_any_name_are_written_listed_read_and_deleted(storage: Storage) -> None:
    await storage.done(
        "CreateBucket",
        Bucket="things",
        CreateBucketConfiguration={"LocationConstraint": "eu-central-1"},
    )
    location = await storage.done("GetBucketLocation", Bucket="things")
    assert location == {"LocationConstraint": "eu-central-1"}
    for key in ODD_KEYS:
        put = await storage.done(
            "PutObject", Bucket="things", Key=key, Body=encoded(key), ContentType="text/plain",
            Metadata={"made-by": "a test"},
        )  # fmt: skip
        assert put["ETag"]
    listed = await storage.done("ListObjectsV2", Bucket="things", MaxKeys=100)
    assert sorted(entry["Key"] for entry in listed["Contents"]) == sorted(ODD_KEYS)
    assert listed["KeyCount"] == len(ODD_KEYS)
    for key in ODD_KEYS:
        result = await storage.call("GetObject", Bucket="things", Key=key)
        found = result["structuredContent"]
        assert base64.b64decode(found["Body"]).decode() == key
        assert found["Metadata"] == {"made-by": "a test"}
        assert found["LastModified"].endswith("Z")
        assert result["content"][1]["text"] == key
    part = await storage.done("GetObject", Bucket="things", Key="plain.txt", Range="bytes=0-4")
    assert base64.b64decode(part["Body"]) == b"plain"
    # It refuses a deletion of several without a checksum.
    gone = await storage.done(
        "DeleteObjects", Bucket="things", Delete={"Objects": [{"Key": key} for key in ODD_KEYS]}
    )
    assert {entry["Key"] for entry in gone["Deleted"]} == set(ODD_KEYS)
    assert "Contents" not in await storage.done("ListObjectsV2", Bucket="things")


async def test_a_refusal_of_the_server_has_its_code_and_message(storage: Storage) -> None:
    result = await storage.call("GetObject", Bucket="missing", Key="a")
    assert result["isError"] is True
    found = result["structuredContent"]
    assert (found["code"], found["status"]) == ("NoSuchBucket", 404)
    # There is no body in an answer to HEAD: its status is all there is.
    result = await storage.call("HeadObject", Bucket="missing", Key="a")
    assert result["structuredContent"]["status"] == 404


async def test_many_parts_are_put_together(storage: Storage) -> None:
    await storage.done(
        "CreateBucket",
        Bucket="parts",
        CreateBucketConfiguration={"LocationConstraint": "eu-central-1"},
    )
    begun = await storage.done("CreateMultipartUpload", Bucket="parts", Key="whole")
    upload = {"Bucket": "parts", "Key": "whole", "UploadId": begun["UploadId"]}
    big = base64.b64encode(b"x" * (5 << 20)).decode()
    parts = []
    for number, body in enumerate((big, encoded("end")), 1):
        made = await storage.done("UploadPart", **upload, PartNumber=number, Body=body)
        parts.append({"PartNumber": number, "ETag": made["ETag"]})
    await storage.done("CompleteMultipartUpload", **upload, MultipartUpload={"Parts": parts})
    head = await storage.done("HeadObject", Bucket="parts", Key="whole")
    assert head["ContentLength"] == (5 << 20) + 3
