"""The library of library.yaml: a server in memory, for trying a gateway.

python library.py [PORT]

LIBRARY_KEY is the key that it wants; "open-sesame" where there is none.
"""

import hmac
import json
import os
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = os.environ.get("LIBRARY_KEY", "open-sesame")
_SHELVES: tuple[tuple[str, str, str], ...] = (
    ("Sailing Alone Around the World", "Slocum", "sea"),
    ("A Course of Pure Mathematics", "Hardy", "maths"),
    ("The Book of Household Management", "Beeton", "cooking"),
)
BOOKS: dict[int, dict[str, Any]] = {
    id: {"id": id, "title": title, "author": author, "shelf": shelf}
    for id, (title, author, shelf) in enumerate(_SHELVES, start=1)
}


class Library(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        if not self._let_in():
            return
        if parts.path == "/v1/books":
            words = query.get("words", [""])[0].lower().split()
            shelves = [s for s in query.get("shelves", [""])[0].split(",") if s]
            found = [book for book in BOOKS.values() if _fits(book, words, shelves)]
            self._answer(200, {"books": found})
        elif book := self._book(parts.path, r"/v1/books/(\d+)"):
            self._answer(200, book)

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if self._let_in() and (book := self._book(self.path, r"/v1/books/(\d+)/loan")):
            if book.get("lent_to") not in (None, body["reader"]):
                self._answer(409, {"error": f"{book['lent_to']} has it"})
                return
            book["lent_to"] = body["reader"]
            self._answer(200, book)

    def _let_in(self) -> bool:
        if hmac.compare_digest(self.headers.get("X-Library-Key", ""), KEY):
            return True
        self._answer(401, {"error": "X-Library-Key is missing or wrong"})
        return False

    def _book(self, path: str, pattern: str) -> dict[str, Any] | None:
        found = re.fullmatch(pattern, path)
        book = BOOKS.get(int(found[1])) if found else None
        if book is None:
            self._answer(404, {"error": "there is no such book"})
        return book

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _fits(book: dict[str, Any], words: list[str], shelves: list[str]) -> bool:
    text = f"{book['title']} {book['author']}".lower()
    return all(word in text for word in words) and (not shelves or book["shelf"] in shelves)


def serve(port: int = 8765) -> ThreadingHTTPServer:
    return ThreadingHTTPServer(("127.0.0.1", port), Library)


if __name__ == "__main__":
    with serve(int(sys.argv[1]) if len(sys.argv) > 1 else 8765) as server:
        server.serve_forever()
