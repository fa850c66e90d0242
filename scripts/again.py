"""Runs the tests that failed once more, one after another, with nothing beside them.

What passes now failed for want of the machine, or is unsteady: its name stands in the output, so
that it is mended. More than a handful is no accident, and fails at once.
"""

import json
import subprocess
import sys
from pathlib import Path

_FAILED = Path(__file__).parent.parent / ".pytest_cache/v/cache/lastfailed"
_FEW = 12


def main() -> int:
    failed = sorted(json.loads(_FAILED.read_text())) if _FAILED.exists() else []
    print(f"\nFailed beside the others: {len(failed)}", *failed, sep="\n  ", flush=True)
    if not 0 < len(failed) <= _FEW:
        return 1
    again = [sys.executable, "-m", "pytest", "--last-failed", "--last-failed-no-failures", "none"]
    code = subprocess.run(again, cwd=_FAILED.parents[3], check=False).returncode
    print("Failed alone too." if code else "Passed alone. To be mended: the names above.")
    return code


if __name__ == "__main__":
    sys.exit(main())
