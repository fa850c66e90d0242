"""Prepared services in our own API: what each offers, and what a person has to bring."""

import msgspec

from freehold.kernel.errors import NotFound
from freehold.kernel.operation import Operation, Parameter, Params
from freehold.kernel.request import Request
from freehold.ports.connectors import Connector
from freehold.services.gateway.ports import Connectors

_ID = Parameter(name="connectorId", meaning="The connector, such as slack", where="path")


class ConnectorList(msgspec.Struct, frozen=True):
    connectors: list[Connector]


def operations(connectors: Connectors) -> list[Operation]:
    own = _Own(connectors)
    return [
        Operation(
            name="ListConnectors", method="GET", path="/connectors", act=own.list,
            summary="Services that are prepared as targets of gateways", answer=ConnectorList,
        ),
        Operation(
            name="GetConnector", method="GET", path="/connectors/{connectorId}", act=own.get,
            summary="One of them: its operations, the parts of its address, and the ways in",
            answer=Connector, parameters=(_ID,),
        ),
    ]  # fmt: skip


class _Own:
    def __init__(self, connectors: Connectors) -> None:
        self._connectors = connectors

    async def list(self, request: Request, params: Params, _: object) -> ConnectorList:
        return ConnectorList([*await self._connectors.all()])

    async def get(self, request: Request, params: Params, _: object) -> Connector:
        for connector in await self._connectors.all():
            if connector.id == params["connectorId"]:
                return connector
        raise NotFound(f"there is no connector {params['connectorId'][:100]!r}")
