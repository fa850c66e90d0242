"""Paths are matched as they were sent, segment by segment."""

import pytest

from freehold.edges.aws import model
from freehold.edges.aws.model import Operation, Service
from freehold.edges.aws.router import Router
from freehold.kernel.errors import ValidationFailed


def operations(**routes: str) -> list[Operation]:
    """Named by their key; each route is "METHOD /uri"."""
    raw = {
        "metadata": {"signingName": "x"},
        "shapes": {"": {"type": "structure", "members": {}}},
        "operations": {
            name: {"http": dict(zip(("method", "requestUri"), route.split(" "), strict=True))}
            for name, route in routes.items()
        },
    }
    return list(Service("test", raw).operations.values())


def found(router: Router, method: str, path: bytes) -> tuple[str, dict[str, str]] | None:
    match = router.match(method, path)
    return match and (match[0].name, match[1])


def test_a_literal_wins_over_a_label_unless_its_method_is_another() -> None:
    router = Router(
        operations(List="POST /sets/list", Get="GET /sets/{id}", Add="POST /sets/{id}/add")
    )
    assert found(router, "POST", b"/sets/list") == ("List", {})
    assert found(router, "GET", b"/sets/list") == ("Get", {"id": "list"})
    assert found(router, "POST", b"/sets/list/add") == ("Add", {"id": "list"})
    assert found(router, "PUT", b"/sets/list") is None


def test_a_greedy_label_takes_the_rest_and_only_where_nothing_else_fits() -> None:
    router = Router(operations(Part="GET /tags/{id}/parts", All="GET /tags/{arn+}"))
    assert found(router, "GET", b"/tags/a/parts") == ("Part", {"id": "a"})
    assert found(router, "GET", b"/tags/a/others") == ("All", {"arn": "a/others"})
    assert found(router, "GET", b"/tags/a%2Fb/c/d") == ("All", {"arn": "a/b/c/d"})
    assert found(router, "GET", b"/tags/") is None


def test_labels_are_decoded_after_the_path_was_split() -> None:
    router = Router(operations(Get="GET /sets/{id}/x"))
    assert found(router, "GET", b"/sets/a%2Fb%20%C3%A9+/x") == ("Get", {"id": "a/b é+"})
    assert found(router, "GET", b"/sets/a/b/x") is None
    assert found(router, "GET", b"/%73ets/a/x") is None
    with pytest.raises(ValidationFailed):
        router.match("GET", b"/sets/%FF/x")


def test_one_trailing_slash_means_nothing_and_an_empty_segment_matches_no_label() -> None:
    router = Router(operations(Get="GET /sets/{id}/", List="POST /sets/"))
    assert found(router, "GET", b"/sets/a") == found(router, "GET", b"/sets/a/")
    assert found(router, "POST", b"/sets") == found(router, "POST", b"/sets/") == ("List", {})
    assert found(router, "GET", b"/sets//") is None
    assert found(router, "GET", b"/sets/a//") is None
    assert found(router, "POST", b"//sets") is None
    assert found(router, "POST", b"") is None


def test_two_operations_of_one_route_are_a_mistake() -> None:
    with pytest.raises(TypeError, match="same route"):
        Router(operations(A="GET /sets/{id}", B="GET /sets/{other}/"))


def test_every_operation_of_the_models_has_a_route_of_its_own() -> None:
    for name in ("bedrock-agentcore", "agent-registry"):
        mine = [op for op in model.operations().values() if op.service.signing_name == name]
        router = Router(mine)
        for operation in mine:
            path = operation.uri.replace("+}", "}").replace("{", "%7B").replace("}", "%7D")
            match = router.match(operation.method, path.encode())
            assert match is not None and match[0] is operation
