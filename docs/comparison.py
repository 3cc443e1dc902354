"""The pictures of the comparison page: ``python docs/comparison.py`` writes docs/pages/compare/ again.

40 digits of the included network, from the same noise: each solver with each number of calls, and a converged
run. Beside the pictures, the RMSE of each to the converged run. About 30 seconds on one core.
"""

import json
from pathlib import Path

import torch

from scoresde import sample
from scoresde.data.pictures import save_grid
from scoresde.pretrained import pretrained

FOLDER = Path(__file__).parent / "pages" / "compare"
SOLVERS = ("em", "ddim", "heun", "dpmpp-2m", "deis", "auto", "dpmpp-2m-sde")
CALLS = (4, 6, 8, 10, 20)
SPACING = "karras"
CONVERGED = ("dpmpp-3m", 100)
ROWS = 4


def main() -> None:
    """Draw everything, and write it."""
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    converged = draw(*CONVERGED)
    _save(converged, "converged")
    errors: dict[str, list[float]] = {}
    for solver in SOLVERS:
        errors[solver] = []
        for calls in CALLS:
            x = draw(solver, calls)
            _save(x, f"{solver}-{calls}")
            errors[solver].append(round(float((x - converged).square().mean().sqrt()), 4))
    (FOLDER / "rmse.json").write_text(json.dumps({"calls": CALLS, "rmse": errors}, indent=1) + "\n")


def draw(solver: str, calls: int) -> torch.Tensor:
    """The same 40 digits, each class in a column, from the same noise."""
    labels = torch.arange(10).repeat(ROWS)
    shape = (len(labels), 1, 28, 28)
    network = pretrained("mnist")
    spacing = network.levels if solver == "auto" else SPACING
    return sample(network.denoiser, solver, shape, nfe=calls, spacing=spacing, cond=labels, seed=3)


def table() -> str:
    """The RMSE of every picture as Markdown, a row a solver."""
    found = json.loads((FOLDER / "rmse.json").read_text())
    lines = ["| RMSE at | " + " | ".join(f"{n} calls" for n in found["calls"]) + " |"]
    lines.append("|---" * (1 + len(found["calls"])) + "|")
    for solver, errors in found["rmse"].items():
        lines.append(f"| `{solver}` | " + " | ".join(f"{error:.3g}" for error in errors) + " |")
    return "\n".join(lines)


def _save(x: torch.Tensor, name: str) -> None:
    save_grid(FOLDER / f"{name}.png", x, columns=10, scale=1)


if __name__ == "__main__":
    main()
