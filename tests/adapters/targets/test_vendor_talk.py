"""The stand-ins of Slack and Zoom, asked as the vendors' documentation asks."""

from typing import Any
from urllib.parse import quote, urlsplit

from vendor_caller import At, Caller


class TestSlack:
    async def test_posts_a_message_as_json_or_as_a_form(self, at: At) -> None:
        call = await at("slack")
        bot = call.vendor.token("chat:write", kind="bot")
        message = {"channel": "C123ABC456", "text": "Hello world"}

        _, by_json = await call("POST", "/api/chat.postMessage", token=bot, json=message)
        _, by_form = await call("POST", "/api/chat.postMessage", token=bot, data=message)

        assert by_json["ok"] and by_form["ok"]
        assert by_json["message"]["text"] == "Hello world"

    async def test_shows_the_message_in_the_channels_history(self, at: At) -> None:
        call = await at("slack")
        message = {"channel": "C123ABC456", "text": "Hello world"}

        await call("POST", "/api/chat.postMessage", json=message)
        _, said = await call("GET", "/api/conversations.history?channel=C123ABC456&limit=10")

        assert [one["text"] for one in said["messages"]] == ["Hello world"]

    async def test_does_not_see_a_json_body_of_a_method_that_takes_forms(self, at: At) -> None:
        call = await at("slack")

        status, said = await call("POST", "/api/users.info", json={"user": "W1234567890"})
        _, by_form = await call("POST", "/api/users.info", data={"user": "W1234567890"})

        assert (status, said["error"]) == (200, "invalid_arguments")
        assert by_form["ok"]
        assert "takes no JSON body" in call.vendor.findings[0]

    async def test_says_which_scope_is_missing(self, at: At) -> None:
        call = await at("slack")
        bot = call.vendor.token("channels:read", kind="bot")
        message = {"channel": "C123ABC456", "text": "x"}

        _, said = await call("POST", "/api/chat.postMessage", token=bot, json=message)

        assert said["error"] == "missing_scope"
        assert (said["needed"], said["provided"]) == ("chat:write", "channels:read")

    async def test_searches_for_people_and_not_for_bots(self, at: At) -> None:
        call = await at("slack")
        bot, person = (call.vendor.token("search:read", kind=kind) for kind in ("bot", "user"))

        _, refused = await call("GET", "/api/search.messages?query=x", token=bot)
        _, found = await call("GET", "/api/search.messages?query=x", token=person)

        assert refused == {"ok": False, "error": "not_allowed_token_type"}
        assert found["ok"]

    async def test_answers_200_for_errors_of_every_kind(self, at: At) -> None:
        call = await at("slack")
        asked = [
            ("/api/chat.postMessage", {"channel": "C123ABC456"}, "no_text"),
            ("/api/chat.postMessage", {"channel": "general", "text": "x"}, "channel_not_found"),
            ("/api/no.such", {}, "unknown_method"),
            ("/api/files.upload", {}, "method_deprecated"),
            ("/api/chat.delete", {"channel": "C123ABC456", "ts": "1405894322.002768"},
             "message_not_found"),
        ]  # fmt: skip
        for path, body, error in asked:
            assert await _error(call, path, body) == (200, error)

    async def test_reads_lists_in_a_form_as_json(self, at: At) -> None:
        call = await at("slack")
        form = {"files": '[{"id":"F044GKUHN9Z","title":"a"}]', "channel_id": "C123ABC456"}

        _, said = await call("POST", "/api/files.completeUploadExternal", data=form)
        again = await _error(call, "/api/files.completeUploadExternal", {"files": "F044"})

        assert said["ok"]
        assert again == (200, "invalid_arguments")

    async def test_takes_a_files_bytes_at_the_address_that_it_gave(self, at: At) -> None:
        call = await at("slack")
        _, given = await call("GET", "/api/files.getUploadURLExternal?filename=a.txt&length=5")

        path = urlsplit(given["upload_url"]).path
        taken = await call("POST", path, data=b"hello", headers={"Authorization": ""})

        assert taken == (200, "OK - 5")


async def _error(call: Caller, path: str, body: dict[str, Any]) -> tuple[int, str]:
    status, said = await call("POST", path, json=body)
    return status, said["error"]


class TestZoom:
    async def test_creates_a_meeting_for_me_that_is_got_by_its_number(self, at: At) -> None:
        call = await at("zoom")
        body = {"topic": "My Meeting", "type": 2, "start_time": "2026-12-25T07:32:55Z",
                "duration": 60, "settings": {"waiting_room": True}}  # fmt: skip

        status, made = await call("POST", "/v2/users/me/meetings", json=body)
        _, got = await call("GET", f"/v2/meetings/{made['id']}")
        changed, _ = await call("PATCH", f"/v2/meetings/{made['id']}", json={"topic": "Other"})
        _, again = await call("GET", f"/v2/meetings/{made['id']}")

        assert (status, got["topic"], changed, again["topic"]) == (201, "My Meeting", 204, "Other")
        assert call.vendor.findings == []

    async def test_says_which_field_is_wrong(self, at: At) -> None:
        call = await at("zoom")

        status, said = await call("POST", "/v2/users/me/meetings", json={"duration": "sixty"})

        assert (status, said["code"]) == (400, 300)
        assert said["errors"][0]["field"] == "duration"

    async def test_wants_a_uuid_with_slashes_encoded_twice(self, at: At) -> None:
        call = await at("zoom")
        uuid = "/ajXp112QmuoKj48548754=="

        once = await call("GET", "/v2/past_meetings/" + quote(uuid, safe=""))
        twice = await call("GET", "/v2/past_meetings/" + quote(quote(uuid, safe=""), safe=""))

        assert (once[0], twice[0]) == (404, 200)

    async def test_names_the_scopes_that_a_token_lacks(self, at: At) -> None:
        call = await at("zoom")
        other = call.vendor.token("user:read:user")
        granular = call.vendor.token("meeting:write:meeting")
        body = {"topic": "t"}

        status, said = await call("POST", "/v2/users/me/meetings", token=other, json=body)
        right, _ = await call("POST", "/v2/users/me/meetings", token=granular, json=body)

        assert (status, said["code"], right) == (400, 4711, 201)

    async def test_takes_a_meetings_number_alone(self, at: At) -> None:
        call = await at("zoom")

        status, said = await call("GET", "/v2/meetings/my-meeting")

        assert (status, said["code"]) == (404, 3001)
