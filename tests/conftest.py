"""Fixtures every test may use, and a guard that refuses to test a stale build."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILD = "python -m pip install -e . (or python setup.py build_ext --inplace --force)"


def stale_build(root: Path) -> str | None:
    """Say what is wrong with the compiled modules of the checkout at root; None if nothing is."""
    bindings = sorted((root / "bindings").glob("*.pyx"))
    sources = [*(root / "kernels").glob("*.[ch]"), *bindings]
    built = list((root / "engine/steelyard/_native").glob("*.so"))
    missing = sorted({path.stem for path in bindings} - {path.name.split(".")[0] for path in built})
    if missing:
        return f"compiled modules are missing: {', '.join(missing)}. Build them: {BUILD}"
    if not built:
        return None
    oldest = min(built, key=lambda path: path.stat().st_mtime_ns)
    newer = [path for path in sources if path.stat().st_mtime_ns > oldest.stat().st_mtime_ns]
    if not newer:
        return None
    names = ", ".join(sorted(path.relative_to(root).as_posix() for path in newer))
    return f"stale build: {names} changed after {oldest.name} was compiled. Rebuild all of it: {BUILD}"


def pytest_sessionstart() -> None:
    """Stop before the first test if steelyard is this checkout and its compiled modules are stale."""
    spec = find_spec("steelyard")
    if spec is None or spec.origin is None:
        pytest.exit(f"steelyard is not installed. Install it: {BUILD}", returncode=3)
    meant = os.environ.get("STEELYARD_FROM")
    if meant and not Path(spec.origin).resolve().is_relative_to(Path(meant).resolve()):
        pytest.exit(f"{spec.origin} would be tested, but {meant} is meant", returncode=3)
    if Path(spec.origin).resolve().is_relative_to(ROOT / "engine"):
        problem = stale_build(ROOT)
        if problem is not None:
            pytest.exit(problem, returncode=3)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder tests/data."""
    return ROOT / "tests/data"
