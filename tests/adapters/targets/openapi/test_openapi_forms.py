"""Forms and their parts, whatever is in them, come apart again as they were put together."""

import base64
import re
from typing import Any
from urllib.parse import parse_qs

from hypothesis import given
from hypothesis import strategies as st

from freehold.adapters.targets.openapi.bodies import body
from freehold.adapters.targets.openapi.plan import BodyPlan, PartPlan

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)


@given(st.dictionaries(NAMES, st.binary(max_size=40) | TEXTS, min_size=1, max_size=4))
def test_parts_come_apart_again(members: dict[str, Any]) -> None:
    binary = [name for name, value in members.items() if isinstance(value, bytes)]
    plan = BodyPlan(
        kind="multipart", media="multipart/form-data", members={n: n for n in members},
        parts={name: PartPlan(binary=True) for name in binary},
    )  # fmt: skip
    made = body(
        plan,
        {
            name: base64.b64encode(v).decode() if isinstance(v, bytes) else v
            for name, v in members.items()
        },
    )
    assert made is not None
    content, media = made
    boundary = media.rpartition("boundary=")[2].encode()
    first, *parts, last = (b"\r\n" + content).split(b"\r\n--" + boundary)
    assert (first, last) == (b"", b"--\r\n")
    found = []
    for part in parts:
        head, _, value = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        (name,) = re.findall(r'\AContent-Disposition: form-data; name="([^"]*)"', head.decode())
        found.append((name, value))
    assert found == [
        (name.replace('"', "%22"), value if isinstance(value, bytes) else value.encode())
        for name, value in members.items()
    ]


@given(st.dictionaries(NAMES, TEXTS | st.lists(TEXTS, min_size=1, max_size=3), min_size=1))
def test_a_form_comes_apart_again(members: dict[str, Any]) -> None:
    plan = BodyPlan(
        kind="form", media="application/x-www-form-urlencoded", members={n: n for n in members}
    )
    made = body(plan, members)
    assert made is not None
    found = parse_qs(made[0].decode("ascii"), keep_blank_values=True, strict_parsing=True)
    assert found == {n: v if isinstance(v, list) else [v] for n, v in members.items()}
