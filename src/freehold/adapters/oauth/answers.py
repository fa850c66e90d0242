"""What token endpoints answer, as the standard has it and as vendors do."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from freehold.ports.oauth import OauthRefused, OauthUnavailable, Tokens
from freehold.ports.web import WebAnswer

TOKEN_CHARS_MAX = 131_072
_CODE = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_CANNOT_BE_PASSED_ON = frozenset({"dpop", "mac", "pop"})
_NOT_NOW = ("server_error", "temporarily_unavailable", "slow_down")
_LIFETIME_SECONDS_MAX = 10 * 365 * 86_400.0


def tokens_of(answer: WebAnswer) -> Tokens:
    """Raises OauthRefused for an error of OAuth's, OauthUnavailable for all that is neither."""
    if answer.status >= 500 or answer.status == 429:
        raise OauthUnavailable(f"the token endpoint answers {answer.status}")
    content = _content(answer)
    refused = content.get("error")
    if refused in _NOT_NOW:
        raise OauthUnavailable(f"the token endpoint answers {refused}")
    if refused is not None or content.get("ok") is False:  # GitHub and Slack refuse with a 200
        raise OauthRefused(_code(refused))
    if not 200 <= answer.status < 300:
        raise OauthUnavailable(f"the token endpoint answers {answer.status}")
    nested = content.get("authed_user")  # Slack's, when only the person's own scopes were asked for
    if "access_token" not in content and isinstance(nested, dict):
        content = nested
    kind = content.get("token_type")
    if isinstance(kind, str) and kind.lower() in _CANNOT_BE_PASSED_ON:
        raise OauthUnavailable(f"the token endpoint answers with a token of type {_code(kind)}")
    access_token = _token(content, "access_token")
    if access_token is None:
        raise OauthUnavailable("the token endpoint's answer has no access token")
    return Tokens(
        access_token=access_token,
        refresh_token=_token(content, "refresh_token"),
        expires_in=_seconds(content.get("expires_in")),
        scopes=_scopes(content.get("scope")),
    )


def _content(answer: WebAnswer) -> Mapping[str, Any]:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        try:
            return dict(parse_qsl(answer.body.decode("ascii"), max_num_fields=50))
        except ValueError:
            raise OauthUnavailable("the token endpoint's answer is no form") from None
    try:
        return msgspec.json.decode(answer.body, type=dict[str, Any])
    except msgspec.DecodeError:
        if answer.status >= 400:
            raise OauthUnavailable(f"the token endpoint answers {answer.status}") from None
        raise OauthUnavailable("the token endpoint's answer is not a JSON object") from None


def _code(refused: object) -> str:
    if isinstance(refused, dict):  # Facebook's {"error": {"type": "OAuthException", ...}}
        refused = refused.get("type")
    text = refused.lower() if isinstance(refused, str) else ""
    return text if _CODE.fullmatch(text) else "an error"


def _token(content: Mapping[str, Any], name: str) -> str | None:
    value = content.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > TOKEN_CHARS_MAX or not value.isprintable():
        raise OauthUnavailable(f"the token endpoint's {name} cannot be used")
    return value


def _seconds(value: object) -> float | None:
    """A number or its text; what is neither, or no time at all, is not known."""
    try:
        seconds = float(value) if isinstance(value, int | float | str) else None
    except ValueError:
        return None
    if seconds is None or not 0 < seconds <= _LIFETIME_SECONDS_MAX:
        return None
    return seconds


def _scopes(value: object) -> tuple[str, ...] | None:
    """With spaces, with commas (GitHub, Slack), or a list (Twitch)."""
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    if isinstance(value, list):
        return tuple(v for v in value if isinstance(v, str))
    return None
