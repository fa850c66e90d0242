"""What is compiled for one state of a gateway and one state of its engine."""

import asyncio
import logging
from collections import OrderedDict
from weakref import WeakKeyDictionary

import msgspec

from freehold.ports.enforcement import GovernedGateway, GovernedTool
from freehold.ports.policies import CompiledRules, PolicyEngine, PolicyRefused
from freehold.ports.statements import Statements
from freehold.services.policy.model import EngineRow, PolicyRow
from freehold.services.policy.schema import GatewaySchema, SchemaTooLarge, gateway_schema

log = logging.getLogger("freehold.policy")

DYNAMIC_TOOLS_MAX = 64
"""Kept compiled of one gateway: each has a schema of its own."""
SHOWN_MAX = 256
"""Callers whose lists are kept, of one gateway."""


class Unusable(Exception):
    """Why nothing can be decided, for the record; the client is told that it is so, not why."""

    def __init__(self, why: str, engine_version: str = "") -> None:
        super().__init__(why)
        self.why, self.engine_version = why, engine_version


class Compiled(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """`shadow` is what would decide with the LOG_ONLY policies, None where there are none."""

    schema: GatewaySchema
    active: CompiledRules
    shadow: CompiledRules | None = None


class State:
    """Of one gateway state and engine state. `known` are the tools that the gateway lists."""

    def __init__(self, row: EngineRow, compiled: Compiled, known: frozenset[str]) -> None:
        self.row, self.compiled, self.known = row, compiled, known
        self.lock = asyncio.Lock()
        self.dynamic: OrderedDict[tuple[str, bytes], Compiled] = OrderedDict()
        self.shown: OrderedDict[bytes, frozenset[str]] = OrderedDict()


class Compiling:
    """Compiles once per state, off the event loop, whoever waits for it."""

    def __init__(self, engine: PolicyEngine, statements: Statements) -> None:
        self._engine, self._statements = engine, statements
        self._states: WeakKeyDictionary[GovernedGateway, State | _Failed] = WeakKeyDictionary()
        self._running: WeakKeyDictionary[GovernedGateway, _Running] = WeakKeyDictionary()

    async def state(self, gateway: GovernedGateway, row: EngineRow) -> State:
        """Raises Unusable."""
        found = self._states.get(gateway)
        if found is None or found.row is not row:
            found = await self._once(gateway, row)
        if isinstance(found, _Failed):
            raise Unusable(found.why, row.version)
        return found

    async def for_tool(
        self, gateway: GovernedGateway, state: State, tool: GovernedTool
    ) -> Compiled:
        """With the schema of a tool that is none of the gateway's own. Raises Unusable."""
        known = state.compiled.schema.tools.get(tool.name)
        if known is tool or known == tool:
            return state.compiled
        key = (tool.name, msgspec.json.encode([tool.target, tool.input_schema]))
        async with state.lock:
            found = state.dynamic.get(key)
            if found is None:
                made = await asyncio.to_thread(self._compiled, gateway, state.row, tool)
                if isinstance(made, _Failed):
                    raise Unusable(made.why, state.row.version)
                found = made
            state.dynamic[key] = found
            state.dynamic.move_to_end(key)
            if len(state.dynamic) > DYNAMIC_TOOLS_MAX:
                state.dynamic.popitem(last=False)
        return found

    async def _once(self, gateway: GovernedGateway, row: EngineRow) -> "State | _Failed":
        running = self._running.get(gateway)
        if running is None or running.row is not row:
            task = asyncio.create_task(asyncio.to_thread(self._state, gateway, row))
            running = self._running[gateway] = _Running(row, task)
        # Shielded: who gives up waiting does not take it from the others.
        found = await asyncio.shield(running.task)
        if self._running.get(gateway) is running:
            del self._running[gateway]
            if not (isinstance(found, _Failed) and found.passing):
                self._states[gateway] = found
        return found

    def _state(self, gateway: GovernedGateway, row: EngineRow) -> "State | _Failed":
        made = self._compiled(gateway, row, None)
        if isinstance(made, _Failed):
            return made
        return State(row, made, frozenset(tool.name for tool in gateway.tools))

    def _compiled(
        self, gateway: GovernedGateway, row: EngineRow, extra: GovernedTool | None
    ) -> "Compiled | _Failed":
        try:
            schema = gateway_schema(gateway, extra)
            speaking = [each for each in row.policies if self._speaks(each, gateway)]
            active = [each.rule for each in speaking if each.mode == "ACTIVE"]
            every = [each.rule for each in speaking]
            return Compiled(
                schema=schema,
                active=self._engine.compile_rules(active, schema.document),
                shadow=None
                if len(active) == len(every)
                else self._engine.compile_rules(every, schema.document),
            )
        except (SchemaTooLarge, PolicyRefused) as error:
            return _Failed(row, str(error))
        except Exception as error:  # the boundary: it decides against every call
            log.exception("policies of %s could not be compiled", gateway.id)
            return _Failed(row, f"{type(error).__name__} while compiling", passing=True)

    def _speaks(self, policy: PolicyRow, gateway: GovernedGateway) -> bool:
        """Whether it can be about this gateway."""
        named = self._statements.read(policy.statement).resource
        return named is None or named.id == gateway.arn


class _Failed(msgspec.Struct, frozen=True, eq=False):
    """`passing`: it may be better at the next call."""

    row: EngineRow
    why: str
    passing: bool = False


class _Running(msgspec.Struct, frozen=True, eq=False):
    row: EngineRow
    task: "asyncio.Task[State | _Failed]"
