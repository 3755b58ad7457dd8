"""The package as it is installed: one version, types, and an import that loads nothing it does not need."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import steelyard as sy

LATER = {"numba", "matplotlib", "jinja2", "rich", "typer", "sklearn", "pandas", "torch", "duckdb", "ray", "IPython"}
LATER |= {"scipy.stats", "scipy.optimize", "scipy.sparse", "scipy.special", "scipy.linalg"}


def modules(statement: str) -> set[str]:
    code = f"import sys, numpy, polars; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_loads_what_it_needs_beside_polars_and_no_more():
    found = modules("import steelyard")
    assert not found & LATER
    packages = {name.partition(".")[0] for name in found} - set(sys.stdlib_module_names)
    ours = {name for name in packages if "cython" not in name.lower()}  # which SciPy imports where it is installed
    assert ours <= {"steelyard", "scipy", "_cyutility", "_memoryviews"}  # Cython's shared modules have a short name too
    assert len(found) < 200


def test_one_version_and_types():
    assert version("steelyard") == sy.__version__
    assert (Path(sy.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize("name", sy.__all__)
def test_every_public_name_says_what_it_is(name):
    assert len((getattr(sy, name).__doc__ or "").strip()) > 20
