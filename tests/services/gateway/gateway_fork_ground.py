"""A gateway as a session reaches it: both edges on loopback, real limits, policies and clients.

What a fork's record says is the test's; the service that knows records has a suite of its own.
"""

import asyncio
import socket
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from interceptor_ground import PythonFunctions
from mcp import Client
from starlette.types import ASGIApp, Receive, Scope, Send

from freehold.adapters.cedar.engine import CedarEngine
from freehold.adapters.cedar.statements import CedarStatements
from freehold.adapters.egress.addresses import denied, forbidden
from freehold.adapters.embeddings.absent import NoEmbeddings
from freehold.adapters.limits.limiter import PostgresRateLimiter
from freehold.adapters.mcp.client import McpTargets
from freehold.adapters.postgres.dedicated import DedicatedConnection
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.keyring import Keyring
from freehold.adapters.web.client import CheckedWeb
from freehold.adapters.web.destination import Destinations
from freehold.edges.door import GatewayDoors
from freehold.edges.mcp.admission import Names
from freehold.edges.mcp.app import McpEdge
from freehold.edges.passage.app import PassageEdge
from freehold.edges.pipeline import Pipeline
from freehold.edges.serving import HttpServer
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.session import SESSION_STATE, DoorwaySession
from freehold.kernel.tracing import Span
from freehold.ports.authorizer import BearerTarget
from freehold.ports.mcp import AuthorizerType, Door
from freehold.ports.policies import CompiledRules, Rule
from freehold.ports.replay import LiveModel, LiveTool, ModelAnswer, ToolAnswer
from freehold.ports.targets import Credential, Definition, Json, Place
from freehold.ports.usage import usage_reader
from freehold.services.gateway import limits
from freehold.services.gateway.breaker import Breakers
from freehold.services.gateway.calls import ToolCalls
from freehold.services.gateway.catalog import Behind, Catalog
from freehold.services.gateway.completions import Completions
from freehold.services.gateway.finding import ToolFinder
from freehold.services.gateway.governing import Governance
from freehold.services.gateway.interceptors import Interceptors
from freehold.services.gateway.lists import Lists
from freehold.services.gateway.mcp import McpGateways
from freehold.services.gateway.passage import PassageService, Plan, Ways
from freehold.services.gateway.search import ToolSearch
from freehold.services.gateway.sessions import GatewaySessions
from freehold.services.policy.decision_store import DecisionLog, Filter, Kept
from freehold.services.policy.decisions import DecisionWriter
from freehold.services.policy.enforcement import PolicyEnforcement
from freehold.services.policy.model import EngineRow, PolicyRow
from gateway_upstreams import McpUpstream
from kept_spans import KeptSpans

ID = "gate-abcdefghij"
FORK = "fork-" + "0a" * 16
CHAT = "/inference/v1/chat/completions"
TOKEN = "user-ann"


class Records:
    """`ports.replay.Replays` that says what a test has it say, and keeps what it was asked."""

    def __init__(self) -> None:
        self.says: deque[Any] = deque()
        self.tools: list[dict[str, Any]] = []
        self.models: list[dict[str, Any]] = []

    async def tool(self, **asked: Any) -> ToolAnswer | LiveTool | None:
        self.tools.append(asked)
        return self._said()

    async def model(self, session: DoorwaySession, **asked: Any) -> ModelAnswer | LiveModel | None:
        self.models.append({"session": session, **asked})
        return self._said()

    def _said(self) -> Any:
        said = self.says.popleft()
        if isinstance(said, Exception):
            raise said
        return said


class Engines:
    """`services.policy.ports.Engines`: engines of one account, by ARN."""

    def __init__(self) -> None:
        self._rows: dict[str, EngineRow] = {}

    def add(self, tenant: str, id: str, *statements: str) -> str:
        arn = f"arn:aws:bedrock-agentcore:us-east-1:{tenant}:policy-engine/{id}"
        self._rows[arn] = EngineRow(
            tenant=tenant, id=id, arn=arn, name=id, version="v1",
            policies=[
                PolicyRow(id=f"{id}-{n}", name=f"rule{n}", version=1, mode="ACTIVE", statement=each)
                for n, each in enumerate(statements)
            ],
        )  # fmt: skip
        return arn

    async def load(self, tenant: str, engine_arn: str) -> EngineRow | None:
        return self._rows.get(engine_arn)


class Counting(CedarEngine):
    compiled = 0

    def compile_rules(self, rules: Sequence[Rule], schema: Any) -> CompiledRules:
        self.compiled += 1
        return super().compile_rules(rules, schema)


class Tokens:
    """`ports.authorizer.BearerTokens`: TOKEN is ann's."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant

    async def caller(self, token: str, target: BearerTarget) -> Caller:
        assert token == TOKEN
        return Caller(
            tenant=self._tenant, principal="issuer|ann", kind=CallerKind.OAUTH_USER,
            user="issuer|ann", claims={"sub": "ann"}, token=token,
        )  # fmt: skip

    async def demanded(self, target: BearerTarget, *, tenant: str | None = None) -> bool:
        return True

    async def metadata(self, target: BearerTarget, resource_url: str) -> dict[str, Any] | None:
        return None


class Everybody:
    async def authorize(self, caller: Caller, operation: str, resource_arn: str | None) -> str:
        return caller.tenant


class Captured:
    """`ports.content_capture.ContentCapture`, switched on."""

    async def captures(self, tenant: str, runtime_id: str) -> bool:
        return True


class Nothing:
    """Outbound credentials of targets that want none; and access keys that there are none of."""

    async def credential(self, *_: Any, **__: Any) -> Credential:
        return Credential()

    async def active(self, access_key_id: str) -> None:
        return None


class Gate:
    """One gateway, and whoever comes through the doorway of `session`."""

    def __init__(self, tenant: str, database: PostgresDatabase, dsn: str) -> None:
        self.tenant, self.records, self.kept = tenant, Records(), KeptSpans()
        self.arn = f"arn:aws:bedrock-agentcore:us-east-1:{tenant}:gateway/{ID}"
        self.session: DoorwaySession | None = self.session_of(FORK)
        self.engines, self.cedar = Engines(), Counting()
        self.functions = PythonFunctions(guard=_passing)
        sealer = EnvelopeSealer(Keyring.parse("1:" + "a2tr" * 10 + "a2s=", source="a test"))
        self.writer = DecisionWriter(
            DedicatedConnection(dsn, application_name="fork decisions"), sealer
        )
        self.log = DecisionLog(database, sealer)
        self.limiter = PostgresRateLimiter(DedicatedConnection(dsn, application_name="fork limits"))
        listed = Destinations(
            denied=denied, forbidden=forbidden, listed=frozenset({"127.0.0.1"}), setting="LIST"
        )
        self.web = CheckedWeb(listed)
        self.mcp_targets = McpTargets(self.web, version="1")
        self.search = ToolSearch(database, NoEmbeddings())
        self.url = ""
        self.has()
        self.edge = self._edge(database)

    def has(
        self,
        *targets: Behind,
        tools: Sequence[str] = (),
        authorizer: AuthorizerType = "AWS_IAM",
        limit: Json | None = None,
        **more: Any,
    ) -> None:
        """From now on. `tools` are those of the first target."""
        door = Door(
            tenant=self.tenant, gateway_id=ID, name="gate", authorizer=authorizer, arn=self.arn
        )
        rules = limits.compiled(f"{self.tenant}|{ID}", [("one", limit)] if limit else [])
        self.catalog = Catalog(
            door, targets, [(targets[0].place.target_id, _definition(t), "") for t in tools],
            searches=True, limits=rules, **more,
        )  # fmt: skip
        self._plan = Plan(targets, limits=rules)

    def target(self, name: str, kind: str, **configuration: Any) -> Behind:
        place = Place(
            tenant=self.tenant, gateway_id=ID, gateway_arn=self.arn, target_id=f"ID{name}",
            name=name, kind=kind, configuration=configuration,
        )  # fmt: skip
        return Behind(place=place, status="READY", seconds=30.0)

    def server(self, upstream: McpUpstream) -> Behind:
        return self.target("there", "mcp.mcpServer", endpoint=upstream.endpoint)

    def session_of(self, id: str) -> DoorwaySession:
        runtime = "agent-abcdefghij"
        return DoorwaySession(
            tenant=self.tenant, runtime_id=runtime, session_id=id, sandbox_id="sandbox-1",
            runtime_arn=f"arn:aws:bedrock-agentcore:us-east-1:{self.tenant}:runtime/{runtime}",
            endpoint="DEFAULT",
        )  # fmt: skip

    # -- what is looked at

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[Client]:
        async with asyncio.timeout(60), Client(f"{self.url}/mcp", **options) as client:
            yield client

    async def called(self, name: str = "there___echo", **arguments: Any) -> Any:
        async with self.client() as client:
            return await client.call_tool(name, arguments)

    def span(self, beginning: str = "execute_tool ") -> Span:
        return self.kept.one(beginning)

    async def decisions(self) -> Sequence[Kept]:
        page = await self.log.page(self.tenant, Filter(), limit=100)
        return page.items

    def intercepted(self, method: str) -> int:
        """How often an interceptor saw such a request, or an answer to it."""
        events = [call.event["mcp"] for call in self.functions.calls]
        return sum(event["gatewayRequest"]["body"]["method"] == method for event in events)

    # -- services.gateway.mcp.Catalogs, passage.Plans

    async def get(self, gateway_id: str) -> Catalog | None:
        return self.catalog if gateway_id == ID else None

    def watch(self, gateway_id: str, heard: Any) -> Any:
        return lambda: None

    async def plan(self, door: Door) -> Plan:
        return self._plan

    # -- how it is put together

    def _edge(self, database: PostgresDatabase) -> McpEdge:
        clients: Any = {"mcp.mcpServer": self.mcp_targets}
        nothing: Any = Nothing()
        enforcement = PolicyEnforcement(self.engines, self.cedar, CedarStatements(), self.writer)
        governance, breakers = Governance(self.limiter, enforcement), Breakers()
        calls = ToolCalls(
            clients=clients, outbound=nothing, governing=governance,
            interceptors=Interceptors(self.functions), breakers=breakers, consent=nothing,
        )  # fmt: skip
        gateways = McpGateways(
            catalogs=self, clients=clients, calls=calls, search=ToolFinder(self.search),
            lists=Lists(clients=clients, calls=calls, governing=governance, pins=nothing),
            replays=self.records,
        )  # fmt: skip
        ways = Ways(web=self.web, outbound=nothing, limiter=self.limiter, breakers=breakers)
        passages = PassageService(
            plans=self, ways=ways, runtimes=nothing,
            inference=Completions(ways=ways, reader=usage_reader, replays=self.records),
        )  # fmt: skip
        pipeline = Pipeline(
            authorizer=Everybody(), calls_in_flight_max=100, recorder=self.kept, content=Captured()
        )
        doors = GatewayDoors(
            gateways, bearer=Tokens(self.tenant), signed=nothing, names=Names(""), public_url=""
        )
        return McpEdge(
            gateways, GatewaySessions(database), pipeline=pipeline, keys=nothing,
            bearer=Tokens(self.tenant), region="us-east-1", public_url="",
            spool_directory=tempfile.gettempdir(),
            otherwise=PassageEdge(doors, passages, pipeline=pipeline, otherwise=_nobody),
        )  # fmt: skip

    @asynccontextmanager
    async def served(self) -> AsyncIterator["Gate"]:
        async with AsyncExitStack() as stack:
            for part in (self.web, self.limiter, self.writer):
                await part.start()
                stack.push_async_callback(part.close)
            stack.push_async_callback(self.mcp_targets.close)
            stack.push_async_callback(self.search.close)
            listening = socket.create_server(("127.0.0.1", 0))
            server = HttpServer(self._as_session(self.edge), drain_seconds_max=2)
            serving = asyncio.create_task(server.serve(listening))
            self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/gateway/{ID}"
            try:
                yield self
            finally:
                self.edge.stop()
                server.stop()
                async with asyncio.timeout(60):
                    await serving

    def _as_session(self, app: ASGIApp) -> ASGIApp:
        async def of_session(scope: Scope, receive: Receive, send: Send) -> None:
            if self.session is not None:
                scope["state"] = {**scope.get("state", {}), SESSION_STATE: self.session}
            await app(scope, receive, send)

        return of_session


def _passing(event: Json) -> Json:
    """An interceptor that lets all through."""
    return {"interceptorOutputVersion": "1.0", "mcp": {}, "http": {}}


def _definition(name: str) -> Definition:
    schema = {"type": "object", "properties": {"text": {"type": "string"}}}
    return Definition(
        name=name, document={"name": name, "description": f"It {name}s.", "inputSchema": schema}
    )


async def _nobody(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b""})
