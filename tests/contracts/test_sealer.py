"""What every implementation of ports.secrets.Sealer promises."""

import logging
import traceback

import pytest

from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.keyring import Keyring
from freehold.ports.secrets import SealBroken, Sealer

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
SECRET = b"correct horse battery staple"


@pytest.fixture
def sealer() -> Sealer:
    return EnvelopeSealer(Keyring({1: OLD}))


@pytest.mark.parametrize("secret", [b"", b"x", SECRET, bytes(100_000)])
def test_what_was_sealed_opens_in_its_context(sealer: Sealer, secret: bytes) -> None:
    assert sealer.open(sealer.seal(secret, context="t|key|1"), context="t|key|1") == secret


def test_a_sealed_value_shows_nothing_and_is_new_each_time(sealer: Sealer) -> None:
    first, second = (sealer.seal(SECRET, context="c") for _ in range(2))
    assert SECRET not in first
    # No block is shared: keys and nonces are fresh. (The header is.)
    assert first[5:21] not in second
    assert first[-44:] != second[-44:]


@pytest.mark.parametrize("context", ["", "t|key|2", "t|key|1 ", "T|key|1", "t|key|1\0"])
def test_another_context_does_not_open_it(sealer: Sealer, context: str) -> None:
    sealed = sealer.seal(SECRET, context="t|key|1")
    with pytest.raises(SealBroken):
        sealer.open(sealed, context=context)


def test_rows_that_were_swapped_do_not_open(sealer: Sealer) -> None:
    one = sealer.seal(b"one", context="tenant-a|key|1")
    two = sealer.seal(b"two", context="tenant-b|key|1")
    for sealed, context in ((one, "tenant-b|key|1"), (two, "tenant-a|key|1")):
        with pytest.raises(SealBroken):
            sealer.open(sealed, context=context)


def test_every_changed_byte_is_noticed(sealer: Sealer) -> None:
    sealed = sealer.seal(SECRET, context="c")
    for position in range(len(sealed)):
        for flip in (0x01, 0x80):
            changed = bytearray(sealed)
            changed[position] ^= flip
            with pytest.raises(SealBroken):
                sealer.open(bytes(changed), context="c")


def test_every_cut_and_every_addition_is_noticed(sealer: Sealer) -> None:
    sealed = sealer.seal(SECRET, context="c")
    for length in range(len(sealed)):
        with pytest.raises(SealBroken):
            sealer.open(sealed[:length], context="c")
    with pytest.raises(SealBroken):
        sealer.open(sealed + b"\0", context="c")


def test_parts_of_two_values_do_not_make_a_third(sealer: Sealer) -> None:
    one = sealer.seal(b"same-length-1", context="c")
    two = sealer.seal(b"same-length-2", context="c")
    for cut in range(1, len(one)):
        spliced = one[:cut] + two[cut:]
        if spliced not in (one, two):
            with pytest.raises(SealBroken):
                sealer.open(spliced, context="c")


def test_another_key_does_not_open_it(sealer: Sealer) -> None:
    sealed = sealer.seal(SECRET, context="c")
    for keyring in (Keyring({1: NEW}), Keyring({2: OLD})):
        with pytest.raises(SealBroken):
            EnvelopeSealer(keyring).open(sealed, context="c")


def test_the_newest_key_seals_and_older_ones_still_open(sealer: Sealer) -> None:
    before = sealer.seal(SECRET, context="c")
    both = EnvelopeSealer(Keyring({1: OLD, 2: NEW}))
    assert both.open(before, context="c") == SECRET
    after = both.seal(SECRET, context="c")
    assert EnvelopeSealer(Keyring({2: NEW})).open(after, context="c") == SECRET


def test_rewrapped_values_no_longer_need_the_old_key(sealer: Sealer) -> None:
    before = sealer.seal(SECRET, context="c")
    after = EnvelopeSealer(Keyring({1: OLD, 2: NEW})).rewrap(before)
    only_new = EnvelopeSealer(Keyring({2: NEW}))
    assert only_new.open(after, context="c") == SECRET
    assert only_new.rewrap(after) == after
    with pytest.raises(SealBroken):
        only_new.open(after, context="d")
    with pytest.raises(SealBroken):
        only_new.rewrap(before)


def test_a_failure_tells_neither_keys_nor_secret(
    sealer: Sealer, caplog: pytest.LogCaptureFixture
) -> None:
    sealed = sealer.seal(SECRET, context="c")
    caplog.set_level(logging.DEBUG)
    said = [repr(sealer), str(sealer), repr(Keyring({1: OLD})), str(vars(Keyring)), repr(sealed)]
    for context, value in (("d", sealed), ("c", sealed[:-1] + b"\0"), ("c", b"")):
        try:
            sealer.open(value, context=context)
        except SealBroken as error:
            said += [str(error), repr(error), "".join(traceback.format_exception(error))]
    said.append(caplog.text)
    for canary in (SECRET, OLD):
        for text in said:
            assert repr(canary)[2:-1] not in text
            assert canary.hex() not in text
