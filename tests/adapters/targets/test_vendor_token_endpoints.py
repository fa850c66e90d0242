"""The stand-ins' token endpoints, asked as the vendors' documentation asks."""

import base64
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from vendor_caller import At, Caller


class TestOAuth:
    async def _code(self, call: Caller, **extra: str) -> str:
        asked = {"client_id": "the-client", "response_type": "code", "state": "s",
                 "redirect_uri": "https://app.example/back", **extra}  # fmt: skip
        path = call.vendor.facts.about["oauth"]["authorize"]
        status, _ = await call("GET", f"{path}?{urlencode(asked)}", headers={"Authorization": ""})
        assert status == 302
        back = parse_qs(urlsplit(call.answered["Location"]).query)
        assert back["state"] == ["s"]
        return back["code"][0]

    async def _token(self, call: Caller, form: dict[str, str], **headers: str) -> tuple[int, Any]:
        path = call.vendor.facts.about["oauth"]["token"]
        return await call("POST", path, data=form, headers={"Authorization": "", **headers})

    def _post(self, **form: str) -> dict[str, str]:
        return {"client_id": "the-client", "client_secret": "the-secret", **form}

    def _basic(self) -> str:
        return "Basic " + base64.b64encode(b"the-client:the-secret").decode()

    async def test_github_answers_a_form_unless_json_is_asked_for(self, at: At) -> None:
        call = await at("github")
        codes = [await self._code(call, scope="repo read:org") for _ in range(2)]

        _, form = await self._token(call, self._post(code=codes[0]))
        _, document = await self._token(call, self._post(code=codes[1]), Accept="application/json")

        assert dict(parse_qsl(form))["scope"] == "repo,read:org"
        assert document["token_type"] == "bearer"

    async def test_github_answers_200_to_a_code_that_is_used(self, at: At) -> None:
        call = await at("github")

        status, said = await self._token(call, self._post(code="x"), Accept="application/json")

        assert (status, said["error"]) == (200, "bad_verification_code")

    async def test_slack_nests_the_persons_token_and_takes_commas(self, at: At) -> None:
        call = await at("slack")
        code = await self._code(call, scope="chat:write,users:read", user_scope="search:read")

        _, said = await self._token(call, {"code": code}, Authorization=self._basic())
        _, again = await self._token(call, {"code": code}, Authorization=self._basic())

        assert said["access_token"].startswith("xoxb-")
        assert said["authed_user"]["access_token"].startswith("xoxp-")
        assert again == {"ok": False, "error": "invalid_code"}
        _, found = await call(
            "GET", "/api/search.messages?query=x", token=said["authed_user"]["access_token"]
        )
        assert found["ok"]

    async def test_slack_gives_a_person_alone_no_token_at_the_top(self, at: At) -> None:
        call = await at("slack")
        code = await self._code(call, scope="", user_scope="search:read")

        _, said = await self._token(call, self._post(code=code))

        assert "access_token" not in said
        assert said["authed_user"]["token_type"] == "user"

    async def test_atlassian_wants_its_audience_and_a_scope_for_refreshing(self, at: At) -> None:
        call = await at("jira")
        asked = {"client_id": "the-client", "response_type": "code", "redirect_uri": "https://a.b"}
        status, _ = await call("GET", "/authorize?" + urlencode(asked))
        extra = {"audience": "api.atlassian.com", "prompt": "consent"}
        codes = [
            await self._code(call, scope=scope, **extra)
            for scope in ("read:jira-work", "read:jira-work offline_access")
        ]

        first, second = [
            (await self._token(call, self._post(grant_type="authorization_code", code=code)))[1]
            for code in codes
        ]

        assert status == 400
        assert "refresh_token" not in first
        assert second["refresh_token"]
        _, sites = await call(
            "GET", "/oauth/token/accessible-resources", token=second["access_token"]
        )
        assert sites[0]["id"]

    async def test_zoom_takes_its_client_by_basic_and_an_account_without_a_person(
        self, at: At
    ) -> None:
        call = await at("zoom")
        grant = {"grant_type": "account_credentials", "account_id": "the-account"}

        posted, _ = await self._token(call, self._post(**grant))
        status, said = await self._token(call, grant, Authorization=self._basic())
        other, _ = await self._token(
            call, {**grant, "account_id": "another"}, Authorization=self._basic()
        )

        assert (posted, status, other) == (401, 200, 400)
        assert "refresh_token" not in said

    async def test_zoom_ends_a_refresh_token_with_its_first_use(self, at: At) -> None:
        call = await at("zoom")
        code = await self._code(call)
        form = {"grant_type": "authorization_code", "code": code}
        _, said = await self._token(call, form, Authorization=self._basic())
        again = {"grant_type": "refresh_token", "refresh_token": said["refresh_token"]}

        tries = [await self._token(call, again, Authorization=self._basic()) for _ in range(2)]

        assert [status for status, _ in tries] == [200, 400]
        assert tries[0][1]["refresh_token"] != said["refresh_token"]

    async def test_salesforce_says_where_the_instance_is_and_not_when_a_token_ends(
        self, at: At
    ) -> None:
        call = await at("salesforce")
        code = await self._code(call, scope="api refresh_token")
        form = self._post(grant_type="authorization_code", code=code)

        _, said = await self._token(call, form)
        again = self._post(grant_type="refresh_token", refresh_token=said["refresh_token"])
        _, refreshed = await self._token(call, again)

        assert said["instance_url"] == call.vendor.url
        assert "expires_in" not in said
        assert "refresh_token" not in refreshed
        status, _ = await call(
            "GET", "/services/data/v60.0/limits", token=refreshed["access_token"]
        )
        assert status == 200

    async def test_asana_wants_the_redirect_uri_again(self, at: At) -> None:
        call = await at("asana")
        codes = [await self._code(call, scope="tasks:read") for _ in range(2)]
        form = self._post(grant_type="authorization_code")

        bare, _ = await self._token(call, {**form, "code": codes[0]})
        right, said = await self._token(
            call, {**form, "code": codes[1], "redirect_uri": "https://app.example/back"}
        )

        assert (bare, right) == (400, 200)
        assert said["data"]["gid"]

    async def test_zendesk_takes_json_and_rotates(self, at: At) -> None:
        call = await at("zendesk")
        code = await self._code(call, scope="read write")
        form = self._post(
            grant_type="authorization_code", code=code, redirect_uri="https://app.example/back"
        )

        status, said = await call("POST", "/oauth/tokens", json=form, headers={"Authorization": ""})

        assert status == 200
        assert said["scope"] == "read write"
        assert said["refresh_token"]
        assert call.vendor.findings == []

    async def test_a_code_asked_for_with_pkce_wants_its_verifier(self, at: At) -> None:
        call = await at("github")
        code = await self._code(call, code_challenge="x", code_challenge_method="S256")

        _, said = await self._token(
            call, self._post(code=code, code_verifier="wrong"), Accept="application/json"
        )

        assert said["error"] == "bad_verification_code"
