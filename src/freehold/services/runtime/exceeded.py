"""Which of its limits a session has hit, told from how it failed.

The kernel answers who exceeds a limit with an error number, which the agent's own language turns
into words; those come to the caller with the agent's answer or its last lines. They are the same
in every tier, and a mistaken one costs a sentence.
"""

import re

_PROCESSES = (
    r"can't start new thread|Resource temporarily unavailable|\bEAGAIN\b"
    r"|fork: retry|Cannot fork|pthread_create failed"
)
_HINTS = (
    (
        re.compile(r"ran out of memory \(limit|\bMemoryError\b|Cannot allocate memory|\bENOMEM\b"),
        "more memory: tag freehold:memory-mib of the agent runtime",
    ),
    (
        re.compile(_PROCESSES),
        "the session has as many processes and threads as it may; more: tag freehold:processes",
    ),
    (
        re.compile(r"Too many open files|\bEMFILE\b"),
        "a process of the session has as many open files as it may; more: tag freehold:open-files",
    ),
    (
        re.compile(r"No space left on device|\bENOSPC\b"),
        "the session's /tmp or home is full; more: tag freehold:scratch-mib",
    ),
)


def explained(words: str) -> str:
    """With the setting that would help, when a limit was the reason."""
    hints = [hint for pattern, hint in _HINTS if pattern.search(words)]
    return " ".join([words, *(f"[{hint}]" for hint in hints)])
