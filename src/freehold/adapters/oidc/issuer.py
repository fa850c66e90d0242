"""Whether a discovery document speaks for the issuer that it names.

It stands below its issuer's own address (OpenID Connect Discovery 4.3, RFC 8414 3.3). Without that
check any server could hand out keys in another issuer's name. Microsoft's documents name addresses
of Microsoft's elsewhere: those few forms are written out.
"""

import re

_WELL_KNOWN = re.compile(
    r"(https?://[^/]+(?:/[^?#]*?)?)/\.well-known/"
    r"(?:openid-configuration|oauth-authorization-server)(/[^?#]+)?"
)
_GUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ENTRA = re.compile(
    r"https://(login\.microsoftonline\.com|login\.microsoftonline\.us"
    r"|login\.partner\.microsoftonline\.cn|[a-z0-9-]+\.b2clogin\.com|[a-z0-9-]+\.ciamlogin\.com)"
    r"/([^/]+)(?:/.*)?"
)
# Documents of all tenants at once: their issuer is a pattern, and would let every tenant in.
_ANYBODYS = ("common", "organizations", "consumers")


def issuers_own(discovery_url: str) -> str | None:
    """The issuer that a document at this address can speak for. None: it is no such address."""
    match = _WELL_KNOWN.fullmatch(discovery_url)
    return None if match is None else match[1] + (match[2] or "")


def speaks_for(discovery_url: str, issuer: str) -> bool:
    own = issuers_own(discovery_url)
    if own is None:
        return False
    # Some issuers end in a slash (Auth0's); their documents' addresses have it once all the same.
    return issuer.removesuffix("/") == own.removesuffix("/") or _microsofts(own, issuer)


def _microsofts(own: str, issuer: str) -> bool:
    """Version 1 has issuers on another host; a tenant's domain stands for its id."""
    match = _ENTRA.fullmatch(own)
    if match is None or match[2].lower() in _ANYBODYS:
        return False
    host, tenant = re.escape(match[1]), match[2].lower()
    tenant_id = re.escape(tenant) if re.fullmatch(_GUID, tenant) else _GUID
    if host.endswith(r"\.b2clogin\.com"):
        forms = [rf"https://{host}/{_GUID}/v2\.0/"]
    elif host.endswith(r"\.ciamlogin\.com"):
        forms = [rf"https://{tenant_id}\.ciamlogin\.com/{tenant_id}/v2\.0"]
    else:
        forms = [
            rf"https://sts\.(?:windows\.net|chinacloudapi\.cn)/{tenant_id}/",
            rf"https://{host}/{tenant_id}/v2\.0",
        ]
    return any(re.fullmatch(form, issuer) for form in forms)
