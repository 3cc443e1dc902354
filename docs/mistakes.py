"""Frequent mistakes: each is made at build, so that the page shows the message that users meet."""

import re
import textwrap
import warnings
from dataclasses import dataclass
from typing import Any

import torch

import scoresde
from scoresde import VPSDE, Denoiser
from scoresde.pretrained import pretrained
from scoresde.solvers import Heun

WIDTH = 80  # of a message, which is longer than a screen


@dataclass(frozen=True)
class Mistake:
    """A line of code that the library refuses or warns of, and what to do."""

    code: str
    advice: str


MISTAKES = (
    Mistake(
        'sample(denoiser, "dpmpp-2mm", (4, 2), nfe=10)',
        "The name is wrong. [Which solver](choosing.md) lists all names.",
    ),
    Mistake(
        'sample(denoiser, "DPMSolverMultistepScheduler", (4, 2), nfe=10)',
        "Another library uses this name. Use the name in the message.",
    ),
    Mistake(
        'sample(denoiser, "dpm3", (4, 2), nfe=2)',
        "One step of this solver needs more calls than the budget. Allow more calls, or use a multistep "
        "solver, for example `dpmpp-3m`, which needs one call in each step.",
    ),
    Mistake(
        'sample(denoiser, "dpmpp-2m", (4, 2))',
        "Give `nfe`, the number of network calls that the run may make. Only a solver with a tolerance "
        "needs none.",
    ),
    Mistake(
        "sample(denoiser, Heun, (4, 2), nfe=10)",
        "Call the class: `Heun()`.",
    ),
    Mistake(
        'sample(denoiser, "dpm2:rho=0.5", (4, 2), nfe=10)',
        "The solver has no such option. The options are the arguments of its class.",
    ),
    Mistake(
        'sample(denoiser, "dpmpp-2m", (4, 2), nfe=10, spacing="karras:rho=high")',
        "The value of this option is a number.",
    ),
    Mistake(
        'Denoiser(net, VPSDE(), "epsilon")',
        "Use one of the names in the message. [Your network](network.md) explains each name.",
    ),
    Mistake(
        'sample(Denoiser(lambda x, t: (x,), VPSDE(), "noise"), "ddim", (4, 2), nfe=5)',
        "The network must return a tensor. Networks of diffusers return an object: wrap them as "
        "`lambda x, t: unet(x, t).sample`.",
    ),
    Mistake(
        'sample(Denoiser(lambda x, t: x[:, :1], VPSDE(), "noise"), "ddim", (4, 2), nfe=5)',
        "The output must have the shape of the input. A network that also estimates a variance returns "
        "twice the channels: take the first half.",
    ),
    Mistake(
        'sample(digits, "ddim", (2, 1, 28, 28), nfe=5, cond=torch.tensor([3, 11]))',
        "The network has fewer classes. Label 10 of the included network means *no class*.",
    ),
    Mistake(
        'sample(digits, "tuned", (2, 1, 28, 28), nfe=7)',
        "The library includes tables for some budgets only. `scoresde tune --nfe 7` makes one for 7 calls.",
    ),
    Mistake(
        'sample(digits, "tuned", (2, 1, 28, 28), nfe=6, spacing="karras")',
        "A tuned table has its own levels. Leave `spacing` out.",
    ),
    Mistake(
        'sample(denoiser, "tuned:missing.json", (4, 2))',
        "There is no such file, or it is not a plan. [The plan file](plan-file.md) describes the format.",
    ),
    Mistake(
        'sample(denoiser, "ddim", (4, 2), nfe=5, dtype=torch.float16)',
        "The state is float32 or float64. Only the network runs in low precision: "
        "`Denoiser(..., dtype=torch.bfloat16)`.",
    ),
    Mistake(
        'sample(Denoiser(dropout, VPSDE(), "noise"), "ddim", (4, 2), nfe=5)',
        "A warning: the network is in training mode. Call `net.eval()` before you sample.",
    ),
)


def section() -> str:
    """All mistakes as Markdown, each with its message."""
    return "\n\n".join(
        f"```python\n{mistake.code}\n```\n\n```text\n{message(mistake)}\n```\n\n{mistake.advice}"
        for mistake in MISTAKES
    )


def message(mistake: Mistake) -> str:
    """The type and the text of what the library raises or warns."""
    net = lambda x, t: x  # noqa: E731
    names: dict[str, Any] = {name: getattr(scoresde, name) for name in scoresde.__all__}
    names |= {"torch": torch, "net": net, "Heun": Heun, "dropout": _Dropout()}
    names |= {"denoiser": Denoiser(net, VPSDE(), "noise"), "digits": pretrained("mnist").denoiser}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            eval(mistake.code, names)
        except (ValueError, TypeError, UserWarning) as raised:
            text = re.sub(r"(known: (?:[\w-]+, ){5})[\w-]+,.*", r"\1...", str(raised))  # all names: too many
            return textwrap.fill(f"{type(raised).__name__}: {text}", WIDTH, break_on_hyphens=False)
    raise RuntimeError(f"no mistake any more: {mistake.code}")


class _Dropout(torch.nn.Module):
    """A network in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = torch.nn.Dropout()

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        dropped: torch.Tensor = self.drop(x)
        return dropped
