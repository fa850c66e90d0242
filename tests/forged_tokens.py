"""Tokens that nothing may accept, each made by hand from an honest issuer's.

`FORGED` has them by name; each makes its token for a `TokenIssuer` that was `prepare`d. Who serves
`rules_of(issuer)` takes those of `HONEST`, and none of these.
"""

import forged_contents  # noqa: F401 - fills the table, as the next one does
import forged_signatures  # noqa: F401
from forging import AUDIENCE, CLIENT, FORGED, GROUP, HONEST, SCOPE, prepare, rules_of

__all__ = [
    "AUDIENCE", "CLIENT", "FORGED", "GROUP", "HONEST", "SCOPE", "prepare", "rules_of",
]  # fmt: skip
