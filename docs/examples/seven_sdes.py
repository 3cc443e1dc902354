"""One solver on seven SDEs

A solver uses an SDE only through its noise levels. So each solver runs on each SDE.
`Transported` runs a network under another SDE than the SDE of its training: here
one network runs under all seven.
"""

# %%
import matplotlib.pyplot as plt
import torch

from scoresde import (
    EDM,
    VESDE,
    VPSDE,
    Cosine,
    DiscreteVPSDE,
    RectifiedFlow,
    SubVPSDE,
    Transported,
    sample,
)
from scoresde.data.pictures import tile
from scoresde.pretrained import pretrained

digits = pretrained("mnist").denoiser
sdes = [EDM(), VPSDE(), SubVPSDE(), VESDE(), Cosine(), RectifiedFlow(), DiscreteVPSDE()]
rows = [
    sample(
        Transported(digits, sde),
        "dpmpp-2m",
        (10, 1, 28, 28),
        nfe=20,
        cond=torch.arange(10),
    )
    for sde in sdes
]

# %% [markdown]
# Each row starts from the same noise. The rows differ a little, because the SDEs
# start and end at different noise levels.

# %%
plt.figure("Seven rows of digits, one for each SDE", figsize=(7.4, 5.2))
plt.imshow(tile(torch.cat(rows), columns=10)[0], cmap="gray", vmin=-1, vmax=1)
plt.yticks(
    [15 + 29 * i for i in range(len(sdes))], [type(sde).__name__ for sde in sdes]
)
plt.xticks([])
