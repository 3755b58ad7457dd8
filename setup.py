"""Builds one compiled module per kernel: bindings/<stem>.pyx over kernels/<stem>.c."""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

# Vector loops without -ffast-math: no value changes, but blends are allowed where a branch would stop them.
VECTORS = ["-fopenmp-simd", "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno"]
LEVEL = [] if "-fsanitize" in os.environ.get("CFLAGS", "") else ["-O3"]  # sanitizers ask for less
ARGUMENTS = ["/O2", "/std:c11"] if sys.platform == "win32" else [*LEVEL, "-std=c11", *VECTORS]

modules = [
    Extension(
        f"steelyard._native.{binding.stem}",
        [binding.as_posix(), f"kernels/{binding.stem}.c"],
        include_dirs=["kernels"],
        depends=sorted(map(str, Path("kernels").glob("*.h"))),
        extra_compile_args=ARGUMENTS,
    )
    for binding in sorted(Path("bindings").glob("*.pyx"))
]

# Cython's own code for memoryviews, once for all modules: in each of them it took most of the time to compile.
SHARED = "steelyard._native._memoryviews"
modules.append(Extension(SHARED, []))

setup(
    ext_modules=cythonize(modules, build_dir="build", include_path=["kernels"], shared_utility_qualified_name=SHARED),
    options={"build_ext": {"parallel": os.cpu_count()}},  # modules, side by side
)
