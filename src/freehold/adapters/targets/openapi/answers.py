"""From an API's answer to MCP's CallToolResult."""

import base64
import http
import re
from typing import Any

import msgspec

from freehold.adapters.targets.sending import HttpAnswer

Json = dict[str, Any]

_ERROR_CHARACTERS_MAX = 4000
_CHARSET = re.compile(r"charset=\"?([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE)
# Some of Python's codecs take very long for a long text, and none of those is ever sent.
_KNOWN_CHARSET = re.compile(
    r"utf-?(8|16|32)(-?[lb]e)?|us-ascii|ascii|iso-8859-\d+|latin1|windows-\d+|cp\d+|koi8-[ru]"
    r"|shift[_-]jis|euc-(jp|kr)|gb(2312|k|18030)|big5|iso-2022-jp"
)
_FILENAME = re.compile(r"filename=\"?([^\";]{1,200})", re.IGNORECASE)
_TEXT = re.compile(
    r"text/.*|application/(.*\+)?(json|xml|yaml|x-yaml|javascript|x-ndjson|ndjson|graphql|sql|toml"
    r"|x-www-form-urlencoded|jsonl|json-seq)|image/svg\+xml"
)
_JSON = re.compile(r"(application|text)/(.*\+)?json")


def result(answer: HttpAnswer, tool: str, *, structured: bool, answer_bytes_max: int) -> Json:
    """`structured`: the tool has an output schema, so that MCP wants an object as well."""
    if answer.status >= 400:
        return _error(answer)
    if answer.status >= 300:
        return _redirect(answer)
    if answer.truncated and (structured or not _is_text(answer)):
        return failed(
            f"The API's answer is longer than {answer_bytes_max} bytes, which is the most that is"
            " passed on. Ask for less, for example by a filter or a page size.",
            answer.status,
        )
    if not answer.body:
        found = [_text(_empty(answer))]
        return _with({"content": found}, {} if structured else None)
    media = _media(answer)
    if _is_text(answer):
        text = _decoded(answer)
        found = [_text(text)]
        if answer.truncated:
            found.append(_text(f"[The answer is longer: {answer_bytes_max} bytes of it are here.]"))
        return _with({"content": found}, _document(answer.body, media) if structured else None)
    data = base64.b64encode(answer.body).decode()
    kind = media.split("/", 1)[0]
    if kind in ("image", "audio"):
        content: Json = {"type": kind, "data": data, "mimeType": media}
    else:
        resource = {"uri": _uri(answer, tool), "mimeType": media, "blob": data}
        content = {"type": "resource", "resource": resource}
    return _with({"content": [content]}, {} if structured else None)


def failed(message: str, status: int | None = None) -> Json:
    found: Json = {"content": [_text(message)], "isError": True}
    if status is not None:
        found["_meta"] = {"freehold/upstream-status": status}
    return found


def _error(answer: HttpAnswer) -> Json:
    lines = [f"The API answered {_status(answer.status)}."]
    if answer.status == 401:
        lines.append("It does not take the credential that the gateway sent.")
    if answer.status in (429, 503) and answer.headers.get("retry-after", "").isascii():
        after = answer.headers.get("retry-after", "")
        if after:
            lines.append(f"It asks to try again after {after[:40]}.")
    body = _decoded(answer).strip() if answer.body and _is_text(answer) else ""
    if len(body) > _ERROR_CHARACTERS_MAX:
        body = body[:_ERROR_CHARACTERS_MAX] + " [...]"
    text = " ".join(lines)
    return failed(f"{text}\n{body}" if body else text, answer.status)


def _redirect(answer: HttpAnswer) -> Json:
    # Without its query, which may hold a secret.
    location = re.split(r"[?#]", answer.headers.get("location", ""))[0][:500]
    where = f" to {location}" if location else ""
    return failed(
        f"The API answered {_status(answer.status)}: it redirects{where}. Redirects are not"
        " followed; where it has moved for good, its document has to name the new place.",
        answer.status,
    )


def _empty(answer: HttpAnswer) -> str:
    location = re.split(r"[?#]", answer.headers.get("location", ""))[0][:500]
    made = f" Location: {location}" if location else ""
    return f"Done: {_status(answer.status)}, without content.{made}"


def _status(status: int) -> str:
    try:
        return f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _media(answer: HttpAnswer) -> str:
    media = answer.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if media:
        return media
    return "application/json" if answer.body.lstrip()[:1] in (b"{", b"[") else "text/plain"


def _is_text(answer: HttpAnswer) -> bool:
    media = _media(answer)
    if not _TEXT.fullmatch(media):
        return False
    if "content-type" in answer.headers:
        return True
    return b"\0" not in answer.body[:1000]


def _decoded(answer: HttpAnswer) -> str:
    found = _CHARSET.search(answer.headers.get("content-type", ""))
    charset = found[1].lower() if found else "utf-8"
    if not _KNOWN_CHARSET.fullmatch(charset):
        charset = "utf-8"
    try:
        return answer.body.decode(charset, errors="replace")
    except LookupError:
        return answer.body.decode("utf-8", errors="replace")


def _document(body: bytes, media: str) -> Json:
    """An object: what is none stands under `result`, which every output schema of ours permits."""
    if not _JSON.fullmatch(media):
        return {}
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {"result": document}


def _uri(answer: HttpAnswer, tool: str) -> str:
    found = _FILENAME.search(answer.headers.get("content-disposition", ""))
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", found[1]) if found else tool
    return f"attachment:{name}"


def _text(text: str) -> Json:
    return {"type": "text", "text": text}


def _with(found: Json, structured: Json | None) -> Json:
    if structured is not None:
        found["structuredContent"] = structured
    return found
