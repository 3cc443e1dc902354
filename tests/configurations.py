"""Good configurations, and bad ones with their messages."""

import pytest

GOOD = """
[data]
source = "digits"

[network]
name = "unet"
channels = [8]
blocks = 1
classes = 10

[prediction]
name = "edm"
sigma_data = 0.7

[optimization]
steps = 2
batch_size = 4

[levels]
budgets = []
"""

NAMED = """
[sde]
name = "edm"

[time_sampling]
name = "log-normal"

[weighting]
name = "plain"
"""

# An override, or a change of the file, and what the line must say.
BAD = {
    "unknown section": ("trainer.steps=1", r"unknown key trainer; .*known: data, levels, network, .*"),
    "unknown top key": ("sed=1", r"unknown key sed; did you mean 'seed'\?"),
    "a section of earlier versions": (
        "schedule.steps=3",
        r"unknown key schedule; did you mean 'optimization'\? known: data, levels, network, optimization, ",
    ),
    "another section of earlier versions": (
        "times.mean=0.0",
        r"unknown key times; did you mean 'time_sampling'\? known: data, .*, time_sampling, weighting$",
    ),
    "an earlier name as a key": ("schedule=3", r"unknown key schedule; did you mean 'optimization'\?"),
    "unknown key of data": (
        "data.sorce=1",
        r"unknown key data.sorce; .* known: crop, images, labels, max_bytes, .*, source, split, unreadable$",
    ),
    "unknown key of optimization": (
        "optimization.step=1",
        r"unknown key optimization.step; did you mean 'steps'\? known: allow_missing_classes, batch_size, "
        r"clip, decay, ema, label_dropout, lr, max_skipped, precision, steps, warmup, weight_decay$",
    ),
    "a key of a section above all": ("steps=5", "unknown key steps; steps belongs in \\[optimization\\]$"),
    "a key of another section": (
        "data.lr=5",
        "unknown key data.lr; lr belongs in \\[optimization\\]$",
    ),
    "a key that belongs above all": (
        "optimization.seed=5",
        "unknown key optimization.seed; seed belongs above all sections$",
    ),
    "an option of another section": (
        "optimization.channels=[8]",
        "unknown key optimization.channels; channels belongs in \\[network\\]$",
    ),
    "an option above all": ("t_max=5.0", "unknown key t_max; t_max belongs in \\[sde\\]$"),
    "an option of another name": (
        "sde.beta_max=5.0",
        "SDE 'edm' has no option 'beta_max'; .*known: t_max, t_min$",
    ),
    "an option of two sections": (
        "data.sigma_data=0.5",
        "unknown key data.sigma_data; sigma_data belongs in \\[prediction\\]$",
    ),
    "an integer of 5,000 digits": (
        f"optimization.steps={'9' * 5000}",
        "optimization.steps: .*integer, got '9",
    ),
    "a network beyond all memory": ("network.channels=[8000000000]", "network 'unet': "),
    "unknown network option": (
        "network.chanels=[8]",
        r"network 'unet' has no option 'chanels'; did you mean 'channels'",
    ),
    "unknown SDE option": ("sde.tmin=1", r"SDE 'edm' has no option 'tmin'; did you mean 't_min'\?"),
    "an option of none": ("weighting.x=1", "weighting 'plain' has no option 'x'; it has none"),
    "unknown network": ("network.name=unett", r"unknown network 'unett'; .* known: mlp, unet"),
    "unknown SDE": ("sde.name=vpp", r"unknown SDE 'vpp'; did you mean 'vp'\?"),
    "unknown prediction": (
        "prediction.name=epsilon",
        "unknown prediction 'epsilon'; .*known: data, edm, noise",
    ),
    "unknown times": (
        "time_sampling.name=uniforn",
        r"unknown time sampling 'uniforn'; did you mean 'uniform'\?",
    ),
    "unknown weighting": ("weighting.name=none", "unknown weighting 'none'"),
    "string for an integer": ('optimization.steps="7"', "optimization.steps: .* integer, got '7'"),
    "word for an integer": ("optimization.steps=many", "optimization.steps: .* integer, got 'many'"),
    "truth for an integer": ("optimization.steps=true", "optimization.steps: .* integer, got True"),
    "float for an integer": ("optimization.steps=1.0", "optimization.steps: .* integer, got 1.0"),
    "string for a float": ("optimization.lr='1e-3'", "optimization.lr: .* number, got '1e-3'"),
    "another word": (
        "optimization.decay=slow",
        "optimization.decay: .*'cosine', 'linear' or 'constant', got 'slow'",
    ),
    "list for a string": ("data.source=[1]", r"data.source: input should be a valid string, got \[1\]"),
    "string for a list": ("network.channels=8", "network 'unet' option channels: .*, got 8"),
    "string in a list": ('network.channels=["8"]', r"network 'unet' option channels: .*, got \['8'\]"),
    "float for an option": ("network.blocks=1.5", "network 'unet' option blocks: .*integer, got 1.5"),
    "number for a name": ("network.name=3", "network.name: input should be a valid string, got 3"),
    "word for a section": ("data=digits", "data: input should be an object, got 'digits'"),
    "string for a seed": ("seed='0'", "seed: input should be a valid integer, got '0'"),
    "value out of range": ("optimization.lr=-1.0", "optimization: lr must be positive and finite, got -1.0"),
    "no number": ("optimization.ema=nan", r"optimization: ema must be in \[0, 1\), got nan"),
    "size out of range": (
        "network.channels=[12]",
        r"network 'unet': channels must be multiples of 8, got \(12,\)",
    ),
    "range upside down": ("sde.t_min=100.0", "SDE 'edm': EDM needs finite .* t_min < t_max"),
    "deviation out of range": ("prediction.sigma_data=-0.5", "prediction 'edm': sigma_data must be positive"),
    "budget of one call": ("levels.budgets=[5, 1]", "levels: budgets must be at least 2, got 1"),
    "budget out of range": ("levels.budgets=[5, 51]", "levels: budgets must be at most 50, got 51"),
    "float for a budget": ("levels.budgets=[5.0]", "levels.budgets.0: .* integer, got 5.0"),
    "number for budgets": ("levels.budgets=5", "levels.budgets: .*, got 5"),
    "budgets above all": ("budgets=[5]", "unknown key budgets; budgets belongs in \\[levels\\]$"),
    "unknown key of levels": ("levels.budget=[5]", r"unknown key levels.budget; did you mean 'budgets'\?"),
    "times out of range": ("time_sampling.std=0.0", "time sampling 'log-normal': .*std positive"),
}

bad_overrides = pytest.mark.parametrize(("override", "named"), BAD.values(), ids=BAD.keys())

FILES = {
    "no TOML": ("[data\n", "some.toml: .*line 1"),
    "a key twice": ("seed = 1\nseed = 2\n", "some.toml: .*overwrite"),
    "a section that is missing": ("[data]\nsource = 'digits'\n", "some.toml: key network is missing"),
    "a key that is missing": (GOOD.replace('source = "digits"', ""), "some.toml: key data.source is missing"),
    "a name that is missing": (GOOD.replace('name = "unet"', ""), "some.toml: key network.name is missing"),
    "nothing": ("", "some.toml: key data is missing"),
    "an integer of 5,000 digits": (f"seed = {'9' * 5000}", "some.toml: .*4300 digits"),
    "lists in lists": ("x = " + "[" * 5000, "some.toml: it is nested too deeply"),
    "tables in tables": ("x" + ".x" * 5000 + " = 1", "some.toml: "),
    "a NUL": (GOOD.replace("digits", "a\0b"), "some.toml: Illegal character"),
}
bad_files = pytest.mark.parametrize(("content", "named"), FILES.values(), ids=FILES.keys())

bad_syntax = pytest.mark.parametrize(
    "override",
    ["optimization.steps", "=3", " =3", "a b=3", "optimization..steps=3", "data.source=a\x00b"],
    ids=repr,
)
