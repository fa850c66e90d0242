"""Sessions of agents, as the callers of a gateway have them."""

from freehold.kernel.caller import Caller, CallerKind
from freehold.ports.targets import Place
from freehold.services.gateway.agent_sessions import (
    MCP_SESSION_HEADER,
    SESSION_HEADER,
    USER_HEADER,
    AgentSession,
    session_for,
)

PLACE = Place(
    tenant="123456789012", gateway_id="g", gateway_arn="arn:g", target_id="t", name="agent",
    kind="http.agentcoreRuntime", configuration={},
)  # fmt: skip
ROLE = {"credentialProviderType": "GATEWAY_IAM_ROLE"}
CALLERS = {"credentialProviderType": "CALLER_IAM_CREDENTIALS"}
ID = "s" * 40


def caller(name: str) -> Caller:
    return Caller(tenant="123456789012", principal=name, kind=CallerKind.ACCESS_KEY)


ANN, BOB = caller("ann"), caller("bob")


def test_the_same_id_is_another_session_for_another_caller() -> None:
    hers, his = (AgentSession(PLACE, who, ROLE, {SESSION_HEADER: ID}) for who in (ANN, BOB))
    assert hers.id != his.id
    assert hers.id == AgentSession(PLACE, ANN, ROLE, {SESSION_HEADER: ID}).id
    assert hers.shown(str(hers.id)) == ID
    assert session_for(PLACE, ANN) != session_for(PLACE, BOB) != session_for(PLACE, None)


def test_what_the_caller_is_shown_opens_its_session_again_and_no_others() -> None:
    first = AgentSession(PLACE, ANN, ROLE, {SESSION_HEADER: ID})
    for servers in ("", "~servers-own"):
        shown = first.shown(f"{first.id}{servers}")
        assert shown == f"{ID}{servers}"
        again = AgentSession(PLACE, ANN, ROLE, {MCP_SESSION_HEADER: shown})
        assert (again.id, again.mcp) == (first.id, f"{first.id}{servers}")
        stolen = AgentSession(PLACE, BOB, ROLE, {MCP_SESSION_HEADER: shown})
        assert stolen.id != first.id
        assert not str(stolen.mcp).startswith(str(first.id))
    inner = AgentSession(PLACE, BOB, ROLE, {MCP_SESSION_HEADER: f"{first.id}~servers-own"})
    assert not str(inner.mcp).startswith(f"{first.id}~"), "the runtime's own id opens nothing"


def test_a_caller_without_a_session_gets_one_that_has_a_length_that_is_taken() -> None:
    assert AgentSession(PLACE, ANN, ROLE, {}).id != AgentSession(PLACE, ANN, ROLE, {}).id
    for asked in ("x", "y" * 256, ID):
        session = AgentSession(PLACE, ANN, ROLE, {SESSION_HEADER: asked})
        assert len(str(session.id)) in range(18, 257)
        assert session.shown(str(session.id)) == asked


def test_a_gateway_vouches_for_no_user_and_a_caller_for_itself() -> None:
    headers = {SESSION_HEADER: ID, USER_HEADER: "ada"}
    assert AgentSession(PLACE, ANN, ROLE, headers).user is None
    own = AgentSession(PLACE, ANN, CALLERS, headers)
    assert (own.id, own.user, own.shown(ID)) == (ID, "ada", ID)
