"""No command line and no file ends in a traceback: one line and 2 for what cannot be, 0 for what can."""

import json
import os
import random
import struct
from pathlib import Path

import numpy as np
import pytest

from scoresde import EDM, prepare
from scoresde.cli.main import main
from scoresde.training.configuration import read_configuration

ROOT = Path(__file__).parents[2]
FEW = int(os.environ.get("SCORESDE_FUZZ", "40"))  # trials of each kind

SMALL = """
data = {source = "digits"}
network = {name = "unet", channels = [8], blocks = 1, patch = 2, classes = 10}
prediction = {name = "edm"}
optimization = {steps = 1, batch_size = 2}
levels = {budgets = []}
"""
MLP_TOML = """
data = {source = "vectors.npy"}
network = {name = "mlp"}
prediction = {name = "edm"}
optimization = {steps = 1, batch_size = 2}
levels = {budgets = []}
"""
DEEP = "[" * 100_000 + "]" * 100_000
DIGITS = "9" * 5000


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small trained network, and files of every kind that a command may be given."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "small.toml").write_text(SMALL)
    assert (
        main(["train", "--config", str(folder / "small.toml"), "--out", str(folder / "run"), "--quiet"]) == 0
    )
    prepare("ddim", EDM(), 3).save(folder / "plan.json")
    (folder / "mlp.toml").write_text(MLP_TOML)
    (folder / "deep.json").write_text(DEEP)
    (folder / "deep.toml").write_text("x = " + DEEP)
    (folder / "binary").write_bytes(bytes(range(256)) * 8)
    (folder / "empty").write_bytes(b"")
    (folder / "long.toml").write_text(SMALL.replace("steps = 1", f"steps = {DIGITS}"))
    header = json.dumps({"__metadata__": {"configuration": DEEP}}).encode()
    (folder / "deep.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (folder / "huge.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    np.save(folder / "vectors.npy", np.zeros((4, 2), np.float32))
    np.save(folder / "text.npy", np.array(["a", "b"]))
    np.save(folder / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    (folder / "odd\x1b[31m\nname.toml").write_text("seed = 'a'")
    (folder / "file").write_text("")
    return folder


RUN = ["sample", "--checkpoint", "run", "--n", "2"]
TRAIN = ["train", "--config", "small.toml"]
MLP = ["train", "--config", "mlp.toml"]
TUNE = ["tune", "--checkpoint", "run", "--nfe", "2", "--samples", "32"]
QUIET = ("train", "sample", "tune", "measure")
MEASURE = ["measure", "--checkpoint", "run"]
LINES = [
    [],
    ["--nonsense"],
    ["paint"],
    ["train"],
    ["sample", "--nfe"],
    ["sample", "--nfe", DIGITS],
    ["sample", "--n", "1e3"],
    ["train", "--config", ""],
    ["train", "--config", "nowhere.toml"],
    ["train", "--config", "."],
    ["train", "--config", "binary"],
    ["train", "--config", "empty"],
    ["train", "--config", "deep.toml"],
    ["train", "--config", "deep.json"],
    ["train", "--config", "long.toml"],
    ["train", "--config", "a\0b"],
    ["train", "--config", "n" * 5000],
    ["train", "--config", "odd\x1b[31m\nname.toml"],
    [*TRAIN, "optimization.steps=" + DIGITS],
    [*TRAIN, "optimization.steps=" + "[" * 5000],
    [*TRAIN, "seed=" + "9" * 4000],
    [*TRAIN, "a" * 100_000 + "=1"],
    [*TRAIN, "=" * 1000],
    [*TRAIN, "\udcff.x=1"],
    [*TRAIN, "data.source='\udcff'"],
    [*MLP, "network.width=1000000000"],
    [*MLP, "network.width=-3"],
    [*MLP, "network.size=0"],
    [*MLP, "network.size=1000000000000000000"],
    [*TRAIN, "network.channels=[]"],
    [*TRAIN, "network.channels=[-8]"],
    [*TRAIN, "network.channels=[8, 9223372036854775800]"],
    [*TRAIN, "network.classes=-1"],
    [*TRAIN, "network.classes=1000000000000000000"],
    [*TRAIN, "network.in_channels=0"],
    [*TRAIN, "network.patch=0"],
    [*TRAIN, "network.dropout=7.0"],
    [*TRAIN, "network.heads=0"],
    [*TRAIN, "optimization.lr=1e38", "optimization.steps=3"],
    [*TRAIN, "optimization.lr=1e400"],
    [*TRAIN, "optimization.weight_decay=1e300", "optimization.steps=3"],
    [*TRAIN, "optimization.clip=1e-300"],
    [*TRAIN, "optimization.batch_size=1000000000000000"],
    [*TRAIN, "optimization.warmup=" + "9" * 400],
    [*TRAIN, "sde={name='ddpm', steps=1000000000000}"],
    [*TRAIN, "sde={name='edm', t_max=1e308}"],
    [*TRAIN, "sde={name='vp', t_max=1e200}"],
    [*TRAIN, "sde={name='ve', t_max=1e9}"],
    [*TRAIN, "sde={name='ve', sigma_max=1e300}"],
    [*TRAIN, "sde={name='edm', t_min='a'}"],
    [*TRAIN, "prediction={name='edm', sigma_data=1e-300}"],
    [*TRAIN, "prediction={name='edm', sigma_data=1e300}"],
    [*TRAIN, "time_sampling={name='log-normal', mean=1e300}"],
    [*TRAIN, "time_sampling={name='log-normal', std=1e300}"],
    [*TRAIN, "weighting={name='min-snr', gamma=inf}"],
    [*TRAIN, "weighting={name='edm', sigma_data=1e-200}"],
    [*TRAIN, "data.source=text.npy"],
    [*TRAIN, "data.source=pickle.npy"],
    [*TRAIN, "data.source=vectors.npy"],
    [*TRAIN, "data.source=hf:"],
    [*TRAIN, "data.source="],
    [*TRAIN, "data.source='a\\u0000b.npy'"],
    [*TRAIN, "--init", "binary"],
    [*TRAIN, "--init", "deep.safetensors"],
    [*TRAIN, "--init", "plan.json"],
    [*TRAIN, "--out", "file/below"],
    [*TRAIN, "--out", "o" * 300],
    [*TRAIN, "--out", "a\0b"],
    [*TRAIN, "--out", "run"],
    [*TRAIN, "--out", "run", "--resume", "seed=3"],
    [*TRAIN, "--save-every", "-9223372036854775809"],
    [*TRAIN, "--device", ""],
    [*TRAIN, "--device", "cuda:" + DIGITS],
    [*TRAIN, "--device", "meta"],
    ["sample", "--checkpoint", "binary"],
    ["sample", "--checkpoint", "empty"],
    ["sample", "--checkpoint", "huge.safetensors"],
    ["sample", "--checkpoint", "deep.safetensors"],
    ["sample", "--checkpoint", "."],
    ["sample", "--checkpoint", "a\0b"],
    ["sample", "--checkpoint", "n" * 5000],
    [*RUN, "--n", "-9223372036854775809"],
    [*RUN, "--n", "100000000000000000"],
    [*RUN, "--first", "9223372036854775806"],
    [*RUN, "--first", "9223372036854775807"],
    [*RUN, "--first", "1" + "0" * 40],
    [*RUN, "--seed", "1" + "0" * 40],
    [*RUN, "--seed", "-1"],
    [*RUN, "--batch-size", "1" + "0" * 40],
    [*RUN, "--nfe", "0"],
    [*RUN, "--solver", ""],
    [*RUN, "--solver", ":" * 1000],
    [*RUN, "--solver", "ddim:eta=" + DIGITS],
    [*RUN, "--solver", "ddim:eta=" + DEEP[:50_000]],
    [*RUN, "--solver", "ddim:eta=NaN"],
    [*RUN, "--solver", "ddim:eta=1e400"],
    [*RUN, "--solver", "adams:predictor=1000000000000"],
    [*RUN, "--solver", "churn:solver=churn"],
    [*RUN, "--solver", "churn:s_churn=1e308"],
    [*RUN, "--solver", "restart:intervals=100000000000"],
    [*RUN, "--solver", "pc:snr=1e-320"],
    [*RUN, "--solver", "parallel:window=100000000000"],
    [*RUN, "--solver", "parallel:solver=parallel"],
    [*RUN, "--solver", "ode:method=dopri5,rtol=1e-320,atol=1e-320", "--nfe", "50"],
    [*RUN, "--solver", "ode:method=dopri5,rtol=1e400"],
    [*RUN, "--solver", "dpm-adaptive-12:rtol=1e-300", "--nfe", "50"],
    [*RUN, "--solver", "dpm-adaptive-12:h_init=1e300", "--nfe", "50"],
    [*RUN, "--solver", "dpm-solver-v3:statistics=binary"],
    [*RUN, "--solver", "dpm-solver-v3:statistics=deep.safetensors"],
    [*RUN, "--solver", "tuned:"],
    [*RUN, "--solver", "tuned:."],
    [*RUN, "--solver", "tuned:deep.json"],
    [*RUN, "--solver", "tuned:binary"],
    [*RUN, "--solver", "tuned:a\0b"],
    [*RUN, "--solver", "tuned:" + "n" * 5000],
    [*RUN, "--solver", "tuned:plan.json", "--sde", "vp"],
    [*RUN, "--sde", "\x1b[31m"],
    [*RUN, "--spacing", "karras:rho=1e-300"],
    [*RUN, "--spacing", "karras:rho=1e300"],
    [*RUN, "--spacing", "power-t:exponent=1e300"],
    [*RUN, "--spacing", "beta:a=1e300"],
    [*RUN, "--spacing", "beta:a=1e-300"],
    [*RUN, "--spacing", "polyexponential:rho=1e300"],
    [*RUN, "--spacing", "at-times:times=[]"],
    [*RUN, "--spacing", "at-times:times=[1,NaN]"],
    [*RUN, "--spacing", "at-times:times=" + DEEP[:50_000]],
    [*RUN, "--spacing", "at-sigmas:sigmas=[1e400,1]"],
    [*RUN, "--spacing", "refined:parts=100000000000"],
    [*RUN, "--spacing", "shifted:shift=1e-320"],
    [*RUN, "--spacing", "clipped:lam_min=NaN"],
    [*RUN, "--spacing", "clipped:spacing=clipped"],
    [*RUN, "--label", "9223372036854775808"],
    [*RUN, "--label", "-1"],
    [*RUN, "--label", ""],
    [*RUN, "--out", "file"],
    [*RUN, "--out", "a\0b"],
    [*RUN, "--out", "/proc/nothing"],
    [*TUNE, "--nfe", "1" + "0" * 40],
    [*TUNE, "--samples", "-1"],
    [*TUNE, "--held-out", "0"],
    [*TUNE, "--starts", "1" + "0" * 40, "--samples", "1"],
    [*TUNE, "--gamma", "nan"],
    [*TUNE, "--gamma", "1e400"],
    [*TUNE, "--batch-size", "0"],
    [*TUNE, "--dtype", "int8"],
    [*TUNE, "--label", "11"],
    [*TUNE, "--out", "file/below"],
    [*TUNE, "--out", "a\0b"],
    ["measure", "--checkpoint", ""],
    ["measure", "--checkpoint", "binary"],
    ["measure", "--checkpoint", "a\0b"],
    [*MEASURE, "--nfe"],
    [*MEASURE, "--nfe", "1"],
    [*MEASURE, "--nfe", "51"],
    [*MEASURE, "--nfe", "1" + "0" * 18],
    [*MEASURE, "--nfe", DIGITS],
    [*MEASURE, "--nfe", "\u0665", "--label", "\u0663x"],
    [*MEASURE, "--seed", "1.5"],
    [*MEASURE, "--batch-size", "0"],
    [*MEASURE, "--label", "11"],
    [*MEASURE, "--sde", "vp:t_max=nan"],
    [*MEASURE, "--out", ""],
    [*MEASURE, "--out", "file/below.json"],
    [*MEASURE, "--out", "a\0b.json"],
    [*MEASURE, "--out", "deep.json"],
    [*MEASURE, "--out", "n" * 5000 + ".json"],
    [*RUN, "--spacing", "measured"],
    [*RUN, "--spacing", "measured:"],
    [*RUN, "--spacing", "measured:file="],
    [*RUN, "--spacing", "measured:file=deep.json"],
    [*RUN, "--spacing", "measured:file=binary"],
    [*RUN, "--spacing", "measured:file=a\0b"],
    [*RUN, "--spacing", "measured:file=."],
]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "line", LINES, ids=lambda line: " ".join(line)[-60:].encode("unicode_escape").decode()
)
def test_a_hostile_command_line_is_answered_with_one_line(line, place, tmp_path, monkeypatch, capsys):
    for path in place.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    status = main([*line, *(["--quiet"] if line[:1] and line[0] in QUIET else [])])
    errors = capsys.readouterr().err
    assert status in (0, 2), errors
    assert "Traceback" not in errors
    assert errors.isprintable() or errors.replace("\n", "").isprintable()
    if status == 2:
        assert errors.count("\n") == 1 or "warning: " in errors
        assert len(errors) < 2000


# ------------------------------------------------------------------------------------- changed at random

# What may stand in a file in place of a value.
ODD = [
    *(None, True, False, 0, -1, 1, 3, 2**63, -(2**70), 10**400, 0.5, -0.0, 1e308, float("inf"), float("nan")),
    *("", "x0", "x1", "z", "z-1", "z²", "z" + "9" * 30, "d", "d0", "h0", "\x1b[31m", "\ud800", "a" * 3000),
    *("0x1p0", "-0x1p0", "0x1p9999", "0x0p0", "nan", "inf", "dpm2", "edm", "karras"),
    *(
        [],
        {},
        [[]],
        ["x0", 1.0],
        [["x0", 1.0]],
        ["0x1p0"] * 4,
        ["nan"] * 4,
        {"name": "x0"},
        {"a": {"b": [1]}},
    ),
]


def places(content):
    """Every container in plain data, with each of its keys."""
    inner = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in list(inner):
        yield content, key
        if isinstance(value, dict | list):
            yield from places(value)


def changed(content, chance):
    """Plain data with one to three things in it replaced, removed, doubled or moved."""
    content = json.loads(json.dumps(content))
    for _ in range(chance.choice([1, 1, 2, 3])):
        container, key = chance.choice(list(places(content)))
        how = chance.random()
        if how < 0.65:
            container[key] = chance.choice(ODD)
        elif how < 0.75 or isinstance(container, dict):
            del container[key]
        elif how < 0.9:
            container.insert(chance.randrange(len(container)), container[key])
        else:
            chance.shuffle(container)
        if not content:
            break
    return content


def damaged(data, chance):
    """Bytes with some replaced, a part left out or doubled, or the end cut off."""
    start, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    how = chance.random()
    if how < 0.4:
        noise = bytes(chance.randrange(256) for _ in range(chance.choice([1, 1, 4, 20])))
        return data[:start] + noise + data[start + len(noise) :]
    if how < 0.6:
        return data[:start]
    return data[:start] + data[end:] if how < 0.8 else data[:end] + data[start:]


PLANS = [("ddim", 2), ("dpmpp-2m", 3), ("pc:measured=true", 2), ("heun", 3), ("unipc", 4), ("sra", 4)]


def plan_of(chance, folder):
    """A file of a plan that was changed at random."""
    solver, nfe = chance.choice(PLANS)
    path = folder / "fuzzed.json"
    prepare(solver, EDM(), nfe).save(path)
    content = json.loads(path.read_text()) | {
        "about": {"sde": "EDM(t_min=0.002, t_max=80.0)", "weights": "0"}
    }
    if chance.random() < 0.7:
        path.write_text(json.dumps(changed(content, chance)))
    else:
        path.write_bytes(damaged(json.dumps(content).encode(), chance))
    return path


def configuration_of(chance, folder):
    """A file of a configuration that was changed at random, and what is put over it."""
    path = folder / "fuzzed.toml"
    text = (ROOT / "configs" / chance.choice(["digits.toml", "mnist-fine.toml"])).read_text()
    how, overrides = chance.random(), []
    lines = text.splitlines()
    if how < 0.3:
        path.write_bytes(damaged(text.encode(), chance))
    elif how < 0.6:
        chance.shuffle(lines)
        path.write_text("\n".join(lines))
    else:
        path.write_text(text)
    for _ in range(chance.randrange(3)):
        key = chance.choice(
            [line.split(" = ")[0] for line in lines if " = " in line] + ["name", "x.y", "a b"]
        )
        section = chance.choice(
            ["data", "network", "sde", "prediction", "time_sampling", "optimization", "weighting", ""]
        )
        value = chance.choice(ODD)
        text = value if isinstance(value, str) and chance.random() < 0.5 else json.dumps(value)
        overrides.append(f"{section}{'.' * bool(section)}{key}={text}")
    return path, overrides


def is_refused_or_runs(arguments, capsys):
    """The status of a command, which must be 0, or 2 and one line."""
    status = main([*map(str, arguments), "--quiet"])
    errors = capsys.readouterr().err
    assert status in (0, 2), errors
    lines = [line for line in errors.splitlines() if "warning: " not in line]
    assert len(lines) == (status == 2), errors
    return status


@pytest.mark.filterwarnings("ignore:this plan was tuned for another network")
def test_plans_that_were_changed_at_random_run_or_are_refused(place, tmp_path, capsys):
    chance, found = random.Random(0), []
    for trial in range(FEW):
        path = plan_of(chance, tmp_path)
        out = ["--out", tmp_path / str(trial)]
        run = ["sample", "--checkpoint", place / "run", "--n", "1", "--solver", f"tuned:{path}", *out]
        found.append(is_refused_or_runs(run, capsys))
    assert 0.02 < found.count(0) / FEW < 0.6  # no trial is vain


def test_configurations_that_were_changed_at_random_are_read_or_refused(tmp_path):
    chance, good = random.Random(0), 0
    for _ in range(FEW):
        path, overrides = configuration_of(chance, tmp_path)
        try:
            read_configuration(path, overrides)
            good += 1
        except ValueError as error:
            message = str(error)
            assert str(path) in message or "override" in message, message
    assert 0.02 < good / FEW < 0.6
