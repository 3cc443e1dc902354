"""Digits in five lines

The included network draws handwritten digits. With a good solver, ten network calls
for each sample are enough.
"""

# %%
import matplotlib.pyplot as plt
import torch

from scoresde import sample
from scoresde.data.pictures import tile
from scoresde.pretrained import pretrained

digits = pretrained("mnist").denoiser
labels = torch.arange(10).repeat(4)
x = sample(digits, "deis", (40, 1, 28, 28), nfe=10, spacing="karras", cond=labels)

# %% [markdown]
# `x` contains images in [-1, 1]. The label of a sample is its column.

# %%
plt.figure("Forty digits, a class in each column", figsize=(8, 3.3))
plt.imshow(tile(x, columns=10)[0], cmap="gray", vmin=-1, vmax=1)
plt.axis("off")

# %% [markdown]
# A sample depends only on the seed and its number. So sample 7 is the same alone and
# in a batch of 40, except for the rounding of the network, which may differ in
# another batch size:

# %%
number = torch.tensor([7])
alone = sample(
    digits,
    "deis",
    (1, 1, 28, 28),
    nfe=10,
    spacing="karras",
    cond=labels[number],
    ids=number,
)
print(f"largest difference: {(alone[0] - x[7]).abs().max():.1e}")
