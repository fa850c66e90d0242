"""The platform's own requests to hosts that tenants name."""

from contextlib import AsyncExitStack
from typing import Any

from freehold.adapters.egress.addresses import denied, forbidden, of_this_machine
from freehold.adapters.web.client import CheckedWeb
from freehold.adapters.web.destination import Destinations
from freehold.settings import Settings, variable


async def opened_web(settings: Settings, stack: AsyncExitStack, **bounds: Any) -> CheckedWeb:
    """`bounds`: see `CheckedWeb`."""
    web = make_web(settings, **bounds)
    await web.start()
    stack.push_async_callback(web.close)
    return web


def make_web(settings: Settings, **bounds: Any) -> CheckedWeb:
    """To be opened and closed by whoever puts a process together."""
    return CheckedWeb(
        Destinations(
            denied=lambda address: denied(address) or of_this_machine(address),
            forbidden=forbidden,
            listed=_listed(settings.outbound_private_hosts),
            setting=variable("outbound_private_hosts"),
        ),
        **bounds,
    )


def _listed(text: str) -> frozenset[str]:
    return frozenset(host.strip().lower() for host in text.split(",") if host.strip())
