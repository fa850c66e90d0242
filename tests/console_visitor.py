"""A person with a browser at the console: its forms filled in, its links followed, its cookies."""

import html
import re
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3

_PAGES_MAX = 10


class ConsoleVisitor:
    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.cookies: dict[str, str] = {}
        self._pool = urllib3.PoolManager(retries=False)

    def sign_in(self, name: str, password: str) -> str:
        """With the form; the page that it leads to."""
        page = self.get("/console/sign-in")
        return self.send(page, "/console/sign-in", name=name, password=password)

    def answer_device(self, url: str, answer: str = "approve") -> str:
        """The page's answer; opened on where it leads elsewhere (a meta refresh)."""
        return self._answer(self.get(url), answer)

    def type_code(self, code: str, answer: str = "approve") -> str:
        form = self.get("/console/device")
        return self._answer(self.send(form, "/console/device/code", code=code), answer)

    def _answer(self, page: str, answer: str) -> str:
        done = self.send(page, "/console/device", answer=answer)
        found = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', done)
        return self.get(html.unescape(found[1])) if found else done

    def get(self, url: str) -> str:
        _, page = self._follow("GET", url, None)
        return page

    def leads_to(self, url: str) -> str:
        """The first address outside the console that it sends the browser to."""
        address, _ = self._follow("GET", url, None)
        return address

    def send(self, page: str, action: str, **fields: str) -> str:
        forms = re.findall(r"<form[^>]*>.*?</form>", page, re.DOTALL)
        form = next((f for f in forms if f'method="post" action="{action}"' in f), None)
        assert form is not None, f"no form for {action} on this page: {page}"
        hidden = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form))
        whole = {**{name: html.unescape(value) for name, value in hidden.items()}, **fields}
        _, answer = self._follow("POST", action, whole)
        return answer

    def _follow(self, method: str, url: str, fields: dict[str, str] | None) -> tuple[str, str]:
        for _ in range(_PAGES_MAX):
            url = urljoin(self.endpoint, url)
            if not url.startswith(f"{self.endpoint}/") and not url.startswith("http://127.0.0.1:"):
                return url, ""
            ours = url.startswith(f"{self.endpoint}/")
            headers = {"Origin": self.endpoint, "Sec-Fetch-Site": "same-origin"} if ours else {}
            if ours and self.cookies:
                headers["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
            body = None if fields is None else urlencode(fields)
            if body is not None:
                headers["Content-Type"] = "application/x-www-form-urlencoded"
            answer = self._pool.request(
                method, url, body=body, headers=headers, redirect=False, timeout=30
            )
            if ours:
                self._keep(answer.headers.getlist("Set-Cookie"))
            location = answer.headers.get("Location")
            if location is None:
                return url, answer.data.decode()
            method, url, fields = "GET", urljoin(url, location), None
            if urlsplit(url).netloc != urlsplit(self.endpoint).netloc:
                return url, ""
        raise AssertionError(f"no end after {_PAGES_MAX} pages, at {url}")

    def _keep(self, cookies: list[str]) -> None:
        for cookie in cookies:
            name, _, value = cookie.partition(";")[0].partition("=")
            if "Max-Age=0" in cookie:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
