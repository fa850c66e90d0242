"""Whatever a stranger sends, the answer is a modelled one, and never a 500."""

import json
import random
from typing import Any

import pytest
from aws_edge_driver import ask, make_edge, scope_of, signed_scope
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shape_samples import Samples
from test_aws_round_trips import (
    OPERATIONS,
    Recorder,
    in_our_tenant,
    request_scope,
    sample_output,
)

from freehold.edges.aws import model

IDS = sorted(OPERATIONS)
bounded = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
odd_values = st.one_of(
    json_values,
    st.sampled_from([10**400, -(2**70), "\0", "\ud800", "x" * 5000, [[]] * 50, {"": {}}]),
)


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def edge(recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_edge(dict.fromkeys(OPERATIONS, recorder), tmp_path_factory.mktemp("spool"))


async def modelled(edge: Any, recorder: Recorder, id: str, scope: Any, body: bytes) -> int:
    """Asks, and checks that the answer is one that the model has."""
    operation = OPERATIONS[id]
    recorder.output = sample_output(operation, 0, full=False)
    answer = await ask(edge, scope, body)
    assert answer.headers["x-amzn-requestid"]
    if answer.status < 300:
        return answer.status
    assert 400 <= answer.status < 500, (id, answer.status, answer.body)
    assert answer.code is not None
    if answer.status != 403 and answer.code != "UnknownOperationException":
        shape = operation.service.error(answer.code)
        assert shape is not None and shape.error_status == answer.status
    assert answer.json()["message"]
    return answer.status


def resigned(operation: model.Operation, scope: Any, body: bytes) -> Any:
    path, query = scope["raw_path"].decode(), scope["query_string"].decode()
    signing_name = operation.service.signing_name
    return signed_scope(
        scope["method"], f"{path}?{query}" if query else path, body, service=signing_name
    )


def minimal(id: str) -> tuple[model.Operation, Any, bytes]:
    operation = OPERATIONS[id]
    params = in_our_tenant(Samples(1, full=False).structure(operation.input))
    scope, body = request_scope(operation, params)
    return operation, scope, body


@bounded
@given(id=st.sampled_from(IDS), body=st.binary(max_size=200))
async def test_random_bytes_as_a_body(edge: Any, recorder: Recorder, id: str, body: bytes) -> None:
    operation, scope, _ = minimal(id)
    await modelled(edge, recorder, id, resigned(operation, scope, body), body)


@bounded
@given(id=st.sampled_from(IDS), value=json_values)
async def test_random_json_as_a_body(edge: Any, recorder: Recorder, id: str, value: Any) -> None:
    operation, scope, _ = minimal(id)
    body = json.dumps(value).encode()
    await modelled(edge, recorder, id, resigned(operation, scope, body), body)


@bounded
@given(id=st.sampled_from(IDS), seed=st.integers(0, 2**32), value=odd_values)
async def test_a_full_input_with_one_value_replaced(
    edge: Any, recorder: Recorder, id: str, seed: int, value: Any
) -> None:
    operation = OPERATIONS[id]
    params = in_our_tenant(Samples(seed % 5, full=True).structure(operation.input))
    scope, body = request_scope(operation, params)
    try:
        document = json.loads(body)
    except ValueError:
        document = {}
    body = json.dumps(replaced(document, value, random.Random(seed))).encode()
    await modelled(edge, recorder, id, resigned(operation, scope, body), body)


def replaced(document: Any, value: Any, choose: random.Random) -> Any:
    """A copy with some node of the tree replaced."""
    if not isinstance(document, (dict, list)) or not document or choose.random() < 0.2:
        return value
    copy = document.copy()
    key = choose.choice(list(document)) if isinstance(document, dict) else 0
    copy[key] = replaced(document[key], value, choose)
    return copy


@bounded
@given(id=st.sampled_from(IDS), at=st.floats(0, 1), cut=st.booleans(), byte=st.integers(0, 255))
async def test_a_full_body_with_one_byte_wrong_or_cut_short(
    edge: Any, recorder: Recorder, id: str, at: float, cut: bool, byte: int
) -> None:
    operation = OPERATIONS[id]
    params = in_our_tenant(Samples(2, full=True).structure(operation.input))
    scope, body = request_scope(operation, params)
    place = int(at * len(body))
    body = body[:place] + (b"" if cut else bytes([byte]) + body[place + 1 :])
    await modelled(edge, recorder, id, resigned(operation, scope, body), body)


@bounded
@given(
    id=st.sampled_from(IDS),
    query=st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=4),
    known=st.text(max_size=9),
)
async def test_random_query_parameters(
    edge: Any, recorder: Recorder, id: str, query: list[tuple[str, str]], known: str
) -> None:
    operation, scope, body = minimal(id)
    names = [m.wire_name for m in operation.input.members.values() if m.location == "querystring"]
    pairs = query + [(name, known) for name in names]
    text = "&".join(f"{escaped(name)}={escaped(value)}" for name, value in pairs)
    scope["query_string"] = text.encode()
    await modelled(edge, recorder, id, resigned(operation, scope, body), body)


def escaped(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))


@bounded
@given(id=st.sampled_from(IDS), label=st.binary(min_size=1, max_size=20))
async def test_random_bytes_in_a_label(
    edge: Any, recorder: Recorder, id: str, label: bytes
) -> None:
    operation, scope, body = minimal(id)
    sent = "".join(f"%{byte:02X}" for byte in label)
    parts = [sent if "{" in part else part for part in operation.uri.split("/")]
    scope["raw_path"] = "/".join(parts).encode()
    await modelled(edge, recorder, id, resigned(operation, scope, body), body)


@bounded
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "X"]),
    path=st.binary(max_size=40),
    query=st.binary(max_size=40),
    headers=st.lists(
        st.tuples(
            st.sampled_from([b"authorization", b"x-amz-date", b"host", b"content-length", b"x-a"]),
            st.binary(max_size=40),
        ),
        max_size=6,
    ),
    body=st.binary(max_size=40),
)
async def test_anything_at_all_without_a_signature(
    edge: Any, method: str, path: bytes, query: bytes, headers: Any, body: bytes
) -> None:
    scope = scope_of(method, b"/" + path, query, headers)
    answer = await ask(edge, scope, body)
    assert answer.status in {400, 403, 404}
    assert answer.code


AUTHORIZATION = "AWS4-HMAC-SHA256 Credential={}, SignedHeaders={}, Signature={}"


@bounded
@given(credential=st.text(max_size=30), names=st.text(max_size=30), signature=st.text(max_size=70))
async def test_a_random_authorization_is_a_403(
    edge: Any, credential: str, names: str, signature: str
) -> None:
    _, scope, body = minimal("bedrock-agentcore-control:ListAgentRuntimes")
    value = AUTHORIZATION.format(credential, names, signature).encode("utf-8", "replace")
    scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"authorization"]
    scope["headers"].append((b"authorization", value))
    assert (await ask(edge, scope, body)).status == 403
