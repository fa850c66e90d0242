"""What is taken out of strings before they are stored: built-in rules, and a tenant's own.

Patterns are RE2's, which take time in proportion to the text, whatever they are. A built-in rule
may look at what it found (a card number has a check digit); a tenant's own replaces all it finds.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import re2  # type: ignore[import-untyped]

from freehold.kernel.errors import ValidationFailed

RULES_MAX = 20
PATTERN_CHARACTERS_MAX = 512
REPLACEMENT_CHARACTERS_MAX = 64
_PROGRAM_BYTES_MAX = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_GROWTH_MAX = 4


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`pattern` in RE2's syntax, which is Python's without look-around and back-references;
    `replacement` is taken as it is."""

    name: str
    pattern: str
    replacement: str = "[redacted]"


class _BuiltIn(msgspec.Struct, frozen=True):
    """`holds` says of what the pattern found whether it is one."""

    pattern: str
    replacement: str
    holds: Callable[[str], bool] | None = None


def _digits(found: str) -> list[int]:
    return [int(each) for each in found if each.isascii() and each.isdigit()]


def _luhn(found: str) -> bool:
    digits = _digits(found)
    doubled = [each * 2 - 9 * (each > 4) for each in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and (
        sum(digits[-1::-2]) + sum(doubled)
    ) % 10 == 0  # fmt: skip


def _iban(found: str) -> bool:
    """ISO 7064 mod 97-10, over the letters as numbers."""
    bare = "".join(found.split()).upper()
    turned = bare[4:] + bare[:4]
    return 15 <= len(bare) <= 34 and int("".join(str(int(c, 36)) for c in turned)) % 97 == 1


def _ssn(found: str) -> bool:
    area, group, serial = re.split("[- ]", found)
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def _phone(found: str) -> bool:
    return 8 <= len(_digits(found)) <= 15


BUILT_IN: Mapping[str, _BuiltIn] = {
    "emails": _BuiltIn(r"[A-Za-z0-9._%+'-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z][A-Za-z]+\b", "[email]"),
    "phoneNumbers": _BuiltIn(
        r"\+[0-9]+(?:[ .-]?\(?[0-9]+\)?)+\b"
        r"|\(\b[0-9]{3}\) ?[0-9]{3}[ .-][0-9]{4}\b|\b[0-9]{3}[.-][0-9]{3}[.-][0-9]{4}\b",
        "[phone number]", _phone,
    ),
    "cardNumbers": _BuiltIn(
        r"\b(?:[3-6][0-9]{2}|2[2-7][0-9])[0-9](?:[0-9]+|[ -][0-9]{4}[ -][0-9]{4}[ -][0-9]{4}"
        r"(?:[ -][0-9]{3})?|[ -][0-9]{6}[ -][0-9]{5})\b",
        "[card number]", _luhn,
    ),
    "ibans": _BuiltIn(
        r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4})+(?: ?[A-Z0-9]{1,3})?\b", "[IBAN]", _iban
    ),
    "usSocialSecurityNumbers": _BuiltIn(
        r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b|\b[0-9]{3} [0-9]{2} [0-9]{4}\b", "[SSN]", _ssn
    ),
    "apiKeys": _BuiltIn(
        r"\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16}[A-Za-z0-9_-]*"
        r"|\b(?:gh[pousr]|hf|npm|github_pat)_[A-Za-z0-9_]{24}[A-Za-z0-9_]*"
        r"|\b(?:glpat|pypi|xox[a-z])-[A-Za-z0-9-]{12}[A-Za-z0-9_-]*"
        r"|\bAIza[A-Za-z0-9_-]{24}[A-Za-z0-9_-]*|\bSG\.[A-Za-z0-9_-]{16}[A-Za-z0-9_.-]*"
        r'|(?i:\b(?:x[-_])?(?:api[-_]?key|client[-_]?secret|secret[-_]?access[-_]?key|password)'
        r'\b\\?["\']?\s*[:=]\s*\\?["\']?[^\s"\'\\,;&]{8}[^\s"\'\\,;&]*)',
        "[API key]",
    ),
    "bearerTokens": _BuiltIn(
        r"(?i:\b(?:bearer|basic)\s+[A-Za-z0-9._~+/-]{16}[A-Za-z0-9._~+/-]*=*)", "[token]"
    ),
    "jwts": _BuiltIn(
        r"\beyJ[A-Za-z0-9_-]{8}[A-Za-z0-9_-]*\.[A-Za-z0-9_-]{8}[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*",
        "[JWT]",
    ),
    "awsKeys": _BuiltIn(r"\b(?:AKIA|ASIA|FHIA)[A-Z0-9]{16}\b", "[access key]"),
    "privateKeys": _BuiltIn(
        r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
        "[private key]",
    ),
}  # fmt: skip

SECRETS = ("apiKeys", "bearerTokens", "jwts", "awsKeys", "privateKeys")
"""What is taken out where a tenant has said nothing: no trace is a place for these."""


_ENCODER = msgspec.json.Encoder()


def _options() -> Any:
    options = re2.Options()
    options.max_mem = _PROGRAM_BYTES_MAX
    options.log_errors = False
    return options


class _Replacing:
    def __init__(self, pattern: str, replacement: str, holds: Callable[[str], bool] | None) -> None:
        self._pattern, self._replacement, self._holds = _compiled(pattern), replacement, holds

    def __call__(self, text: str) -> str:
        kept, end = [], 0
        for found in self._pattern.finditer(text):
            if self._holds is not None and not self._holds(found.group()):
                continue
            kept += [text[end : found.start()], self._replacement]
            end = found.end()
        if not kept:
            return text
        replaced = "".join([*kept, text[end:]])
        # A pattern of single characters would make the text longer instead of safer.
        long = len(replaced) > len(text) * _GROWTH_MAX + REPLACEMENT_CHARACTERS_MAX
        return self._replacement if long else replaced


class Redactor:
    """Rules, compiled. `text` is called for every string of a tenant's telemetry."""

    def __init__(self, built_in: Sequence[str], rules: Sequence[Rule]) -> None:
        """Raises ValidationFailed, naming the rule."""
        if unknown := [name for name in built_in if name not in BUILT_IN]:
            raise ValidationFailed(
                f"there is no built-in rule {unknown[0]!r}; there are {', '.join(BUILT_IN)}"
            )
        _check(rules)
        chosen = [BUILT_IN[name] for name in dict.fromkeys(built_in)]
        self._built_in = [_Replacing(each.pattern, each.replacement, each.holds) for each in chosen]
        self._own = [_Replacing(rule.pattern, rule.replacement, None) for rule in rules]
        self._any = _any_of([each.pattern for each in chosen])
        self.silent = not chosen and not rules

    def text(self, text: str) -> str:
        for index in self._found(text):
            text = self._built_in[index](text)
        for replace in self._own:
            text = replace(text)
        return text

    def touches(self, *parts: Any) -> bool:
        """Whether any rule may have something to do in these: one look at all their strings."""
        if self._own or self._any is None:
            return bool(self._own)
        encoded = _ENCODER.encode(parts)
        if b"\\" in encoded:
            # An escape is a letter where the text has a line's end: seen as it is then.
            found: list[str] = []
            strings(parts, found)
            encoded = "\0".join(found).encode("utf-8", "replace")
        return bool(self._any.Match(encoded))

    def value(self, value: Any) -> Any:
        """Any JSON, with what its strings and the names in it become."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self.value(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(each) for each in value]
        return value

    def _found(self, text: str) -> list[int]:
        """Which built-in rules have a match; one pass for all."""
        if self._any is None:
            return []
        return sorted(self._any.Match(text.encode("utf-8", "replace")) or ())


def strings(value: Any, into: list[str]) -> None:
    """All strings in any JSON."""
    if isinstance(value, str):
        into.append(value)
    elif isinstance(value, dict):
        for key, each in value.items():
            into.append(key)
            if each.__class__ is str:
                into.append(each)
            else:
                strings(each, into)
    elif isinstance(value, list | tuple):
        for each in value:
            strings(each, into)


def _check(rules: Sequence[Rule]) -> None:
    if len(rules) > RULES_MAX:
        raise ValidationFailed(f"there are at most {RULES_MAX} rules")
    if len({rule.name for rule in rules}) != len(rules):
        raise ValidationFailed("two rules have the same name")
    for rule in rules:
        if not _NAME.fullmatch(rule.name):
            raise ValidationFailed(
                f"the rule's name {rule.name[:80]!r} must be of 1 to 64 letters, digits, - and _"
            )
        if not 0 < len(rule.pattern) <= PATTERN_CHARACTERS_MAX or "\0" in rule.pattern:
            raise ValidationFailed(
                f"{rule.name}: a pattern has 1 to {PATTERN_CHARACTERS_MAX} characters, and no NUL"
            )
        if len(rule.replacement) > REPLACEMENT_CHARACTERS_MAX or "\0" in rule.replacement:
            raise ValidationFailed(
                f"{rule.name}: a replacement has at most {REPLACEMENT_CHARACTERS_MAX} characters"
            )
        try:
            compiled = _compiled(rule.pattern)
        except (re2.error, UnicodeEncodeError) as error:
            raise ValidationFailed(f"{rule.name}: {_words(error)}") from None
        if compiled.search("") is not None:
            raise ValidationFailed(f"{rule.name}: the pattern matches where there is nothing")


def _compiled(pattern: str) -> Any:
    return re2.compile(pattern, _options())


def _any_of(patterns: Sequence[str]) -> Any:
    if not patterns:
        return None
    options = _options()
    options.max_mem = 64 << 20
    found = re2.Set.SearchSet(options)
    for pattern in patterns:
        found.Add(pattern.encode())
    found.Compile()
    return found


def _words(error: Exception) -> str:
    said = error.args[0] if error.args else error
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)
