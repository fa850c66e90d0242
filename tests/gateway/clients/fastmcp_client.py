"""`fastmcp_client.py URL CITY`: FastMCP's client lists the tools of a gateway and calls one."""

import asyncio
import json
import os
import sys

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from signing import Signed


async def main(url: str, city: str) -> None:
    auth = os.environ.get("TOKEN") or Signed()  # a text is a bearer token
    for mode in ("auto", "legacy"):
        async with Client(StreamableHttpTransport(url, auth=auth), mode=mode) as client:
            tools = [tool.name for tool in await client.list_tools()]
            result = await client.call_tool("weather___forecast", {"city": city})
            print(json.dumps({"tools": tools, "text": result.content[0].text}))


asyncio.run(main(*sys.argv[1:]))
