"""The variables that tell OpenTelemetry in a session where it is, and whose."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from freehold.edges.doorway import session_environment
from freehold.ports.images import CONFIG_FILE, ImageConfig
from freehold.ports.interpreters import Interpreter
from freehold.ports.placement import Launch, SessionKey
from freehold.ports.sandbox import Limits, SandboxSpec
from freehold.services.runtime.launch import session_spec

ARN = "arn:aws:bedrock-agentcore:us-east-1:100000000001:runtime/dice-abc"
DOORWAY = session_environment(7400, region="us-east-1", telemetry=True)
CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


def spec(tmp_path: Path, **changes: Any) -> SandboxSpec:
    launch = Launch(
        key=SessionKey("100000000001", "dice-abc", "prod", "s" * 36),
        runtime_arn=ARN, runtime_name="dice", version=3, user=None, tier="",
        interpreter="PYTHON_3_11", code="code", layers=(), port=8080,
        entry_point=("opentelemetry-instrument", "main.py"), environment={},
        idle_seconds=900, lifetime_seconds=28800, limits=Limits(),
    )  # fmt: skip
    (tmp_path / "code").mkdir(exist_ok=True)
    python = Interpreter("PYTHON_3_11", "3.11.9", "/usr/bin/python3.11")
    node = Interpreter("NODE_22", "22.1.0", "/usr/bin/node")
    return session_spec(
        msgspec.structs.replace(launch, **changes),
        sandbox_id="sandbox", directory=tmp_path, output=tmp_path / "log", build_root=tmp_path,
        interpreters={"PYTHON_3_11": python, "NODE_22": node}, doorway_environment=DOORWAY,
    )  # fmt: skip


def of_image(tmp_path: Path, image: dict[str, str], own: dict[str, str]) -> dict[str, str]:
    (tmp_path / "image").mkdir()
    config = ImageConfig(digest="sha256:0", command=("run",), environment=image)
    (tmp_path / "image" / CONFIG_FILE).write_bytes(msgspec.json.encode(config))
    return dict(spec(tmp_path, image="image", environment=own).environment)


def attributes(environment: dict[str, str]) -> dict[str, str]:
    """As an SDK reads them: of two with one name the last counts."""
    pairs = environment["OTEL_RESOURCE_ATTRIBUTES"].split(",")
    return dict(pair.split("=", 1) for pair in pairs)


def test_spans_go_to_the_doorway_under_the_agents_name(tmp_path: Path) -> None:
    environment = dict(spec(tmp_path).environment)
    assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:7400"
    assert environment["OTEL_EXPORTER_OTLP_PROTOCOL"] == "http/protobuf"
    assert environment["OTEL_SERVICE_NAME"] == "dice.prod"
    assert attributes(environment) == {
        "service.name": "dice.prod",
        "service.version": "3",
        "cloud.resource_id": ARN,
        "aws.log.group.names": "/aws/bedrock-agentcore/runtimes/dice-abc-prod",
        "aws.service.type": "gen_ai_agent",
    }


def test_content_is_asked_for_only_where_the_runtime_captures_it(tmp_path: Path) -> None:
    without = spec(tmp_path).environment
    assert without[CONTENT] == "NO_CONTENT"
    assert without["OPENINFERENCE_HIDE_INPUTS"] == without["OPENINFERENCE_HIDE_OUTPUTS"] == "true"
    with_content = spec(tmp_path, captures_content=True).environment
    assert with_content[CONTENT] == "SPAN_ONLY"
    assert "OPENINFERENCE_HIDE_INPUTS" not in with_content


def test_what_the_customer_sets_stays(tmp_path: Path) -> None:
    own = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector.example.com",
        CONTENT: "SPAN_ONLY",
        "OTEL_RESOURCE_ATTRIBUTES": "team=dice,service.version=2026-11",
    }
    environment = dict(spec(tmp_path, environment=own).environment)
    assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == own["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert environment[CONTENT] == "SPAN_ONLY"
    found = attributes(environment)
    assert (found["team"], found["service.version"]) == ("dice", "2026-11")
    assert found["cloud.resource_id"] == ARN


@pytest.mark.parametrize("said", ["true", "True"])
def test_agentcores_switch_takes_all_of_it_away(tmp_path: Path, said: str) -> None:
    environment = spec(tmp_path, environment={"DISABLE_ADOT_OBSERVABILITY": said}).environment
    assert [name for name in environment if name.startswith("OTEL_")] == []
    assert environment["AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"] == "http://127.0.0.1:7400"


def test_an_images_own_variables_stay_and_its_runtimes_go_over_them(tmp_path: Path) -> None:
    image = {"OTEL_SERVICE_NAME": "of-the-image", "OTEL_PROPAGATORS": "b3", "AWS_REGION": "x"}
    environment = of_image(tmp_path, image, {"OTEL_PROPAGATORS": "xray"})
    assert environment["OTEL_SERVICE_NAME"] == "of-the-image"
    assert environment["OTEL_PROPAGATORS"] == "xray"
    assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:7400"
    assert environment["AWS_REGION"] == "us-east-1"  # where the platform is, it knows better


def test_an_image_may_switch_it_off(tmp_path: Path) -> None:
    environment = of_image(tmp_path, {"DISABLE_ADOT_OBSERVABILITY": "true"}, {})
    assert [name for name in environment if name.startswith("OTEL_")] == []


def test_the_launcher_is_told_of_the_instrumented_entry_and_node_is_not(tmp_path: Path) -> None:
    assert spec(tmp_path).command[-2:] == ("opentelemetry-instrument", "main.py")
    assert spec(tmp_path, interpreter="NODE_22").command == ("/usr/bin/node", "/var/task/main.py")
