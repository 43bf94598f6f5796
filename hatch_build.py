"""The compiled build: what the simulator spends its time in, made into C by mypyc.

    HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 python -m pip install .

The sources are compiled in a copy, so that a checkout stays interpreted (hatch-mypyc compiles in place, and what it leaves there would
hide every later change).
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# What is compiled, and what of it is not: no frame of a program's own may be among it, or explanations could not say where a task sleeps.
COMPILED = ("simkernel/kernel/**/*.py", "simkernel/sockaddr.py", "simkernel/uapi.py", "simkernel/testing/oracles.py")
INTERPRETED = ("simkernel/kernel/thread_stack.py",)

SETUP = """
import sys
from mypyc.build import mypycify
from setuptools import setup

options = ["--strict", "--follow-imports=silent"]
setup(name="simkernel", packages=[], ext_modules=mypycify([*options, *sys.argv.pop().split()], opt_level="3", debug_level="0"))
"""


class CompiledKernel(BuildHookInterface):  # type: ignore[type-arg]
    """A build hook of hatchling, which is off unless the environment asks for it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and put the extension modules into the wheel, beside their sources."""
        if version == "editable":
            raise SystemExit("a compiled simkernel can't be edited: install it without -e, or unset HATCH_BUILD_HOOK_ENABLE_CUSTOM")
        root = Path(self.root)
        self.copy = Path(mkdtemp(prefix="simkernel-"))
        shutil.copytree(root / "simkernel", self.copy / "simkernel", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        files = sorted(str(path.relative_to(root)) for pattern in COMPILED for path in root.glob(pattern))
        files = [file for file in files if file not in INTERPRETED]
        command = [sys.executable, "-c", SETUP, "build_ext", "--inplace", " ".join(files)]
        # The modules call each other directly: nobody puts other functions in their place.
        env = os.environ | {"CFLAGS": f"-fno-semantic-interposition {os.environ.get('CFLAGS', '')}"}
        done = subprocess.run(command, cwd=self.copy, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise SystemExit(f"mypyc failed:\n{done.stdout}")
        built = [path for path in self.copy.rglob("*.so") if self.copy / "build" not in path.parents]
        build_data["force_include"].update({str(path): str(path.relative_to(self.copy)) for path in built})
        build_data["infer_tag"] = True
        build_data["pure_python"] = False

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is written: the copy has done its work."""
        shutil.rmtree(self.copy)
