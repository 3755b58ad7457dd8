"""The pages under docs/ run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"  # its other pages are executed when the site is built
PAGES = [page for page in sorted(DOCS.glob("*.md")) if "```python" in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_python_runs(page, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    (tmp_path / "page.py").write_text("\n".join(blocks), encoding="utf-8")
    done = subprocess.run([sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_reference_to_the_formulas_has_its_section():
    sections = set(re.findall(r"^## (\d+)\. ", (DOCS / "estimators.md").read_text(encoding="utf-8"), re.MULTILINE))
    named = set()
    for path in [*DOCS.parent.glob("engine/**/*.py"), *DOCS.parent.glob("kernels/*.c")]:
        for found in re.findall(r"estimators\.md, (\d+)(?:(?: to | and )(\d+))?", path.read_text(encoding="utf-8")):
            named |= {number for number in found if number}
    assert named == sections
