"""How a registry wants to be asked: the `WWW-Authenticate` of its refusal, answered.

Source: distribution's "Token Authentication Specification" and "Oauth2 Token Authentication".
"""

import re

import msgspec

from freehold.adapters.images.credentials import Credentials
from freehold.adapters.images.reach import Session, address, bounded
from freehold.ports.images import ImageRefused

_CHALLENGE = re.compile(r"\s*(Bearer|Basic)\s+(.*)", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r'([a-z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))', re.IGNORECASE)
_TOKEN_BYTES_MAX = 1 << 20


class _Token(msgspec.Struct):
    token: str = ""
    access_token: str = ""


async def authorization(
    session: Session, challenge: str, credentials: Credentials | None, scope: str
) -> str:
    """The header that answers it. Raises ImageRefused."""
    kind, parameters = _parsed(challenge)
    if kind == "basic":
        if credentials is None:
            raise ImageRefused("the registry wants a user, and the platform has none for it")
        return credentials.basic
    url = address(parameters.get("realm", ""))
    query = {"service": parameters.get("service", ""), "scope": parameters.get("scope") or scope}
    if credentials and credentials.refresh_token:
        form = {
            "grant_type": "refresh_token", "client_id": "freehold",
            "refresh_token": credentials.refresh_token, **query,
        }  # fmt: skip
        content = await session.post_form(url, form, _TOKEN_BYTES_MAX)
    else:
        headers = {"Authorization": credentials.basic} if credentials else {}
        wanted = url.update_query({name: text for name, text in query.items() if text})
        async with session.get(wanted, headers) as answer:
            if answer.status != 200:
                known = "" if credentials else "; the platform has no credentials for it"
                raise ImageRefused(f"the registry gives no token: HTTP {answer.status}{known}")
            content = await bounded(answer, _TOKEN_BYTES_MAX)
    try:
        given = msgspec.json.decode(content, type=_Token)
    except msgspec.DecodeError as error:
        raise ImageRefused("the registry's token cannot be read") from error
    token = given.token or given.access_token
    if not token or not token.isprintable():
        raise ImageRefused("the registry gives no token")
    return f"Bearer {token}"


def _parsed(challenge: str) -> tuple[str, dict[str, str]]:
    match = _CHALLENGE.match(challenge)
    if match is None:
        raise ImageRefused("the registry asks for a kind of login that is not known here")
    parameters = {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) or bare
        for name, quoted, bare in _PARAMETER.findall(match[2])
    }
    return match[1].lower(), parameters
