"""What is declared of a body is verified, and a body that is not as declared is never stored."""

import base64
import datetime as dt
import hashlib
import hmac
import ipaddress
import socket
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from s3_edge_driver import REGION, Answer, Served, ask, send, served, sign

from freehold.edges.sigv4 import signing_key
from freehold.ports.authorizer import AccessKey

BUCKET = "things"
PATH = f"/{BUCKET}/k"
BODY = b"the body " * 1000


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def crc32(data: bytes) -> str:
    return b64(zlib.crc32(data).to_bytes(4, "big"))


def stored(s3: Any) -> list[str]:
    return [one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET).get("Contents", ())]


GOOD = {
    "x-amz-checksum-crc32": crc32(BODY),
    "x-amz-checksum-sha1": b64(hashlib.sha1(BODY).digest()),
    "x-amz-checksum-sha256": b64(hashlib.sha256(BODY).digest()),
    "x-amz-checksum-sha512": b64(hashlib.sha512(BODY).digest()),
    "Content-MD5": b64(hashlib.md5(BODY).digest()),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_right_checksum_is_accepted_and_a_wrong_one_stores_nothing(
    running: Served, key: AccessKey, s3: Any, name: str
) -> None:
    right = GOOD[name]
    wrong = b64(bytes(len(base64.b64decode(right))))
    refused = ask(running, key, "PUT", PATH, {name: wrong}, BODY)
    assert (refused.status, refused.code, stored(s3)) == (400, "BadDigest", [])
    for malformed in ("", "?", "AAAA", right[:-4]):
        refused = ask(running, key, "PUT", PATH, {name: malformed}, BODY)
        assert (refused.status, refused.code, stored(s3)) == (400, "InvalidDigest", [])
    assert ask(running, key, "PUT", PATH, {name: right}, BODY).status == 200
    assert stored(s3) == ["k"]


def test_a_checksum_that_cannot_be_verified_is_not_pretended(
    running: Served, key: AccessKey, s3: Any
) -> None:
    refused = ask(running, key, "PUT", PATH, {"x-amz-checksum-crc32c": "AAAAAA=="}, BODY)
    assert (refused.status, refused.code, stored(s3)) == (501, "NotImplemented", [])


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_another_body_than_the_signed_one_stores_nothing(
    running: Served, key: AccessKey, s3: Any, size: int
) -> None:
    signed = sign(running, key, "PUT", PATH, payload=bytes(size))
    refused = send(running, "PUT", signed.path, signed.headers, b"\1" + bytes(size - 1))
    assert (refused.status, refused.code) == (400, "XAmzContentSHA256Mismatch")
    assert stored(s3) == []


def test_a_part_is_verified_too(running: Served, key: AccessKey, s3: Any) -> None:
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="k")["UploadId"]
    path = f"{PATH}?partNumber=1&uploadId={upload}"
    refused = ask(running, key, "PUT", path, {"x-amz-checksum-crc32": "AAAAAA=="}, BODY)
    assert refused.code == "BadDigest"
    assert "Parts" not in s3.list_parts(Bucket=BUCKET, Key="k", UploadId=upload)


@pytest.mark.parametrize("payload", ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"])
def test_an_unsigned_body_is_refused_without_tls(
    running: Served, key: AccessKey, s3: Any, payload: str
) -> None:
    signed = sign(running, key, "PUT", PATH, payload=payload)
    refused = send(running, "PUT", signed.path, signed.headers, BODY)
    assert (refused.status, refused.code, stored(s3)) == (403, "AccessDenied", [])


def test_an_unsigned_body_may_be_allowed_behind_a_proxy(tmp_path: Path, tenant: str) -> None:
    with served(tmp_path, unsigned_over_http=True) as behind_proxy:
        key = behind_proxy.keys.make(tenant)
        assert ask(behind_proxy, key, "PUT", f"/{BUCKET}").status == 200
        signed = sign(behind_proxy, key, "PUT", PATH, payload="UNSIGNED-PAYLOAD")
        assert send(behind_proxy, "PUT", signed.path, signed.headers, BODY).status == 200


def test_a_signature_of_anything_else_is_refused(running: Served, key: AccessKey, s3: Any) -> None:
    signed = sign(running, key, "PUT", PATH, {"x-amz-meta-a": "1"}, payload=BODY)
    changed = [
        ("PUT", signed.path.replace("/k", "/other"), {}),
        ("DELETE", signed.path, {}),
        ("PUT", signed.path + "?x-id=PutObject", {}),
        ("PUT", signed.path, {"x-amz-meta-a": "2"}),
        ("PUT", signed.path, {"x-amz-meta-b": "1"}),
        ("PUT", signed.path, {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}),
        ("PUT", signed.path, {"Authorization": signed.headers["Authorization"][:-1] + "x"}),
        ("PUT", signed.path, {"Authorization": "Bearer x"}),
        ("PUT", signed.path, {"Authorization": ""}),
    ]
    for method, path, headers in changed:
        refused = send(running, method, path, signed.headers | headers, BODY)
        assert refused.status == 403, (method, path, headers)
        assert refused.code in ("SignatureDoesNotMatch", "AccessDenied")
    unknown = AccessKey(id="FHIANOBODYKNOWSTHIS", tenant=key.tenant, secret=key.secret)
    assert ask(running, unknown, "PUT", PATH, body=BODY).code == "SignatureDoesNotMatch"
    assert stored(s3) == []


# aws-chunked, with a signature for each chunk.


class ChunkSigner:
    """A client's side, from the documentation of S3."""

    def __init__(self, key: AccessKey, timestamp: str, seed: str) -> None:
        self._key = signing_key(key.secret, timestamp[:8], REGION, "s3")
        self._scope = f"{timestamp[:8]}/{REGION}/s3/aws4_request"
        self._timestamp = timestamp
        self._previous = seed

    def sign(self, *lines: str, kind: str = "PAYLOAD") -> str:
        text = "\n".join(
            [f"AWS4-HMAC-SHA256-{kind}", self._timestamp, self._scope, self._previous, *lines]
        )
        self._previous = hmac.new(self._key, text.encode(), "sha256").hexdigest()
        return self._previous

    def chunk(self, data: bytes) -> bytes:
        empty = hashlib.sha256(b"").hexdigest()
        signature = self.sign(empty, hashlib.sha256(data).hexdigest())
        end = b"\r\n" if data else b""
        return b"%x;chunk-signature=%s\r\n%s%s" % (len(data), signature.encode(), data, end)

    def trailer(self, name: str, value: str) -> bytes:
        digest = hashlib.sha256(f"{name}:{value}\n".encode()).hexdigest()
        signature = self.sign(digest, kind="TRAILER")
        return f"{name}:{value}\r\nx-amz-trailer-signature:{signature}\r\n".encode()


def put_chunked(
    running: Served,
    key: AccessKey,
    pieces: list[bytes],
    *,
    trailer: str | None = None,
    change: Any = bytes,
    headers: dict[str, str] | None = None,
) -> Answer:
    """An upload whose chunks are signed. `change` gets the encoded body before it is sent."""
    payload = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + ("-TRAILER" if trailer else "")
    data = b"".join(pieces)
    declared = {
        "Content-Encoding": "gzip,aws-chunked",
        "x-amz-decoded-content-length": str(len(data)),
    }
    if trailer:
        declared["x-amz-trailer"] = "x-amz-checksum-crc32"
    signed = sign(running, key, "PUT", PATH, declared | (headers or {}), payload=payload)
    signer = ChunkSigner(key, signed.headers["X-Amz-Date"], signed.signature)
    body = b"".join(signer.chunk(piece) for piece in [*pieces, b""])
    if trailer:
        body += signer.trailer("x-amz-checksum-crc32", trailer)
    return send(running, "PUT", signed.path, signed.headers, change(body + b"\r\n"))


PIECES = [b"a" * 65_536, b"b" * 65_536, b"c" * 100]


@pytest.mark.parametrize("pieces", [[], [b"x"], PIECES])
@pytest.mark.parametrize("with_trailer", [False, True])
def test_chunks_with_signatures_are_decoded(
    running: Served, key: AccessKey, s3: Any, pieces: list[bytes], with_trailer: bool
) -> None:
    data = b"".join(pieces)
    answer = put_chunked(running, key, pieces, trailer=crc32(data) if with_trailer else None)
    assert answer.status == 200, answer.body
    got = s3.get_object(Bucket=BUCKET, Key="k")
    assert got["Body"].read() == data
    assert got["ContentEncoding"] == "gzip"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda body: body.replace(b"c" * 100, b"d" * 100), "SignatureDoesNotMatch"),
        (lambda body: body.replace(b"a" * 9, b"b" * 9, 1), "SignatureDoesNotMatch"),
        # Signatures are a chain: chunks cannot change places, nor be left out.
        (
            lambda body: (
                body.replace(b"a", b"#").replace(b"b" * 65536, b"a" * 65536).replace(b"#", b"b")
            ),
            None,
        ),
        (lambda body: body[body.index(b"\r\n", 65_600) + 2 :], "SignatureDoesNotMatch"),
        (lambda body: body[: body.rindex(b"0;chunk")], "IncompleteBody"),
        (lambda body: body[:70_000], "IncompleteBody"),
        (lambda body: body + b"more", "InvalidRequest"),
        (lambda body: body.replace(b";chunk-signature=", b";other="), "InvalidRequest"),
        (lambda body: b"0" * 20 + body, "InvalidRequest"),
        (lambda body: b"\n" + body, "InvalidRequest"),
        (lambda body: b"x" * 10_000, "InvalidRequest"),
        (lambda body: b"-1" + body[5:], "InvalidRequest"),
        (lambda body: body.replace(b"a\r\n", b"aa\r\n", 1), None),
        (lambda body: b"", "IncompleteBody"),
    ],
)
def test_a_changed_chunk_stores_nothing(
    running: Served, key: AccessKey, s3: Any, change: Any, code: str | None
) -> None:
    refused = put_chunked(running, key, PIECES, change=change)
    assert 400 <= refused.status < 500
    assert code is None or refused.code == code
    assert stored(s3) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda body: body.replace(b"crc32:", b"sha1:"), "SignatureDoesNotMatch"),
        (lambda body: body[: body.rindex(b"x-amz-checksum")], "SignatureDoesNotMatch"),
        (lambda body: body[: body.rindex(b"x-amz-trailer")], "SignatureDoesNotMatch"),
        (lambda body: body[:-4] + b"0\r\n\r\n", "SignatureDoesNotMatch"),
        (lambda body: body[:-2] + b"no colon\r\n\r\n", "MalformedTrailerError"),
    ],
)
def test_a_changed_trailer_stores_nothing(
    running: Served, key: AccessKey, s3: Any, change: Any, code: str
) -> None:
    trailer = crc32(b"".join(PIECES))
    refused = put_chunked(running, key, PIECES, trailer=trailer, change=change)
    assert (refused.code, stored(s3)) == (code, [])


def test_a_wrong_trailer_stores_nothing(running: Served, key: AccessKey, s3: Any) -> None:
    refused = put_chunked(running, key, PIECES, trailer="AAAAAA==")
    assert (refused.status, refused.code, stored(s3)) == (400, "BadDigest", [])


def test_the_decoded_length_is_kept(running: Served, key: AccessKey, s3: Any) -> None:
    name = "x-amz-decoded-content-length"
    for length, code in (("7", "IncompleteBody"), ("x", "MissingContentLength")):
        refused = put_chunked(running, key, PIECES, headers={name: length})
        assert (refused.code, stored(s3)) == (code, [])


# aws-chunked without signatures, over TLS: what boto3 sends there by default.


@pytest.fixture(scope="module")
def over_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("s3-tls")
    with served(directory / "blobs", tls=_certificate(directory)) as running:
        yield running


@pytest.fixture
def tls_s3(over_tls: Served, tenant: str) -> Iterator[Any]:
    s3 = over_tls.client_of(tenant)
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    yield s3
    s3.close()  # an idle connection would hold up the server: TLS waits for the other's goodbye


@pytest.mark.parametrize("algorithm", [None, "CRC32", "SHA1", "SHA256"])
@pytest.mark.parametrize("size", [0, 3_000_000])
def test_boto3_over_tls_sends_trailers(tls_s3: Any, algorithm: str | None, size: int) -> None:
    sent: list[str] = []
    tls_s3.meta.events.register_last(
        "before-send.s3.PutObject",
        lambda request, **_: sent.append(request.headers["x-amz-content-sha256"].decode()),
    )
    data = hashlib.shake_128(b"tls").digest(size)
    options = {"ChecksumAlgorithm": algorithm} if algorithm else {}
    tls_s3.put_object(Bucket=BUCKET, Key="k", Body=data, **options)
    assert sent == ["STREAMING-UNSIGNED-PAYLOAD-TRAILER"]
    got = tls_s3.get_object(Bucket=BUCKET, Key="k")
    assert got["Body"].read() == data
    assert "ContentEncoding" not in got


def test_a_trailer_that_does_not_fit_stores_nothing(
    tls_s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.httpchecksum.Crc32Checksum.digest", lambda self: bytes(4))
    with pytest.raises(ClientError) as caught:
        tls_s3.put_object(Bucket=BUCKET, Key="k", Body=BODY)
    assert caught.value.response["Error"]["Code"] == "BadDigest"
    assert stored(tls_s3) == []


@pytest.mark.parametrize("name", ["x-amz-meta-a", "x-amz-checksum-crc64nvme", ""])
def test_a_declared_trailer_must_be_a_checksum(tmp_path: Path, tenant: str, name: str) -> None:
    with served(tmp_path, unsigned_over_http=True) as running:
        key = running.keys.make(tenant)
        ask(running, key, "PUT", f"/{BUCKET}")
        headers = {"x-amz-trailer": name, "x-amz-decoded-content-length": "1"}
        payload = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
        signed = sign(running, key, "PUT", PATH, headers, payload=payload)
        refused = send(running, "PUT", signed.path, signed.headers, b"1\r\nx\r\n0\r\n\r\n")
        assert refused.status in (400, 501)
        assert stored(running.client(key)) == []


def test_a_client_that_goes_away_in_mid_upload_leaves_nothing(
    running: Served, key: AccessKey, s3: Any
) -> None:
    signed = sign(running, key, "PUT", PATH, payload=bytes(5_000_000))
    head = [f"PUT {signed.path} HTTP/1.1", "Content-Length: 5000000"]
    head += [f"{name}: {value}" for name, value in signed.headers.items()]
    head += [f"Host: 127.0.0.1:{running.port}"]
    claims = running.directory / key.tenant / "writing"
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + bytes(3_000_000))
        until(lambda: any(claims.iterdir()))
    until(lambda: not any(claims.iterdir()))
    assert stored(s3) == []
    assert not [path for path in claims.parent.joinpath("objects").rglob("*") if path.is_file()]


def until(true: Any) -> None:
    """What another thread does can only be watched."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _certificate(directory: Path) -> tuple[str, str]:
    private_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private_key, hashes.SHA256())
    )
    files = directory / "certificate.pem", directory / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(files[0]), str(files[1])
