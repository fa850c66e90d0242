"""Bytes to messages: what the parser lets through, every other reader of JSON reads alike."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.edges.mcp.wire import PARSE_ERROR, Refused, parse


class Pairs(list[tuple[str, Any]]):
    """An object as it is written: a key may stand twice in it."""


keys = st.sampled_from(["a", "b", "a:b", 'q"', "\\", "ü", ""])
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.integers(-9, 9), st.booleans(), st.none(), keys),
    lambda below: st.one_of(
        st.lists(below, max_size=3),
        st.lists(st.tuples(keys, below), max_size=3).map(Pairs),
    ),
    max_leaves=12,
)


def written(value: Any) -> str:
    if isinstance(value, Pairs):
        members = ", ".join(f"{json.dumps(k)} : {written(v)}" for k, v in value)
        return "{" + members + "}"
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    return json.dumps(value)


def has_a_key_twice(value: Any) -> bool:
    if isinstance(value, Pairs):
        names = [name for name, _ in value]
        return len(set(names)) < len(names) or any(has_a_key_twice(v) for _, v in value)
    return isinstance(value, list) and any(map(has_a_key_twice, value))


@given(values)
@settings(max_examples=300, deadline=None)
def test_a_key_that_stands_twice_is_seen_wherever_it_stands(value: Any) -> None:
    body = '{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":' + written(value) + "}}"
    if has_a_key_twice(value):
        with pytest.raises(Refused) as refused:
            parse(body.encode())
        assert refused.value.rpc_code == PARSE_ERROR
    else:
        messages, _ = parse(body.encode())
        assert messages[0].params == json.loads(body)["params"]


@given(st.one_of(st.binary(max_size=60), values.map(lambda value: written(value).encode())))
@settings(max_examples=500, deadline=None)
def test_whatever_comes_is_a_message_or_refused(body: bytes) -> None:
    try:
        messages, batch = parse(body)
    except Refused as refused:
        assert refused.status == 400
    else:
        assert messages
        assert batch is isinstance(json.loads(body), list)
