"""Runs inside the build sandbox, under the agent's own interpreter.

    python inside.py compile TREE
    python inside.py install PIP_RUNNER WORK CODE PIP_ARGUMENT...

Any Python from 3.10 on; the standard library only. `install` leaves WORK/target. CODE is "-", or
the bundle, a copy of which is then the place that requirements are relative to.
"""

import compileall
import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path


def main(arguments: "list[str]") -> int:
    command, *rest = arguments
    if command == "compile":
        compile_tree(Path(rest[0]))
        return 0
    return install(rest[0], Path(rest[1]), *rest[2:])


def install(runner: str, work: Path, code: str, *arguments: str) -> int:
    scratch, source, target = work / "tmp", work / "source", work / "target"
    # Not /tmp, which is memory: wheels can be larger than that.
    scratch.mkdir()
    os.environ["TMPDIR"] = str(scratch)
    if code == "-":
        source.mkdir()
    else:
        # Projects are built in their own directory, and the bundle's is read-only.
        shutil.copytree(code, source, symlinks=True, copy_function=_copy_writable)
        for directory, _, _ in os.walk(source):
            Path(directory).chmod(0o755)
    command = [sys.executable, "-I", "-B", runner, "install", "--target", str(target), *arguments]
    failed = subprocess.run(command, cwd=source, check=False).returncode
    if failed:
        return failed
    for spent in (scratch, source):
        shutil.rmtree(spent, ignore_errors=True)
    target.mkdir(exist_ok=True)
    compile_tree(target)
    return 0


def compile_tree(tree: Path) -> None:
    """What does not compile stays as it is: templates, code for other versions."""
    try:
        _compile(tree, workers=min(4, os.cpu_count() or 1))
    except OSError:  # no semaphores here
        _compile(tree, workers=1)


def _compile(tree: Path, workers: int) -> None:
    compileall.compile_dir(
        tree,
        workers=workers,
        quiet=2,
        force=True,
        stripdir=str(tree),  # where a tree is built is not where it will lie
        # Trees are read-only from now on: no look at a source's time at each start.
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def _copy_writable(source: str, target: str) -> None:
    shutil.copy(source, target)
    Path(target).chmod(0o755 if os.access(source, os.X_OK) else 0o644)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
