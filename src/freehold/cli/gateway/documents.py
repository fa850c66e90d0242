"""Documents that describe targets: from files, URLs and S3 to where the API takes them."""

import hashlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freehold.cli import code_bucket
from freehold.cli.failure import CliError
from freehold.cli.platform import Platform

if TYPE_CHECKING:
    import urllib3

_INLINE_BYTES_MAX = 1 << 20
_KEY_PREFIX = "gateway-documents"  # no agent's name has a hyphen
_FETCH_BYTES_MAX = 10 << 20
_FETCH_SECONDS_MAX = 30.0
_MEMBERS = frozenset({"type", "properties", "required", "items", "description"})
_SCHEMAS = ("inputSchema", "outputSchema")


def source(platform: Platform, place: str) -> dict[str, Any]:
    """`s3` or `inlinePayload`, as the API takes a document that is text."""
    if place.startswith("s3://"):
        return {"s3": {"uri": place}}
    if place.startswith(("http://", "https://")):
        text = _with_address(_fetched(place), place)
    else:
        text = read(Path(place))
    return _placed(platform, text)


def tools(platform: Platform, place: str) -> dict[str, Any]:
    """The toolSchema of a function: AWS's form of a schema knows few members, and says so of the
    others."""
    if place.startswith("s3://"):
        return {"s3": {"uri": place}}
    text = read(Path(place))
    try:
        document = json.loads(text)
    except ValueError as error:
        raise CliError(f"{place} is no JSON: {error}", code="BadDocument") from None
    given = document.get("tools") if isinstance(document, dict) else document
    if not isinstance(given, list) or not all(
        isinstance(tool, dict) and isinstance(tool.get("inputSchema"), dict) for tool in given
    ):
        raise CliError(
            f"{place}: expected a list of tools, each with name, description and inputSchema.",
            code="BadDocument",
        )
    left: set[str] = set()
    found = [_tool(tool, left) for tool in given]
    if left:
        platform.output.note(
            f"{place}: a function's tools have no {', '.join(sorted(left))}; left out."
        )
    if len(text) < _INLINE_BYTES_MAX:
        return {"inlinePayload": found}
    return _uploaded(platform, json.dumps(found))


def _tool(tool: dict[str, Any], left: set[str]) -> dict[str, Any]:
    schemas = {key: _schema(tool[key], left) for key in _SCHEMAS if key in tool}
    left |= tool.keys() - {"name", "description", *_SCHEMAS}
    return {key: tool[key] for key in ("name", "description") if key in tool} | schemas


def _schema(schema: Any, left: set[str]) -> Any:
    if not isinstance(schema, dict):
        return schema
    left |= schema.keys() - _MEMBERS
    kept = {key: value for key, value in schema.items() if key in _MEMBERS}
    if isinstance(kept.get("properties"), dict):
        kept["properties"] = {k: _schema(v, left) for k, v in kept["properties"].items()}
    if "items" in kept:
        kept["items"] = _schema(kept["items"], left)
    return kept


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise CliError(f"{path} is not UTF-8 text.", code="BadDocument") from None
    except OSError as error:
        raise CliError(f"{path}: {error.strerror or error}", code="NoDocument") from None


def json_object(text: str, where: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise CliError(f"{where} is no JSON: {error}", code="BadJson") from None
    if not isinstance(document, dict):
        raise CliError(f"{where} is no JSON object.", code="BadJson")
    return document


def _placed(platform: Platform, text: str) -> dict[str, Any]:
    if len(text.encode()) <= _INLINE_BYTES_MAX:
        return {"inlinePayload": text}
    return _uploaded(platform, text)


def _uploaded(platform: Platform, text: str) -> dict[str, Any]:
    data = text.encode()
    key = f"{_KEY_PREFIX}/{hashlib.sha256(data).hexdigest()}"
    code_bucket.upload(platform, io.BytesIO(data), key)
    return {"s3": {"uri": f"s3://{code_bucket.BUCKET}/{key}"}}


def _fetched(url: str) -> str:
    import urllib3

    pool = urllib3.PoolManager(retries=urllib3.Retry(total=0, redirect=3))
    try:
        answer = pool.request("GET", url, preload_content=False, timeout=_FETCH_SECONDS_MAX)
        data = _all_of(answer, url)
    except urllib3.exceptions.HTTPError as error:
        raise CliError(f"{url} cannot be fetched: {error}", code="NoDocument") from None
    if answer.status != 200:
        raise CliError(f"{url} answered {answer.status}.", code="NoDocument")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CliError(f"{url} is not UTF-8 text.", code="BadDocument") from None


def _all_of(answer: "urllib3.BaseHTTPResponse", url: str) -> bytes:
    data: bytes = answer.read(_FETCH_BYTES_MAX + 1)
    answer.close()
    if len(data) > _FETCH_BYTES_MAX:
        raise CliError(f"{url} is larger than {_FETCH_BYTES_MAX >> 20} MB.", code="BadDocument")
    return data


def _with_address(text: str, url: str) -> str:
    """With `$self`: relative servers and references are of where the document came from."""
    from freehold.adapters.targets.openapi.reading import read as parsed
    from freehold.kernel.errors import ValidationFailed

    try:
        document = parsed(text)
    except ValidationFailed as error:
        raise CliError(f"{url}: {error.message}", code="BadDocument") from None
    return json.dumps({"$self": url, **document}, ensure_ascii=False)
