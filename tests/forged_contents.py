"""Honestly signed tokens that are another thing, are read in two ways, or are not for here."""

import json
from collections.abc import Callable
from typing import Any

from forging import forged, well_signed
from token_issuer import TokenIssuer, as_json, b64

# -- another thing than an access token in the compact form

_HEADERS: dict[str, dict[str, Any]] = {
    "crit with a name that nobody knows": {"crit": ["exp2"], "exp2": 1},
    "crit with a name that is known": {"crit": ["alg"]},
    "an empty crit": {"crit": []},
    "crit that is no list": {"crit": "exp"},
    "an unencoded payload (b64)": {"b64": False, "crit": ["b64"]},
    "a nested token (cty)": {"cty": "JWT"},
    "a compressed payload (zip)": {"zip": "DEF"},
    "an encrypted one (enc)": {"enc": "A256GCM"},
    "the type of a proof": {"typ": "dpop+jwt"},
    "the type of a logout": {"typ": "logout+jwt"},
    "the type of a security event": {"typ": "secevent+jwt"},
    "the type of an introspection": {"typ": "token-introspection+jwt"},
    "a type that is no string": {"typ": ["at+jwt"]},
}
for _name, _more in _HEADERS.items():

    @forged(f"honestly signed, with {_name}")
    def _(issuer: TokenIssuer, more: dict[str, Any] = _more) -> str:
        return well_signed(issuer, header=issuer.header(**more))


@forged("five parts, as an encrypted token has")
def _(issuer: TokenIssuer) -> str:
    return f"{b64(as_json({'alg': 'dir', 'enc': 'A256GCM'}))}..{b64(b'iv')}.{b64(b'x')}.{b64(b't')}"


@forged("JSON serialization")
def _(issuer: TokenIssuer) -> str:
    header, payload, tail = issuer.token().split(".")
    return json.dumps({"protected": header, "payload": payload, "signature": tail})


_TEXTS: dict[str, Callable[[str], str]] = {
    "a fourth part": lambda token: token + ".x",
    "a space at its end": lambda token: token + " ",
    "a line feed at its end": lambda token: token + "\n",
    "a line feed in its signature": lambda token: token[:-9] + "\n" + token[-9:],
    "padding": lambda token: token + "==",
    "characters that base64 skips": lambda token: token[:-9] + "!*" + token[-9:],
    "the other base64 alphabet": lambda token: token.replace("-", "+").replace("_", "/") + "+/",
    "a zero byte": lambda token: token + "\0",
    "letters that look the same": lambda token: token.replace("a", "\u0430"),
    "an empty header": lambda token: "." + token.partition(".")[2],
    "an empty payload": lambda token: "..".join((token.split(".")[0], token.split(".")[2])),
    "much more than a token": lambda token: token + "A" * 20_000,
    "nothing but dots": lambda token: "..",
    "nothing else": lambda token: "",
}
for _name, _change in _TEXTS.items():

    @forged(f"an honest token with {_name}")
    def _(issuer: TokenIssuer, change: Callable[[str], str] = _change) -> str:
        return change(issuer.token())


@forged("an honest token with its signature written another way")
def _(issuer: TokenIssuer) -> str:
    # The last character of 256 bytes in base64 has four bits to spare.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    token = issuer.token()
    return token[:-1] + alphabet[alphabet.index(token[-1]) + 1]


# -- honestly signed, but two readers would not read the same


def _replaced(data: dict[str, Any], old: str, new: str) -> bytes:
    text = as_json(data).decode()
    assert old in text
    return text.replace(old, new, 1).encode()


_PAYLOADS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "a claim twice": lambda c: _replaced(c, '"sub":', '"sub":"root","sub":'),
    "a claim twice, one of them escaped": lambda c: _replaced(
        c, '"sub":', '"s\\u0075b":"root","sub":'
    ),
    "a claim twice further in": lambda c: as_json(c)[:-1] + b',"act":{"sub":"a","sub":"b"}}',
    "a byte order mark": lambda c: b"\xef\xbb\xbf" + as_json(c),
    "UTF-16": lambda c: as_json(c).decode().encode("utf-16"),
    "broken UTF-8": lambda c: as_json(c)[:-1] + b',"name":"\xff\xfe"}',
    "half a surrogate pair": lambda c: as_json(c)[:-1] + b',"name":"\\ud800"}',
    "a list for its content": lambda c: as_json([c]),
    "a string for its content": lambda c: as_json(as_json(c).decode()),
    "more behind its content": lambda c: as_json(c) + b"{}",
    "a trailing comma": lambda c: as_json(c)[:-1] + b",}",
    "endless depth": lambda c: as_json(c)[:-1] + b',"a":' + b"[" * 3000 + b"]" * 3000 + b"}",
    "a number that is none": lambda c: _replaced(c, '"exp":', '"exp":NaN,"x":'),
    "an expiry of null": lambda c: _replaced(c, '"exp":', '"exp":null,"x":'),
    "an infinite expiry": lambda c: _replaced(c, '"exp":', '"exp":Infinity,"x":'),
    "an expiry of 1e999": lambda c: _replaced(c, '"exp":', '"exp":1e999,"x":'),
    "an expiry of very many digits": lambda c: _replaced(
        c, '"exp":', '"exp":' + "9" * 5000 + ',"x":'
    ),
}
for _name, _write in _PAYLOADS.items():

    @forged(f"honestly signed, with {_name}")
    def _(issuer: TokenIssuer, write: Callable[[dict[str, Any]], bytes] = _write) -> str:
        return well_signed(issuer, payload=write(issuer.claims()))


@forged("honestly signed, with its algorithm twice")
def _(issuer: TokenIssuer) -> str:
    return well_signed(issuer, header=_replaced(issuer.header(), '"alg":', '"alg":"none","alg":'))


@forged("a key's name twice")
def _(issuer: TokenIssuer) -> str:
    return well_signed(issuer, header=_replaced(issuer.header(), '"kid":', '"kid":"x","kid":'))


@forged("a header that is no JSON")
def _(issuer: TokenIssuer) -> str:
    return well_signed(issuer, header=b"RS256")


@forged("a header that is a list")
def _(issuer: TokenIssuer) -> str:
    return well_signed(issuer, header=as_json(["RS256"]))


@forged("a header larger than the limit")
def _(issuer: TokenIssuer) -> str:
    return well_signed(issuer, header=issuer.header(x="x" * 7000))


# -- honestly signed, but not for here and now

HOUR = 3600
_CLAIMS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "it expired": lambda c: {"exp": c["iat"] - HOUR},
    "it expired a minute ago": lambda c: {"exp": c["iat"] - 60},
    "no expiry": lambda _: {"exp": None},
    "an expiry of text": lambda c: {"exp": str(c["exp"])},
    "an expiry that is true": lambda _: {"exp": True},
    "an expiry in a list": lambda c: {"exp": [c["exp"]]},
    "an expiry that cannot be": lambda _: {"exp": 1e300},
    "it is not valid yet": lambda c: {"nbf": c["iat"] + HOUR},
    "a beginning of text": lambda c: {"nbf": str(c["iat"])},
    "a beginning that is true": lambda _: {"nbf": True},
    "it comes from the future": lambda c: {"iat": c["iat"] + HOUR},
    "no issuer": lambda _: {"iss": None},
    "another issuer": lambda _: {"iss": "https://issuer.example.test"},
    "an issuer that begins the same": lambda c: {"iss": c["iss"] + ".example.test"},
    "an issuer with a slash more": lambda c: {"iss": c["iss"] + "/"},
    "issuers in a list": lambda c: {"iss": [c["iss"]]},
    "no audience": lambda _: {"aud": None},
    "another audience": lambda _: {"aud": "https://other.example.test"},
    "an audience that begins the same": lambda c: {"aud": c["aud"] + ".evil.test"},
    "an audience in capitals": lambda c: {"aud": c["aud"].upper()},
    "audiences of which one is no text": lambda c: {"aud": [c["aud"], 1]},
    "an audience in an object": lambda c: {"aud": {c["aud"]: True}},
    "another client": lambda _: {"client_id": "another-app"},
    "no client": lambda _: {"client_id": None},
    "another client, and the right one by a lesser name": lambda c: {
        "client_id": "another-app", "azp": c["client_id"],
    },
    "a client in a list": lambda c: {"client_id": [c["client_id"]]},
    "another scope": lambda _: {"scope": "tools:write"},
    "a scope that begins the same": lambda _: {"scope": "tools:readonly"},
    "scopes divided by commas": lambda _: {"scope": "tools:read,tools:write"},
    "another group": lambda _: {"groups": ["guests"]},
    "a group that begins the same": lambda _: {"groups": ["staff-of-others"]},
    "a group outside a list": lambda _: {"groups": "staff"},
    "no group": lambda _: {"groups": None},
    "a subject that is no text": lambda _: {"sub": 1},
}  # fmt: skip
for _name, _changes in _CLAIMS.items():

    @forged(f"honestly signed, but: {_name}")
    def _(
        issuer: TokenIssuer,
        changes: Callable[[dict[str, Any]], dict[str, Any]] = _changes,
    ) -> str:
        return issuer.token(**changes(issuer.claims()))
