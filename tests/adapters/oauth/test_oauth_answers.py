"""What vendors' token endpoints answer, with the shapes that their documentation shows."""

import base64
import hashlib
import json
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest

from freehold.adapters.oauth.answers import tokens_of
from freehold.adapters.oauth.client import HttpOauthClient
from freehold.adapters.oauth.metadata import issuer_of
from freehold.ports.credentials import Oauth2Provider, OnBehalfOf
from freehold.ports.oauth import Asked, OauthRefused, OauthUnavailable
from freehold.ports.web import Unreachable, WebAnswer

FORM = "application/x-www-form-urlencoded; charset=utf-8"


def answer(content: Any, status: int = 200, kind: str = "application/json") -> WebAnswer:
    body = urlencode(content) if kind == FORM else json.dumps(content)
    return WebAnswer(status=status, headers={"content-type": kind}, body=body.encode())


VENDORS = {
    "Google": (
        {"access_token": "a", "expires_in": 3920, "scope": "x y", "token_type": "Bearer",
         "refresh_token": "r"},
        ("a", "r", 3920, ("x", "y")),
    ),
    "GitHub, which says no end": (
        {"access_token": "gho_a", "scope": "repo,gist", "token_type": "bearer"},
        ("gho_a", None, None, ("repo", "gist")),
    ),
    "Slack's bot": (
        {"ok": True, "access_token": "xoxb", "token_type": "bot", "scope": "chat:write",
         "authed_user": {"id": "U1"}},
        ("xoxb", None, None, ("chat:write",)),
    ),
    "Slack's person": (
        {"ok": True, "app_id": "A1", "authed_user": {
            "id": "U1", "scope": "search:read,users:read", "access_token": "xoxp",
            "token_type": "user", "refresh_token": "xoxe", "expires_in": 43200}},
        ("xoxp", "xoxe", 43200, ("search:read", "users:read")),
    ),
    "Salesforce, which says when and not until when": (
        {"access_token": "00D!a", "refresh_token": "r", "signature": "s", "scope": "api",
         "instance_url": "https://x.my.salesforce.com", "issued_at": "1278448384422",
         "token_type": "Bearer"},
        ("00D!a", "r", None, ("api",)),
    ),
    "Microsoft": (
        {"token_type": "Bearer", "scope": "User.Read Mail.Read", "expires_in": 3736,
         "ext_expires_in": 3736, "access_token": "eyJ", "refresh_token": "0.A"},
        ("eyJ", "0.A", 3736, ("User.Read", "Mail.Read")),
    ),
    "Twitch, whose scopes are a list": (
        {"access_token": "a", "expires_in": 14124, "refresh_token": "r", "scope": ["bits:read"],
         "token_type": "bearer"},
        ("a", "r", 14124, ("bits:read",)),
    ),
    "Notion, which says nothing": (
        {"access_token": "ntn", "token_type": "bearer", "bot_id": "b", "refresh_token": None},
        ("ntn", None, None, None),
    ),
    "an end as a text": ({"access_token": "a", "expires_in": "3599"}, ("a", None, 3599, None)),
    "an end that is none": ({"access_token": "a", "expires_in": "soon"}, ("a", None, None, None)),
    "an end in the past": ({"access_token": "a", "expires_in": -1}, ("a", None, None, None)),
}  # fmt: skip


@pytest.mark.parametrize(("content", "expected"), VENDORS.values(), ids=VENDORS.keys())
def test_a_vendors_answer_is_understood(content: Any, expected: Any) -> None:
    found = tokens_of(answer(content))
    assert (found.access_token, found.refresh_token, found.expires_in, found.scopes) == expected
    assert repr(found) == f"Tokens(expires_in={found.expires_in})"


def test_a_form_is_understood_as_github_sends_it_unasked() -> None:
    given = {"access_token": "gho", "scope": "repo", "token_type": "bearer", "expires_in": "28800"}
    found = tokens_of(answer(given, kind=FORM))
    assert (found.access_token, found.expires_in) == ("gho", 28800)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (answer({"error": "invalid_grant", "error_description": "code canary"}, 400),
         "invalid_grant"),
        (answer({"error": "bad_verification_code"}), "bad_verification_code"),
        (answer({"error": "incorrect_client_credentials"}, kind=FORM),
         "incorrect_client_credentials"),
        (answer({"ok": False, "error": "invalid_code"}), "invalid_code"),
        (answer({"ok": False}), "an error"),
        (answer({"error": {"message": "canary", "type": "OAuthException"}}, 400), "oauthexception"),
        (answer({"error": "<script>canary"}, 400), "an error"),
        (answer({"error": "canary\ncanary"}, 401), "an error"),
    ],
)  # fmt: skip
def test_a_refusal_is_its_code_and_no_more(given: WebAnswer, word: str) -> None:
    with pytest.raises(OauthRefused) as refused:
        tokens_of(given)
    assert refused.value.error == word
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "given",
    [
        answer({}), answer([]), answer({"access_token": 7}), answer({"access_token": ""}),
        answer({"access_token": "a\r\nx: y"}), answer({"access_token": "a" * 131_073}),
        answer({"access_token": "a", "token_type": "DPoP"}), answer({"x": 1}, 404),
        answer({"error": "server_error"}, 400), answer({"access_token": "canary"}, 503),
        WebAnswer(status=200, headers={}, body=b"<html>canary"),
        WebAnswer(status=200, headers={"content-type": FORM}, body=b"\xff\xfe"),
        WebAnswer(status=200, headers={}, body=b""),
    ],
)  # fmt: skip
def test_what_is_neither_is_said_without_its_content(given: WebAnswer) -> None:
    with pytest.raises(OauthUnavailable) as refused:
        tokens_of(given)
    assert "canary" not in str(refused.value)


class Scripted:
    """`ports.web.Web` that answers as told and remembers."""

    def __init__(self, *answers: WebAnswer | Unreachable) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, str, dict[str, str], dict[str, list[str]]]] = []

    async def ask(
        self, method: str, url: str, *, headers: Any = None, body: bytes | None = None, **_: Any
    ) -> WebAnswer:
        self.asked.append((method, url, dict(headers or {}), parse_qs((body or b"").decode())))
        given = self._answers.pop(0)
        if isinstance(given, Unreachable):
            raise given
        return given


def provider(**more: Any) -> Oauth2Provider:
    return Oauth2Provider(
        **{
            "tenant": "1" * 12, "name": "p", "arn": "arn", "vendor": "CustomOauth2", "version": 1,
            "client_id": "a client", "client_secret": "s:%&", "issuer": "https://as.test",
            "authorization_endpoint": "https://as.test/authorize?tenant=x",
            "token_endpoint": "https://as.test/token", "auth_method": "client_secret_basic",
            "callback_id": "cb", **more,
        }
    )  # fmt: skip


GOOD = answer({"access_token": "a"})


class TestRequests:
    async def test_the_basic_method_encodes_each_half(self) -> None:
        web = Scripted(GOOD)
        await HttpOauthClient(web).client_credentials(provider(), Asked())
        shown = web.asked[0][2]["authorization"].removeprefix("Basic ")
        assert base64.b64decode(shown) == b"a+client:s%3A%25%26"
        assert "client_id" not in web.asked[0][3]

    async def test_resources_and_audiences_may_be_several(self) -> None:
        web = Scripted(GOOD)
        asked = Asked(
            scopes=("a", "b"), resources=("https://x", "https://y"), audiences=("z",),
            parameters={"organization": "o", "grant_type": "password", "Client_Secret": "x"},
        )  # fmt: skip
        await HttpOauthClient(web).client_credentials(provider(), asked)
        assert web.asked[0][3] == {
            "grant_type": ["client_credentials"], "scope": ["a b"], "audience": ["z"],
            "resource": ["https://x", "https://y"], "organization": ["o"],
        }  # fmt: skip

    async def test_entra_id_is_told_for_what_its_jwt_bearer_grant_is(self) -> None:
        web = Scripted(GOOD)
        how = OnBehalfOf(grant="JWT_AUTHORIZATION_GRANT")
        microsoft = provider(vendor="MicrosoftOauth2", on_behalf_of=how)
        await HttpOauthClient(web).on_behalf_of(microsoft, Asked(), user_token="u")
        form = web.asked[0][3]
        assert (form["assertion"], form["requested_token_use"]) == (["u"], ["on_behalf_of"])

    async def test_an_exchange_may_have_an_actor_and_may_name_no_client(self) -> None:
        web = Scripted(answer({"access_token": "actor"}), GOOD)
        how = OnBehalfOf(grant="TOKEN_EXCHANGE", actor="M2M", actor_scopes=("act",), no_client=True)
        exchanging = provider(on_behalf_of=how)
        await HttpOauthClient(web).on_behalf_of(exchanging, Asked(), user_token="u")
        assert web.asked[0][3]["scope"] == ["act"]
        assert "authorization" in web.asked[0][2]
        _, _, headers, form = web.asked[1]
        assert (form["actor_token"], form["subject_token"]) == (["actor"], ["u"])
        assert "authorization" not in headers
        assert "client_id" not in form

    async def test_a_public_client_names_itself_alone(self) -> None:
        web = Scripted(GOOD)
        public = provider(auth_method="none", client_secret=None)
        await HttpOauthClient(web).refresh(public, Asked(), "r")
        assert web.asked[0][3] == {
            "grant_type": ["refresh_token"], "refresh_token": ["r"], "client_id": ["a client"],
        }  # fmt: skip

    async def test_what_cannot_be_reached_is_said_without_a_secret(self) -> None:
        client = HttpOauthClient(Scripted(Unreachable("as.test refuses connections")))
        with pytest.raises(OauthUnavailable, match="refuses connections") as refused:
            await client.refresh(provider(), Asked(), "canary")
        assert "canary" not in repr(refused.value.__cause__)

    def test_an_authorization_url_keeps_what_is_the_standards(self) -> None:
        asked = Asked(
            scopes=("a", "b"), parameters={"tenant": "y", "prompt": "none", "state": "evil"}
        )
        url = HttpOauthClient(Scripted()).authorization_url(
            provider(scope_separator=",", extra={"prompt": "consent", "owner": "user"}), asked,
            redirect_uri="https://me.test/cb", state="s", verifier="v" * 43,
        )  # fmt: skip
        assert dict(parse_qsl(urlsplit(url).query)) == {
            "response_type": "code", "client_id": "a client", "redirect_uri": "https://me.test/cb",
            "state": "s", "code_challenge_method": "S256", "scope": "a,b", "tenant": "y",
            "code_challenge": _challenge("v" * 43), "prompt": "none", "owner": "user",
        }  # fmt: skip


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().strip("=")


class TestDiscovery:
    URL = "https://as.test/.well-known/openid-configuration"

    def document(self, **more: Any) -> WebAnswer:
        return answer({"issuer": "https://as.test", "token_endpoint": "https://as.test/t", **more})

    async def test_it_is_asked_once_an_hour(self) -> None:
        web = Scripted(self.document())
        client = HttpOauthClient(web)
        for _ in range(3):
            assert (await client.discover(self.URL))["token_endpoint"] == "https://as.test/t"
        assert len(web.asked) == 1

    @pytest.mark.parametrize(
        "document",
        [
            {"issuer": "https://evil.test"}, {"issuer": None}, {"issuer": 7},
            {"token_endpoint": None}, {"token_endpoint": "javascript:x"},
            {"authorization_endpoint": "file:///etc/passwd"},
        ],
    )  # fmt: skip
    async def test_mix_up_a_document_of_another_issuer_or_without_use_is_refused(
        self, document: dict[str, Any]
    ) -> None:
        client = HttpOauthClient(Scripted(self.document(**document)))
        with pytest.raises(OauthUnavailable):
            await client.discover(self.URL)

    async def test_a_failure_is_not_asked_for_again_at_once(self) -> None:
        web = Scripted(answer({}, 500), self.document())
        client = HttpOauthClient(web)
        for _ in range(3):
            with pytest.raises(OauthUnavailable, match="500"):
                await client.discover(self.URL)
        assert len(web.asked) == 1

    async def test_entra_ids_shared_address_has_a_pattern_for_its_issuer(self) -> None:
        shared = "https://login.microsoftonline.com/{tenantid}/v2.0"
        client = HttpOauthClient(Scripted(self.document(issuer=shared)))
        url = "https://login.microsoftonline.com/common/v2.0/.well-known/openid-configuration"
        assert (await client.discover(url))["issuer"] == shared

    @pytest.mark.parametrize(
        ("url", "issuer"),
        [
            ("https://a.test/.well-known/openid-configuration", "https://a.test"),
            ("https://a.test/t/1/.well-known/openid-configuration", "https://a.test/t/1"),
            ("https://a.test/.well-known/oauth-authorization-server", "https://a.test"),
            ("https://a.test/.well-known/oauth-authorization-server/t/1", "https://a.test/t/1"),
            ("https://a.test/.well-known/openid-configuration/t/1", "https://a.test/t/1"),
            ("https://a.test/t/.well-known/oauth-authorization-server", "https://a.test/t"),
        ],
    )
    def test_an_address_says_whose_it_is(self, url: str, issuer: str) -> None:
        assert issuer_of(url) == issuer
