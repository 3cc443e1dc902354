"""No command line and no file ends in a traceback: one line and 2 for what cannot be, 0 for what can."""

import json
import struct

import numpy as np
import pytest

from scoresde import EDM, prepare
from scoresde.cli import main

SMALL = """
data = {source = "digits"}
network = {name = "unet", channels = [8], blocks = 1, patch = 2, classes = 10}
prediction = {name = "edm"}
schedule = {steps = 1, batch_size = 2}
"""
MLP_TOML = """
data = {source = "vectors.npy"}
network = {name = "mlp"}
prediction = {name = "edm"}
schedule = {steps = 1, batch_size = 2}
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
    [*TRAIN, "schedule.steps=" + DIGITS],
    [*TRAIN, "schedule.steps=" + "[" * 5000],
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
    [*TRAIN, "schedule.lr=1e38", "schedule.steps=3"],
    [*TRAIN, "schedule.lr=1e400"],
    [*TRAIN, "schedule.weight_decay=1e300", "schedule.steps=3"],
    [*TRAIN, "schedule.clip=1e-300"],
    [*TRAIN, "schedule.batch_size=1000000000000000"],
    [*TRAIN, "schedule.warmup=" + "9" * 400],
    [*TRAIN, "sde={name='ddpm', steps=1000000000000}"],
    [*TRAIN, "sde={name='edm', t_max=1e308}"],
    [*TRAIN, "sde={name='vp', t_max=1e200}"],
    [*TRAIN, "sde={name='ve', t_max=1e9}"],
    [*TRAIN, "sde={name='ve', sigma_max=1e300}"],
    [*TRAIN, "sde={name='edm', t_min='a'}"],
    [*TRAIN, "prediction={name='edm', sigma_data=1e-300}"],
    [*TRAIN, "prediction={name='edm', sigma_data=1e300}"],
    [*TRAIN, "times={name='log-normal', mean=1e300}"],
    [*TRAIN, "times={name='log-normal', std=1e300}"],
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
    [*RUN, "--spacing", "listed:times=[]"],
    [*RUN, "--spacing", "listed:times=[1,NaN]"],
    [*RUN, "--spacing", "listed:times=" + DEEP[:50_000]],
    [*RUN, "--spacing", "listed-sigma:sigmas=[1e400,1]"],
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
]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "line", LINES, ids=lambda line: " ".join(line)[-60:].encode("unicode_escape").decode()
)
def test_a_hostile_command_line_is_answered_with_one_line(line, place, tmp_path, monkeypatch, capsys):
    for path in place.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    status = main([*line, *(["--quiet"] if line[:1] and line[0] in ("train", "sample", "tune") else [])])
    errors = capsys.readouterr().err
    assert status in (0, 2), errors
    assert "Traceback" not in errors
    assert errors.isprintable() or errors.replace("\n", "").isprintable()
    if status == 2:
        assert errors.count("\n") == 1 or "warning: " in errors
        assert len(errors) < 2000
