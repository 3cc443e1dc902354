"""The gallery: each percent script of docs/examples is run and becomes a page, with output and pictures."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLES = Path(__file__).parent / "examples"
BUILT = ROOT / "build" / "gallery"  # kept until an example or the library changes

ORDER = (
    "digits",
    "seven_sdes",
    "order",
    "own_solver",
    "restart_and_churn",
    "tuning",
)


def navigation() -> list[object]:
    """The pages in the order in which a reader wants them."""
    return [f"gallery/{name}.md" for name in ORDER]


def built() -> list[Path]:
    """Pages, pictures and scripts, after running every example that is new or whose library changed."""
    folders = [build(EXAMPLES / f"{name}.py") for name in ORDER]
    return sorted(path for folder in folders for path in folder.iterdir() if path.suffix != ".json")


def build(script: Path) -> Path:
    """The folder with the page of one example."""
    folder = BUILT / f"{script.stem}-{_key(script)}"
    if not (folder / "about.json").exists():  # it is written last
        command = [sys.executable, str(Path(__file__).with_name("run_example.py")), str(script), str(folder)]
        one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MPLBACKEND": "agg"}
        environment = os.environ | one_thread | {"PYTHONPATH": str(ROOT)}
        run = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        if run.returncode:
            raise RuntimeError(f"{script.name} failed:\n{run.stderr}")
    return folder


def _key(script: Path) -> str:
    """The script and all that it could run, as a short hash."""
    sources = [script, Path(__file__).with_name("run_example.py"), *(ROOT / "scoresde").rglob("*.py")]
    text = b"".join(path.read_bytes() for path in sorted(sources))
    return hashlib.sha256(text).hexdigest()[:12]
