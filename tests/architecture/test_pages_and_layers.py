"""The documentation is true, and the code lies where ARCHITECTURE.md says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src" / "freehold"
PORTS = sorted(p for p in (SOURCE / "ports").glob("*.py") if p.name != "__init__.py")
SERVICES = sorted(p for p in (SOURCE / "services").iterdir() if (p / "__init__.py").exists())


def test_the_generated_pages_are_what_the_code_says() -> None:
    """Settings, commands and their flags, AWS operations, our own API."""
    done = subprocess.run(
        [sys.executable, "scripts/pages.py", "--check"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("port", PORTS, ids=lambda p: p.stem)
def test_a_port_stands_in_the_architecture(port: Path) -> None:
    assert f"`ports/{port.name}`" in (ROOT / "ARCHITECTURE.md").read_text()


@pytest.mark.parametrize("service", SERVICES, ids=lambda p: p.name)
def test_a_service_says_what_it_is_in_about_ten_lines(service: Path) -> None:
    readme = (service / "README.md").read_text()
    assert readme.startswith(f"# {service.name}\n")
    assert len(readme.splitlines()) <= 20


def test_imports_run_one_way() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports")],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_network_ports_stand_in_the_architecture() -> None:
    from freehold.edges.doorway.environment import DOORWAY_PORT
    from freehold.services.runtime.network import EGRESS_PORT
    from freehold.settings import load

    documented = set(re.findall(r"^\| (\d{4,5})", (ROOT / "ARCHITECTURE.md").read_text(), re.M))
    assert documented == {str(load({}).port), str(DOORWAY_PORT), str(EGRESS_PORT)}


def test_no_links_in_the_documentation_are_broken() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
