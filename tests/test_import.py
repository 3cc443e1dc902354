"""Imports: the modules that ``import scoresde`` loads, and each module imported first."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import scoresde

ROOT = Path(__file__).parent.parent

# For a fresh process. torch is loaded first, so that its own imports do not count.
FRESH = """
import sys, torch
def refuse(*arguments, **options):
    raise AssertionError("compiled at import")
torch.compile, before = refuse, set(sys.modules)
for statement in sys.argv[1:]:
    exec(statement)
    new = set(sys.modules) - before
    found = {name if name.startswith("torch.") else name.partition(".")[0] for name in new}
    print(*sorted(found))
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """Packages, and modules of torch, that a fresh process has loaded after each of these statements."""
    statements = [
        "import scoresde",
        "scoresde.spacing_of('karras')",
        "scoresde.spacing_of('karras:rho=5')",
        "scoresde.spacing_of('beta')(scoresde.EDM(), 4)",
        "scoresde.prepare('ode', scoresde.EDM(), 4)",
    ]
    command = [sys.executable, "-W", "error", "-c", FRESH, *statements]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    lines = [set(line.split()) for line in run.stdout.splitlines()]
    return dict(zip(statements, lines, strict=True))


def test_import_compiles_nothing_and_loads_little(loaded: dict[str, set[str]]) -> None:
    found = loaded["import scoresde"]
    assert "scoresde" in found
    others = {name for name in found if name not in sys.stdlib_module_names and name[0] != "_"}
    assert others <= {"filelock", "numpy", "safetensors", "scoresde", "tqdm"}, others
    assert not any(name.startswith(("torch._dynamo", "torch._inductor")) for name in found), found


def test_heavy_packages_are_loaded_at_their_first_use(loaded: dict[str, set[str]]) -> None:
    """So the first test would find each of them if the import loaded it."""
    assert "pydantic" not in loaded["scoresde.spacing_of('karras')"]
    assert "pydantic" in loaded["scoresde.spacing_of('karras:rho=5')"]
    assert "scipy" in loaded["scoresde.spacing_of('beta')(scoresde.EDM(), 4)"]
    assert "torchdiffeq" in loaded["scoresde.prepare('ode', scoresde.EDM(), 4)"]


def test_all_names_are_there() -> None:
    assert len(set(scoresde.__all__)) == len(scoresde.__all__)
    for name in scoresde.__all__:
        assert getattr(scoresde, name) is not None
    assert set(scoresde.__all__) <= set(dir(scoresde))
    with pytest.raises(AttributeError, match="'scoresde' has no attribute 'tuned_samples'"):
        _ = scoresde.tuned_samples


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert re.fullmatch(r"\d+\.\d+\.\d+", scoresde.__version__)
    assert "version" not in project["project"]
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "scoresde.__version__"}


# For a fresh process, which has loaded other packages and no module of this one. Each module is imported in a
# fork, because the start of a process takes seconds. An empty package stands for ``scoresde``: its
# ``__init__`` would import most modules before the tested one, in an order that works.
FIRST = """
import gc, importlib, os, sys, traceback, types
import filelock, numpy, pydantic, safetensors.torch, torch, tqdm
gc.disable()  # each collection would copy the memory of torch into the fork
package = types.ModuleType("scoresde")
package.__path__, package.__version__ = [sys.argv[1]], "0"
sys.modules["scoresde"] = package
for name in sys.argv[2:]:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(name)
        except BaseException:
            print(f"{name} cannot be imported first: {traceback.format_exc()}", flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print(f"{name} ends the process at its import", flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_each_module_can_be_imported_first(tmp_path: Path) -> None:
    folder = ROOT / "scoresde"
    paths = [path.relative_to(ROOT).with_suffix("") for path in sorted(folder.rglob("*.py"))]
    modules = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    modules = [name for name in modules if name not in ("scoresde", "scoresde.__main__")]
    assert len(modules) > 100
    command = [sys.executable, "-c", FIRST, str(folder), *modules]
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}  # once, not in each fork
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | compiled)
    assert run.returncode == 0, run.stderr
    assert run.stdout == ""
