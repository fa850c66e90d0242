"""Every operation of the four services: what botocore writes we read, what we write it reads."""

from datetime import UTC, datetime
from typing import Any

import pytest
from aws_edge_driver import CREDENTIALS, REGION, Answer, ask, make_edge, wire_scope
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest, prepare_request_dict
from botocore.eventstream import EventStream
from botocore.exceptions import EventStreamError
from botocore.model import ServiceModel
from botocore.parsers import ResponseParserFactory
from botocore.serialize import create_serializer
from botocore.session import get_session
from shape_samples import Samples
from urllib3 import HTTPHeaderDict as CaseInsensitiveDict

from freehold.edges.aws import model
from freehold.kernel.body import Body
from freehold.kernel.errors import FreeholdError

OPERATIONS = model.operations()
BY_SERVICE = {
    name: sorted(id for id in OPERATIONS if id.split(":")[0] == name) for name in model.SERVICES
}
_SERIALIZER = create_serializer("rest-json")
_PARSER = ResponseParserFactory().create_parser("rest-json")
_SESSION = get_session()
_MODELS: dict[str, ServiceModel] = {}


def botocore_operation(operation: model.Operation) -> Any:
    name = operation.service.name
    if name not in _MODELS:
        _MODELS[name] = _SESSION.get_service_model(name)
    return _MODELS[name].operation_model(operation.name)


def request_scope(operation: model.Operation, params: dict[str, Any]) -> tuple[Any, bytes]:
    """The request that botocore makes of `params`, signed, as a server sees it."""
    made = _SERIALIZER.serialize_to_request(params, botocore_operation(operation))
    prepare_request_dict(made, "http://edge.test")
    request = AWSRequest(
        method=made["method"], url=made["url"], data=made["body"], headers=made["headers"]
    )
    SigV4Auth(CREDENTIALS, operation.service.signing_name, REGION).add_auth(request)
    body = request.prepare().body or b""
    return wire_scope(request), body


class RawStream:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def stream(self) -> Any:
        for at in range(0, len(self._data), 7):
            yield self._data[at : at + 7]

    def read(self) -> bytes:
        return self._data

    def close(self) -> None:
        pass


def parsed_answer(operation: model.Operation, answer: Answer) -> dict[str, Any]:
    payload = operation.output.payload
    streams = payload is not None and payload.shape.kind in {"blob", "structure"}
    streams = streams and (payload.shape.is_event_stream or payload.shape.kind == "blob")
    response = {
        "status_code": answer.status,
        "headers": CaseInsensitiveDict(answer.headers),
        "body": RawStream(answer.body) if streams else answer.body,
        "context": {"operation_name": operation.name},
    }
    parsed = _PARSER.parse(response, botocore_operation(operation).output_shape)
    parsed.pop("ResponseMetadata", None)
    if streams and isinstance(parsed[payload.name], RawStream):
        parsed[payload.name] = parsed[payload.name].read()
    return comparable(parsed)


def comparable(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, dict):
        return {k: comparable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [comparable(item) for item in value]
    return value


class Recorder:
    """A handler for every operation: keeps the input, gives the prepared output."""

    def __init__(self) -> None:
        self.received: dict[str, Any] = {}
        self.output: dict[str, Any] = {}

    async def __call__(self, request: Any, params: dict[str, Any]) -> dict[str, Any]:
        self.received = dict(params)
        for name, value in params.items():
            if hasattr(value, "chunks"):
                body: Body = value
                self.received[name] = await body.read()
        return self.output


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def edge(recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_edge(dict.fromkeys(OPERATIONS, recorder), tmp_path_factory.mktemp("spool"))


@pytest.mark.parametrize("service", model.SERVICES)
@pytest.mark.parametrize("full", [True, False], ids=["full", "minimal"])
async def test_every_input_that_botocore_sends_arrives_as_it_was(
    edge: Any, recorder: Recorder, service: str, full: bool
) -> None:
    for id in BY_SERVICE[service]:
        operation = OPERATIONS[id]
        for seed in range(3):
            params = Samples(seed, full=full).structure(operation.input)
            params = in_our_tenant(params)
            recorder.received, recorder.output = {}, sample_output(operation, seed, full=False)
            scope, body = request_scope(operation, params)
            answer = await ask(edge, scope, body)
            assert answer.status == recorder.output.get("statusCode", operation.status), (
                id,
                answer.body,
            )
            assert sent_by_us(operation, recorder.received, params) == params, id


@pytest.mark.parametrize("service", model.SERVICES)
@pytest.mark.parametrize("full", [True, False], ids=["full", "minimal"])
async def test_every_output_that_we_send_is_read_by_botocore_as_it_was(
    edge: Any, recorder: Recorder, service: str, full: bool
) -> None:
    for id in BY_SERVICE[service]:
        operation = OPERATIONS[id]
        params = in_our_tenant(Samples(1, full=False).structure(operation.input))
        scope, body = request_scope(operation, params)
        for seed in range(3):
            output = sample_output(operation, seed, full=full)
            payload = operation.output.payload
            if payload is not None and payload.shape.is_event_stream:
                continue  # in their own test
            recorder.output = output
            answer = await ask(edge, scope, body)
            assert parsed_answer(operation, answer) == comparable(output), id


EVENT_STREAMS = sorted(
    id
    for id, op in OPERATIONS.items()
    if op.output.payload and op.output.payload.shape.is_event_stream
)


async def events_of(*events: Any) -> Any:
    for event in events:
        if isinstance(event, Exception):
            raise event
        yield event


@pytest.mark.parametrize("id", EVENT_STREAMS)
async def test_every_event_type_is_read_by_botocore_as_it_was(
    edge: Any, recorder: Recorder, id: str
) -> None:
    operation = OPERATIONS[id]
    stream = operation.output.payload
    events = [
        {member.name: Samples(seed, full=full).of(member.shape)}
        for member in stream.shape.members.values()
        if member.shape.error_status is None
        for full in (True, False)
        for seed in range(8)
    ]
    assert events
    output = Samples(0, full=True).structure(operation.output)
    recorder.output = output | {stream.name: events_of(*events)}
    params = in_our_tenant(Samples(1, full=False).structure(operation.input))
    scope, body = request_scope(operation, params)
    answer = await ask(edge, scope, body)
    parsed = parsed_answer(operation, answer)
    assert isinstance(parsed[stream.name], EventStream)
    assert [comparable(event) for event in parsed.pop(stream.name)] == comparable(events)
    del output[stream.name]
    assert parsed == comparable(output)


@pytest.mark.parametrize("id", EVENT_STREAMS)
async def test_every_error_in_mid_stream_is_the_modelled_exception(
    edge: Any, recorder: Recorder, id: str
) -> None:
    operation = OPERATIONS[id]
    stream = operation.output.payload
    params = in_our_tenant(Samples(1, full=False).structure(operation.input))
    members = list(stream.shape.members.values())
    first = next(member for member in members if member.shape.error_status is None)
    event = {first.name: Samples(0, full=True).of(first.shape)}
    for member in members:
        if member.shape.error_status is None:
            continue
        error = FreeholdError("it broke, ünd how")
        error.code = member.shape.name
        recorder.output = Samples(0, full=True).structure(operation.output)
        recorder.output[stream.name] = events_of(event, error)
        scope, body = request_scope(operation, params)
        parsed = parsed_answer(operation, await ask(edge, scope, body))
        got = []
        with pytest.raises(EventStreamError) as raised:
            for one in parsed[stream.name]:
                got.append(comparable(one))
        assert got == [comparable(event)]
        assert raised.value.response["Error"] == {
            "Code": member.name,
            "Message": "it broke, ünd how",
        }


def in_our_tenant(params: dict[str, Any]) -> dict[str, Any]:
    """Sampled ARNs are of any tenant, and a random account would rightly get a 404."""
    made = dict(params)
    for name, value in params.items():
        if isinstance(value, str) and value.startswith("arn:") and value.count(":") >= 5:
            parts = value.split(":", 5)
            if parts[4].isdigit():
                parts[4] = "123456789012"
            made[name] = ":".join(parts)
    if "accountId" in made:
        made["accountId"] = "123456789012"
    return made


def sample_output(operation: model.Operation, seed: int, *, full: bool) -> dict[str, Any]:
    output = Samples(seed, full=full).structure(operation.output)
    payload = operation.output.payload
    if payload is not None and payload.shape.is_event_stream:
        output[payload.name] = events_of()
    elif payload is not None and payload.shape.kind == "blob":
        output.setdefault(payload.name, b"")
    return output


def sent_by_us(
    operation: model.Operation, received: dict[str, Any], sent: dict[str, Any]
) -> dict[str, Any]:
    """What arrived, less what botocore always sends: a content type, and an empty payload."""
    always: dict[str, Any] = {"contentType": "application/json"}
    if operation.input.payload is not None:
        always[operation.input.payload.name] = b""
    return {
        name: value
        for name, value in received.items()
        if name in sent or name not in always or always[name] != value
    }
