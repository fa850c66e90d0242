"""The server's certificate: there before the workers start, and renewed while they run."""

import asyncio
import logging
import ssl
from datetime import UTC, datetime

from freehold import tls
from freehold.settings import Settings
from freehold.supervisor import DidNotStart

log = logging.getLogger("freehold")

_LOOK_AGAIN_SECONDS = 86_400.0
"""A clock that stood still while the machine slept is set right within a day."""


def prepare(settings: Settings) -> tls.Files | None:
    """None where plain HTTP is served. Raises DidNotStart."""
    if not settings.tls:
        return None
    try:
        return tls.ensure(settings.state, _names(settings))
    except (tls.BadName, tls.Unreadable) as error:
        raise DidNotStart(f"the certificate cannot be made: {error}") from error
    except OSError as error:
        raise DidNotStart(f"the certificate cannot be kept: {error}") from error


def authority_of(settings: Settings) -> str | None:
    return str(tls.Files.of(settings.state).certificate) if settings.tls else None


def context_of(settings: Settings) -> ssl.SSLContext | None:
    files = prepare(settings)
    return None if files is None else tls.server_context(files)


async def keep_valid(context: ssl.SSLContext, settings: Settings) -> None:
    """New connections get the renewed certificate; those that stand keep theirs."""
    files = tls.Files.of(settings.state)
    while True:
        try:
            left = (tls.renewal(files) - datetime.now(UTC)).total_seconds()
            if left > 0:
                await asyncio.sleep(min(left, _LOOK_AGAIN_SECONDS))
                continue
            await asyncio.to_thread(tls.ensure, settings.state, _names(settings))
            context.load_cert_chain(files.server)
        except (OSError, ValueError, tls.Unreadable):
            log.exception("the server's certificate could not be renewed; trying again")
            await asyncio.sleep(_LOOK_AGAIN_SECONDS / 24)


def _names(settings: Settings) -> list[str]:
    further = [name.strip() for name in settings.tls_names.split(",")]
    return tls.server_names(settings.host, [name for name in further if name])
