"""The operations of streams: sockets and commands, by their names."""

from typing import Any

from freehold.kernel.request import Handler, Request
from freehold.kernel.sockets import Conversation, SocketHandler
from freehold.services.runtime.commands import CommandRequest, CommandService
from freehold.services.runtime.shells import ShellOpening, ShellService
from freehold.services.runtime.websockets import Opening, WebSocketService

Params = dict[str, Any]


def socket_handlers(websockets: WebSocketService, shells: ShellService) -> dict[str, SocketHandler]:
    async def talk(request: Request, params: Params) -> Conversation:
        return await websockets.open(
            Opening(
                caller=request.caller,
                tenant=request.tenant,
                runtime_arn=params["agentRuntimeArn"],
                endpoint=params["qualifier"],
                session_id=params["runtimeSessionId"],
                request_id=request.request_id,
                headers=request.headers,
                query=params["query"],
            )
        )

    async def shell(request: Request, params: Params) -> Conversation:
        return await shells.open(
            ShellOpening(
                caller=request.caller,
                tenant=request.tenant,
                runtime_arn=params["agentRuntimeArn"],
                endpoint=params["qualifier"],
                session_id=params["runtimeSessionId"],
                shell_id=params["shellId"],
                key=request.headers["sec-websocket-key"],
            )
        )

    # No model of AWS has these two: the names are those of the permissions.
    return {
        "bedrock-agentcore:InvokeAgentRuntimeWithWebSocketStream": talk,
        "bedrock-agentcore:InvokeAgentRuntimeCommandShell": shell,
    }


def handlers(commands: CommandService) -> dict[str, Handler]:
    async def command(request: Request, params: Params) -> Params:
        body = params["body"]
        session_id, events = await commands.run(
            CommandRequest(
                caller=request.caller,
                tenant=request.tenant,
                runtime_arn=params["agentRuntimeArn"],
                endpoint=params.get("qualifier"),
                session_id=params.get("runtimeSessionId"),
                command=body["command"],
                seconds_max=body.get("timeout"),
            )
        )
        return {
            "runtimeSessionId": session_id,
            "contentType": "application/vnd.amazon.eventstream",
            "statusCode": 200,
            "stream": events,
        }

    return {"bedrock-agentcore:InvokeAgentRuntimeCommand": command}
