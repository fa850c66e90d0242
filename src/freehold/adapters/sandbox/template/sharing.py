"""Keeps memory shared between a process and those that are forked off it.

A page is shared until somebody writes to it, and Python writes to an object whenever it looks at
it: the reference count, and the collector's marks. Runs in the template's sandbox, beside
`inside.py`; any Python from 3.10 on, standard library only.
"""

from __future__ import annotations

import gc
import sys

_COUNT_LEFT_ALONE = ((3, 12), (3, 13))
"""Versions whose interpreter has immortal objects, and where this was tried."""


def share() -> None:
    """What exists by now is never freed again; it would not have been, in most of all cases."""
    gc.collect()
    if (
        sys.implementation.name == "cpython"
        and sys.version_info[:2] in _COUNT_LEFT_ALONE
        and not sys.abiflags  # neither free-threaded nor built for debugging
        and sys.maxsize > 2**32
    ):
        _make_immortal()
    gc.freeze()


def _make_immortal() -> None:
    """PEP 683, done to all that can be reached. It halves what a session has for itself: 13.1 MiB
    became 7.1 (3.13; an agent on Strands that has answered once).

    An extension that was built for older versions does count, but no count comes near zero.
    """
    from ctypes import c_uint32
    from types import CodeType

    count_of = c_uint32.from_address
    immortal = count_of(id(None)).value
    waiting: list[object] = gc.get_objects()
    own = id(waiting)
    while waiting:
        each = waiting.pop()
        count = count_of(id(each))
        if id(each) == own or count.value == immortal:
            continue
        count.value = immortal
        waiting.extend(gc.get_referents(each))
        if isinstance(each, CodeType):  # which the collector does not look into
            waiting += (each.co_consts, each.co_names, each.co_linetable, each.co_exceptiontable)
            waiting += (each.co_filename, each.co_name, each.co_qualname)
            waiting += (*each.co_varnames, *each.co_cellvars, *each.co_freevars)
