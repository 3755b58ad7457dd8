"""Every compiled function has a twin of the same name and argument order."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest
import steelyard._native

STEMS = sorted(path.name.split(".")[0] for path in Path(steelyard._native.__path__[0]).glob("[!_]*.so"))
OWN_ARGUMENTS = {"encode_views"}  # its twin works on Python strings


@pytest.mark.parametrize("stem", STEMS)
def test_twins_have_the_same_signatures(stem):
    native, twin = import_module(f"steelyard._native.{stem}"), import_module(f"tests.reference.{stem}")
    names = [name for name, value in vars(native).items() if callable(value) and not name.startswith("_")]
    assert names
    for name in names:
        parameters = [list(inspect.signature(getattr(module, name)).parameters) for module in (native, twin)]
        assert name in OWN_ARGUMENTS or parameters[0] == parameters[1]
