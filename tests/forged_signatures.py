"""Tokens whose signature is none, a stranger's, or made with an honest key used wrongly."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from forging import (
    ENCRYPTION_KID,
    SHARED_KID,
    SHARED_SECRET,
    by_stranger,
    forged,
    made,
    stranger,
    well_signed,
)
from token_issuer import TokenIssuer, as_json, b64, public_jwk, signature


def by_secret(issuer: TokenIssuer, secret: bytes, alg: str = "HS256", **header: Any) -> str:
    digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[alg]
    return made(
        issuer,
        lambda content: hmac.new(secret, content, digest).digest(),
        header=issuer.header(**{"kid": "RS256", "alg": alg, **header}),
    )


def public_key_bytes(issuer: TokenIssuer, encoding: serialization.Encoding) -> bytes:
    return (
        issuer.keys["RS256"]
        .public_key()
        .public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


# -- no signature, or one that anybody can make

for _name in ("none", "None", "NONE", "nOnE", ""):

    @forged(f"alg {_name!r} without a signature")
    def _(issuer: TokenIssuer, alg: str = _name) -> str:
        return made(issuer, lambda _: b"", header=issuer.header(alg=alg))


@forged("alg none with an honest signature")
def _(issuer: TokenIssuer) -> str:
    return well_signed(issuer, header=issuer.header(alg="none"))


@forged("no alg")
def _(issuer: TokenIssuer) -> str:
    return well_signed(issuer, header={"typ": "JWT", "kid": "RS256"})


@forged("alg is a list")
def _(issuer: TokenIssuer) -> str:
    return well_signed(issuer, header={**issuer.header(), "alg": ["RS256"]})


@forged("signature cut off")
def _(issuer: TokenIssuer) -> str:
    return issuer.token().rpartition(".")[0] + "."


@forged("signature and its dot cut off")
def _(issuer: TokenIssuer) -> str:
    return issuer.token().rpartition(".")[0]


for _alg in ("HS256", "HS384", "HS512"):

    @forged(f"{_alg} with the public key's PEM for a secret")
    def _(issuer: TokenIssuer, alg: str = _alg) -> str:
        return by_secret(issuer, public_key_bytes(issuer, serialization.Encoding.PEM), alg)


@forged("HS256 with the public key's PEM, without its last newline")
def _(issuer: TokenIssuer) -> str:
    return by_secret(issuer, public_key_bytes(issuer, serialization.Encoding.PEM).strip())


@forged("HS256 with the public key's DER for a secret")
def _(issuer: TokenIssuer) -> str:
    return by_secret(issuer, public_key_bytes(issuer, serialization.Encoding.DER))


@forged("HS256 with the public JWK for a secret")
def _(issuer: TokenIssuer) -> str:
    return by_secret(issuer, as_json(issuer.jwks["keys"][0]))


@forged("HS256 with an empty secret")
def _(issuer: TokenIssuer) -> str:
    return by_secret(issuer, b"")


@forged("HS256 with a symmetric key that the JWKS has")
def _(issuer: TokenIssuer) -> str:
    return by_secret(issuer, SHARED_SECRET, kid=SHARED_KID)


@forged("HS256 with a key path that is an empty file")
def _(issuer: TokenIssuer) -> str:
    return by_secret(issuer, b"", kid="../../../../dev/null")


# -- changed after it was signed


@forged("one bit of the signature turned")
def _(issuer: TokenIssuer) -> str:
    head, _, tail = issuer.token().rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(tail + "=="))
    raw[10] ^= 1
    return f"{head}.{b64(bytes(raw))}"


@forged("subject changed")
def _(issuer: TokenIssuer) -> str:
    header, _, tail = issuer.token().split(".")
    return f"{header}.{b64(as_json(issuer.claims(sub='root')))}.{tail}"


@forged("header changed")
def _(issuer: TokenIssuer) -> str:
    _, payload, tail = issuer.token().split(".")
    return f"{b64(as_json(issuer.header(extra=1)))}.{payload}.{tail}"


@forged("the signature of another token")
def _(issuer: TokenIssuer) -> str:
    mine, other = issuer.token(), issuer.token(sub="bob")
    return mine.rpartition(".")[0] + "." + other.rpartition(".")[2]


# -- signed by a stranger


@forged("a stranger's key under an honest key's name")
def _(issuer: TokenIssuer) -> str:
    return by_stranger(issuer)


@forged("a stranger's key that nobody named")
def _(issuer: TokenIssuer) -> str:
    header = issuer.header()
    del header["kid"]
    return made(issuer, lambda content: signature("RS256", stranger(), content), header=header)


@forged("a stranger's key in the header (jwk)")
def _(issuer: TokenIssuer) -> str:
    return by_stranger(issuer, jwk=public_jwk(stranger()))


@forged("a stranger's key in the header (jwk), named by it")
def _(issuer: TokenIssuer) -> str:
    return by_stranger(issuer, kid="mine", jwk={"kid": "mine", **public_jwk(stranger())})


@forged("a stranger's keys elsewhere (jku)")
def _(issuer: TokenIssuer) -> str:
    return by_stranger(issuer, kid="mine", jku=f"{issuer.issuer}/strangers-jwks")


@forged("a stranger's certificate elsewhere (x5u)")
def _(issuer: TokenIssuer) -> str:
    return by_stranger(issuer, kid="mine", x5u=f"{issuer.issuer}/strangers.pem")


@forged("a stranger's certificate in the header (x5c)")
def _(issuer: TokenIssuer) -> str:
    return by_stranger(issuer, x5c=[base64.b64encode(_certificate()).decode()])


@cache
def _certificate() -> bytes:
    key = stranger()
    assert isinstance(key, rsa.RSAPrivateKey)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    return made.public_bytes(serialization.Encoding.DER)


@forged("ES256 by a stranger under an honest RSA key's name")
def _(issuer: TokenIssuer) -> str:
    return by_stranger(issuer, "ES256", kid="RS256")


@forged("EdDSA by a stranger under an honest key's name")
def _(issuer: TokenIssuer) -> str:
    return by_stranger(issuer, "EdDSA")


_KIDS: dict[str, Any] = {
    "unknown": "no-such-key", "SQL": "x' UNION SELECT 'secret' --", "a path": "../../etc/passwd",
    "an object": {"$ne": None}, "a list": ["RS256"], "a number": 1, "null": None, "empty": "",
    "very long": "k" * 3000, "a URL": "https://169.254.169.254/latest/meta-data/",
    "a command": "$(touch /tmp/owned)", "with a zero byte": "RS256\0",
}  # fmt: skip
for _name, _kid in _KIDS.items():

    @forged(f"a kid that is {_name}")
    def _(issuer: TokenIssuer, kid: Any = _kid) -> str:
        return by_stranger(issuer, kid=kid)


# -- an honest key, used wrongly


@forged("a key for encryption")
def _(issuer: TokenIssuer) -> str:
    key = issuer.keys[ENCRYPTION_KID]
    return made(
        issuer,
        lambda content: signature("RS256", key, content),
        header=issuer.header(kid=ENCRYPTION_KID),
    )


for _alg in ("RS512", "PS256"):

    @forged(f"{_alg} with the key that is for RS256")
    def _(issuer: TokenIssuer, alg: str = _alg) -> str:
        return made(
            issuer,
            lambda content: signature(alg, issuer.keys["RS256"], content),
            header=issuer.header(alg=alg, kid="RS256"),
        )


@forged("ES384 with a key of curve P-256")
def _(issuer: TokenIssuer) -> str:
    return made(
        issuer,
        lambda content: signature("ES384", issuer.keys["ES256"], content),
        header=issuer.header(alg="ES384", kid="ES256"),
    )


@forged("ES256K")
def _(issuer: TokenIssuer) -> str:
    key = ec.generate_private_key(ec.SECP256K1())
    return made(
        issuer,
        lambda content: signature("ES256", key, content),
        header=issuer.header(alg="ES256K", kid="ES256"),
    )


@forged("ES256 with a signature of zeros")
def _(issuer: TokenIssuer) -> str:
    return made(issuer, lambda _: bytes(64), alg="ES256")


@forged("ES256 with a signature in DER")
def _(issuer: TokenIssuer) -> str:
    key = issuer.keys["ES256"]
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return made(issuer, lambda content: key.sign(content, ec.ECDSA(hashes.SHA256())), alg="ES256")


@forged("ES256 with more behind its signature")
def _(issuer: TokenIssuer) -> str:
    return made(issuer, lambda content: issuer.sign("ES256", content) + b"\0", alg="ES256")


@forged("EdDSA with a signature of zeros")
def _(issuer: TokenIssuer) -> str:
    return made(issuer, lambda _: bytes(64), alg="EdDSA")


@forged("EdDSA with the neutral point for a signature")
def _(issuer: TokenIssuer) -> str:
    return made(issuer, lambda _: b"\1" + bytes(63), alg="EdDSA")


@forged("EdDSA with the order of the group added to its signature")
def _(issuer: TokenIssuer) -> str:
    order = 2**252 + 27742317777372353535851937790883648493

    def malleable(content: bytes) -> bytes:
        honest = issuer.sign("EdDSA", content)
        s = int.from_bytes(honest[32:], "little") + order
        return honest[:32] + s.to_bytes(32, "little")

    return made(issuer, malleable, alg="EdDSA")


@forged("RS256 with the signature of nothing")
def _(issuer: TokenIssuer) -> str:
    return made(issuer, lambda _: issuer.sign("RS256", b""))
