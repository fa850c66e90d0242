"""What a connector knows of its authorization, put into what a target says of its credential."""

from typing import Any

from freehold.adapters.targets.connectors.library import Prepared
from freehold.adapters.targets.connectors.settled import enabled
from freehold.kernel.errors import ValidationFailed
from freehold.ports.connectors import Way
from freehold.ports.targets import Json

_WHERE = "credentialProviderConfigurations"


def filled(prepared: Prepared, configuration: Json, given: list[Json]) -> list[Json]:
    """Raises ValidationFailed. What the target says itself stays as it is."""
    if not given:
        raise ValidationFailed(f"{_WHERE}: {prepared.title} needs one: {_offered(prepared)}")
    return [_filled(prepared, configuration, each) for each in given]


def scopes(prepared: Prepared, configuration: Json, way: Way) -> list[str]:
    """Those of the operations that are enabled, and what the way itself needs."""
    if not way.asks_scopes:
        return []
    names = enabled(prepared, configuration)
    found = [scope for name in names for scope in prepared.traits[name].scopes]
    return list(dict.fromkeys([*sorted(set(found)), *way.scopes]))


def _filled(prepared: Prepared, configuration: Json, given: Json) -> Json:
    provider: Json = given.get("credentialProvider") or {}
    type = given["credentialProviderType"]
    if type == "OAUTH":
        inner = dict(provider.get("oauthCredentialProvider") or {})
        way = _way(prepared, type, inner.get("grantType"))
        return _with(given, "oauthCredentialProvider", _oauth(prepared, configuration, way, inner))
    if type == "API_KEY":
        inner = dict(provider.get("apiKeyCredentialProvider") or {})
        way = _way(prepared, type, None)
        return _with(given, "apiKeyCredentialProvider", _api_key(way, inner))
    raise ValidationFailed(f"{_WHERE}: {prepared.title} takes {_offered(prepared)}, not {type}")


def _oauth(prepared: Prepared, configuration: Json, way: Way, given: Json) -> Json:
    found = {**given, "grantType": way.grant}
    parameters: dict[str, Any] = dict(given.get("customParameters") or {})
    for name, meaning in way.parameters.items():
        if not parameters.get(name):
            raise ValidationFailed(f"customParameters: {prepared.title} needs {name}: {meaning}")
    asked = scopes(prepared, configuration, way)
    if not given.get("scopes") and asked:
        if not way.scopes_parameter:
            found["scopes"] = asked
        elif way.scopes_parameter not in parameters:
            parameters[way.scopes_parameter] = way.separator.join(asked)
    if parameters:
        found["customParameters"] = parameters
    return found


def _api_key(way: Way, given: Json) -> Json:
    """A key that goes somewhere else than we know goes there as it is said."""
    if given.get("credentialLocation") == "QUERY_PARAMETER":
        return given
    if given.get("credentialParameterName", way.header).lower() != way.header.lower():
        return given
    found = {"credentialLocation": "HEADER", "credentialParameterName": way.header, **given}
    if way.prefix and "credentialPrefix" not in given:
        found["credentialPrefix"] = way.prefix
    return found


def _way(prepared: Prepared, type: str, grant: str | None) -> Way:
    for way in prepared.ways:
        if way.type == type and grant in (None, way.grant):
            return way
    raise ValidationFailed(
        f"{_WHERE}: {prepared.title} takes {_offered(prepared)}, not {grant or type}"
    )


def _offered(prepared: Prepared) -> str:
    ways = [f"OAUTH with {w.grant}" if w.type == "OAUTH" else w.type for w in prepared.ways]
    return " or ".join(dict.fromkeys(ways))


def _with(given: Json, name: str, inner: Json) -> Json:
    return {**given, "credentialProvider": {name: inner}}
