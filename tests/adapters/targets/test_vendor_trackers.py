"""The stand-ins of GitHub, Jira and Asana, asked as the vendors' documentation asks."""

import base64
from typing import Any
from urllib.parse import quote

from vendor_caller import At, Caller

_GITHUB = {
    "Accept": "application/vnd.github+json",
    "X-GitHub-Api-Version": "2022-11-28",
    "User-Agent": "a-test",
}


class TestGitHub:
    async def call(self, at: At) -> Caller:
        call = await at("github")
        call.headers = _GITHUB
        return call

    async def test_creates_an_issue_that_can_then_be_got_and_listed(self, at: At) -> None:
        call = await self.call(at)
        body = {"title": "Found a bug", "body": "I'm having a problem.", "labels": ["bug"]}

        status, issue = await call("POST", "/repos/octocat/hello/issues", json=body)
        got = await call("GET", f"/repos/octocat/hello/issues/{issue['number']}")
        listed = await call("GET", "/repos/octocat/hello/issues?state=open&per_page=5")

        assert status == 201
        assert issue["title"] == got[1]["title"] == listed[1][0]["title"] == "Found a bug"
        assert call.vendor.findings == []

    async def test_wants_the_title_of_an_issue(self, at: At) -> None:
        call = await self.call(at)

        status, said = await call("POST", "/repos/octocat/hello/issues", json={"body": "?"})

        assert status == 422
        assert said["errors"] == [{"resource": "issues", "field": "title", "code": "missing_field"}]

    async def test_wants_a_user_agent_and_a_version_that_it_knows(self, at: At) -> None:
        call = await self.call(at)

        assert (await call("GET", "/user", headers={"User-Agent": ""}))[0] == 403
        assert (await call("GET", "/user", headers={"X-GitHub-Api-Version": "2021-01-01"}))[
            0
        ] == 400

    async def test_hides_a_repository_from_a_token_without_the_scope(self, at: At) -> None:
        call = await self.call(at)
        token = call.vendor.token("read:org")

        status, said = await call("POST", "/repos/o/r/issues", token=token, json={"title": "t"})

        assert (status, said["message"]) == (404, "Not Found")

    async def test_takes_a_files_content_as_base64_alone(self, at: At) -> None:
        call = await self.call(at)
        path = "/repos/o/r/contents/docs/a%20file.md"
        content = base64.b64encode(b"# Hello").decode()

        plain = await call("PUT", path, json={"message": "m", "content": "# Hello"})
        encoded = await call("PUT", path, json={"message": "m", "content": content})
        _, got = await call("GET", path)

        assert plain[0] == 422
        assert encoded[0] in (200, 201)
        assert got["path"] == "docs/a file.md"
        assert base64.b64decode(got["content"])

    async def test_gives_a_file_as_it_is_to_who_asks_for_that(self, at: At) -> None:
        call = await self.call(at)

        raw = {"Accept": "application/vnd.github.raw+json"}

        assert await call("GET", "/repos/o/r/contents/a.md", headers=raw) == (200, "# A file\n")

    async def test_knows_no_path_that_is_not_in_its_description(self, at: At) -> None:
        call = await self.call(at)

        assert (await call("GET", "/repos/o/r/problems"))[0] == 404
        assert (await call("DELETE", "/repos/o/r/issues"))[0] == 405

    async def test_keeps_a_note_of_a_parameter_that_it_does_not_document(self, at: At) -> None:
        call = await self.call(at)

        status, _ = await call("GET", "/repos/o/r/issues?status=open")

        assert status == 200
        assert call.vendor.findings == [
            "issues/list-for-repo: query.status: unknown, expected no such member"
        ]

    async def test_refuses_a_value_that_is_no_choice(self, at: At) -> None:
        call = await self.call(at)

        assert (await call("GET", "/repos/o/r/issues?state=done"))[0] == 422


class TestJira:
    _OAUTH, _SITE = "/ex/jira/11223344-a1b2/rest/api/3", "/rest/api/3"

    def _document(self, text: str) -> dict[str, Any]:
        paragraph = {"type": "paragraph", "content": [{"type": "text", "text": text}]}
        return {"type": "doc", "version": 1, "content": [paragraph]}

    async def test_creates_an_issue_with_a_document_for_description(self, at: At) -> None:
        call = await at("jira")
        fields = {"project": {"key": "EX"}, "summary": "Main order flow broken",
                  "issuetype": {"name": "Bug"}, "description": self._document("So.")}  # fmt: skip

        status, made = await call("POST", self._OAUTH + "/issue", json={"fields": fields})
        _, got = await call("GET", f"{self._OAUTH}/issue/{made['key']}?fields=summary")

        assert status == 201
        assert made["key"].startswith("EX-")
        assert got["fields"]["summary"] == "Main order flow broken"
        assert call.vendor.findings == []

    async def test_takes_no_plain_text_where_a_document_belongs(self, at: At) -> None:
        call = await at("jira")
        body = {"body": "just text"}

        status, said = await call("POST", self._OAUTH + "/issue/EX-1/comment", json=body)

        assert status == 400
        assert "Atlassian Document" in said["errors"]["body"]

    async def test_searches_at_the_new_place_and_with_a_restriction_alone(self, at: At) -> None:
        call = await at("jira")
        jql = quote("project = EX ORDER BY created")

        old = await call("GET", f"{self._OAUTH}/search?jql={jql}")
        new = await call("GET", f"{self._OAUTH}/search/jql?jql={jql}&fields=summary&maxResults=5")
        posted = await call("POST", self._OAUTH + "/search/jql", json={"jql": "project = EX"})
        unbounded = await call(
            "POST", self._OAUTH + "/search/jql", json={"jql": "order by created"}
        )

        assert [one[0] for one in (old, new, posted, unbounded)] == [410, 200, 200, 400]

    async def test_takes_tokens_at_the_one_host_and_passwords_at_the_other(self, at: At) -> None:
        call = await at("jira")
        call.vendor.password("fred@example.com", "freds_api_token")
        basic = "Basic " + base64.b64encode(b"fred@example.com:freds_api_token").decode()

        by_password = {"headers": {"Authorization": basic}}
        site, gateway = self._SITE + "/myself", self._OAUTH + "/myself"

        assert (await call("GET", site))[0] == 401
        assert (await call("GET", gateway))[0] == 200
        assert (await call("GET", site, **by_password))[0] == 200
        assert (await call("GET", gateway, **by_password))[0] == 401

        call.vendor.password("fred@example.com", "freds_api_token", "read:jira-user")
        assert (await call("GET", site, **by_password))[0] == 401
        assert (await call("GET", gateway, **by_password))[0] == 200

    async def test_moves_an_issue_by_the_transitions_id(self, at: At) -> None:
        call = await at("jira")
        path = self._OAUTH + "/issue/EX-1/transitions"

        assert (await call("POST", path, json={"transition": {"id": "5"}}))[0] == 204
        assert (await call("POST", path, json={"transition": {"id": 5}}))[0] == 400
        assert (await call("POST", path, json={"transition": "Done"}))[0] == 400

    async def test_wants_scopes_of_jira_software_for_boards(self, at: At) -> None:
        call = await at("jira")
        classic = call.vendor.token("read:jira-work")
        granular = call.vendor.token("read:board-scope:jira-software", "read:project:jira")
        path = "/ex/jira/c/rest/agile/1.0/board"

        assert (await call("GET", path, token=classic))[0] == 401
        assert (await call("GET", path, token=granular))[0] == 200

    async def test_watches_with_a_string_for_a_body(self, at: At) -> None:
        call = await at("jira")

        status, _ = await call(
            "POST", self._OAUTH + "/issue/EX-1/watchers", json="5b10ac8d82e05b22"
        )

        assert status == 204


class TestAsana:
    async def test_wraps_requests_and_answers_in_data(self, at: At) -> None:
        call = await at("asana")
        task = {"name": "Buy catnip", "workspace": "12345", "assignee": "me"}

        status, said = await call("POST", "/api/1.0/tasks?opt_fields=name", json={"data": task})
        _, got = await call("GET", f"/api/1.0/tasks/{said['data']['gid']}")
        bare, errors = await call("POST", "/api/1.0/tasks", json=task)

        assert (status, got["data"]["name"]) == (201, "Buy catnip")
        assert (bare, list(errors)) == (400, ["errors"])
        assert errors["errors"][0]["message"]

    async def test_wants_to_know_where_a_task_belongs(self, at: At) -> None:
        call = await at("asana")

        assert (await call("POST", "/api/1.0/tasks", json={"data": {"name": "x"}}))[0] == 400
        assert (await call("GET", "/api/1.0/tasks"))[0] == 400
        assert (await call("GET", "/api/1.0/tasks?assignee=me&workspace=12345"))[0] == 200

    async def test_knows_things_by_digits(self, at: At) -> None:
        call = await at("asana")

        assert (await call("GET", "/api/1.0/tasks/abc"))[0] == 404
        assert (await call("GET", "/api/1.0/users/me"))[0] == 200

    async def test_lets_a_deleted_task_be_gone(self, at: At) -> None:
        call = await at("asana")
        body = {"data": {"name": "x", "projects": ["1"]}}

        _, made = await call("POST", "/api/1.0/tasks", json=body)
        path = f"/api/1.0/tasks/{made['data']['gid']}"

        assert await call("DELETE", path) == (200, {"data": {}})
        assert (await call("GET", path))[0] == 404

    async def test_wants_the_scope_of_the_operation_or_all(self, at: At) -> None:
        call = await at("asana")
        reads, full = call.vendor.token("tasks:read"), call.vendor.token("default")
        body = {"data": {"text": "A comment"}}

        assert (await call("POST", "/api/1.0/tasks/1/stories", token=reads, json=body))[0] == 403
        assert (await call("POST", "/api/1.0/tasks/1/stories", token=full, json=body))[0] == 201
