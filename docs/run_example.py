"""Run one percent script and write it as a page: ``python docs/run_example.py SCRIPT FOLDER``.

The docstring of the script is the title and the introduction of the page. A cell that begins with
``# %% [markdown]`` is text; any other cell is code, shown with its output and its pictures.
"""

import ast
import contextlib
import io
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any


def main(script: Path, folder: Path) -> None:
    """Run the cells in one namespace, and write the page, its pictures and the seconds of computation."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(script, folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    parts = [
        text if kind == "markdown" else _shown(text, names, folder, script.stem)
        for kind, text in cells(script.read_text())
    ]
    parts.append(f"[The script of this page]({script.name})")
    (folder / f"{script.stem}.md").write_text("\n\n".join(parts) + "\n")
    (folder / "about.json").write_text(json.dumps({"cpu_seconds": time.process_time()}))


def cells(source: str) -> list[tuple[str, str]]:
    """The introduction and the cells, each ``("markdown", text)`` or ``("code", source)``."""
    found = [("markdown", f"# {ast.get_docstring(ast.parse(source))}")]
    for cell in ("\n" + source).split("\n# %%")[1:]:
        head, _, body = cell.partition("\n")
        if head.strip() == "[markdown]":
            lines = [line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines()]
            found.append(("markdown", "\n".join(lines)))
        else:
            found.append(("code", body.strip()))
    return found


def _shown(code: str, names: dict[str, Any], folder: Path, stem: str) -> str:
    """The code as Markdown, with its output and the pictures that it leaves open."""
    import matplotlib.pyplot as plt

    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(code, f"{stem}.py", "exec"), names)
    parts = [f"```python\n{code}\n```"]
    if output.getvalue():
        parts.append(f"```text\n{output.getvalue().rstrip()}\n```")
    for number in plt.get_fignums():
        name = f"{stem}-{len(list(folder.glob('*.png'))) + 1}.png"
        figure = plt.figure(number)
        figure.savefig(folder / name, dpi=110, bbox_inches="tight")
        alternative = figure.get_label() or "The picture that this code draws"
        parts.append(f"![{alternative}]({name})")
    plt.close("all")
    return "\n\n".join(parts)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
