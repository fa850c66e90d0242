"""Where a service is: by the target's configuration, by the model's rules, or by its name."""

import re
from urllib.parse import urlsplit

from freehold.adapters.targets.smithy.endpoint_rules import NoEndpoint, resolved
from freehold.adapters.targets.smithy.model import Json, Traits, Unusable
from freehold.kernel.errors import ValidationFailed

_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d{1,2}")
_HOST_LABEL = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")


def located(traits: Traits, *, region: str, configured: str) -> Json:
    """`{"endpoint", "endpointFrom", "signing": {"service", "region"}}` for people to see; without
    "endpoint" where nothing says one. Raises ValidationFailed for one that is no URL."""
    try:
        signing = {"service": _signing_name(traits), "region": region}
        if configured:
            endpoint, source = configured, "configuration"
        else:
            endpoint, source = _by_rules(traits, region, signing), "rules"
            if not endpoint:
                endpoint, source = _by_name(traits, region), "name"
    except Unusable as error:
        raise ValidationFailed(f"The service's endpoint cannot be read: {error}.") from None
    found: Json = {"signing": signing} if signing["service"] else {}
    if endpoint:
        found |= {"endpoint": _checked(endpoint), "endpointFrom": source}
    return found


def region_of(arn: str) -> str:
    parts = arn.split(":")
    return parts[3] if len(parts) > 3 and _REGION.fullmatch(parts[3]) else ""


def _signing_name(traits: Traits) -> str:
    name = traits.members("aws.auth#sigv4").get("name")
    return name if isinstance(name, str) else ""


def _by_name(traits: Traits, region: str) -> str:
    prefix = traits.members("aws.api#service").get("endpointPrefix") or _signing_name(traits)
    if not isinstance(prefix, str) or not _HOST_LABEL.fullmatch(prefix) or not region:
        return ""
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://{prefix}.{region}.{suffix}"


def _by_rules(traits: Traits, region: str, signing: Json) -> str:
    """The rules that AWS's own clients go by. What depends on an argument of the call (the bucket
    of a virtual host) is not known here; such rules have an answer without it."""
    rules = traits.members("smithy.rules#endpointRuleSet") or traits.members(
        "smithy.rules#endpointBdd"
    )
    if not rules:
        return ""
    try:
        url, properties = resolved(rules, region)
    except NoEndpoint:
        return ""
    schemes = properties.get("authSchemes")
    scheme = schemes[0] if isinstance(schemes, list) and schemes else None
    if isinstance(scheme, dict):
        for member, ours in (("signingName", "service"), ("signingRegion", "region")):
            if isinstance(scheme.get(member), str):
                signing[ours] = scheme[member]
    return url


def _checked(endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in ("https", "http") and parts.hostname and parts.port != 0
    except (ValueError, AttributeError, TypeError):
        valid = False
    if not valid or parts.username or parts.password or parts.query or parts.fragment:
        raise ValidationFailed(
            "The service's endpoint has to be a URL such as https://pets.example.com, without a"
            " user, a query or a fragment."
        )
    return endpoint.rstrip("/")
