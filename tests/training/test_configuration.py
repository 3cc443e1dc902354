"""Configurations: what is read of a file, and the command that answers a bad one with a line."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

from scoresde.cli.main import main
from scoresde.denoisers.predictions import PREDICTIONS
from scoresde.networks import MLP, NETWORKS
from scoresde.processes.catalogue import SDES
from scoresde.registry import build, nearest, parse
from scoresde.training import TIME_SAMPLINGS, WEIGHTINGS, TrainingOptions
from scoresde.training.configuration import (
    CONFIGURATIONS,
    Configuration,
    configuration_file,
    read_configuration,
    validate,
)

ROOT = Path(__file__).parents[2]

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
"""

NAMED = """
[sde]
name = "edm"

[time_sampling]
name = "log-normal"

[weighting]
name = "plain"
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "some.toml").write_text(GOOD + NAMED)
    return tmp_path / "some.toml"


# ------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_the_files_that_come_with_the_package_are_good(name):
    configuration = read_configuration(ROOT / "configs" / f"{name}.toml")
    denoiser = configuration.make_denoiser()
    x, t = torch.zeros(2, 1, 8, 8), torch.ones(2, dtype=torch.float64)
    assert denoiser(x, denoiser.sde.level(t), torch.tensor([0, 10])).shape == x.shape


def test_keys_that_are_left_out_have_the_defaults_of_the_code(path):
    explicit = read_configuration(path)
    path.write_text(GOOD)
    configuration = read_configuration(path)
    assert configuration == explicit
    assert configuration.optimization == TrainingOptions(steps=2, batch_size=4)
    assert configuration.seed == 0


def test_options_reach_what_they_name(path):
    more = [
        "sde.name=vp",
        "sde.beta_max=12.5",
        "time_sampling.std=2.5",
        "weighting.name=min-snr",
        "weighting.gamma=2",
    ]
    configuration = read_configuration(path, more)
    denoiser = configuration.make_denoiser()
    assert (denoiser.sde.beta_max, denoiser.sde.beta_min) == (12.5, 0.1)
    assert len(denoiser.net.down) == 1
    assert denoiser.net.classes == 10
    level = denoiser.sde.level(torch.tensor([1e-3], dtype=torch.float64))
    out = denoiser.prediction(level).out
    # SNR is far above gamma = 2 there.
    assert configuration.make_weighting()(denoiser, level).item() == pytest.approx(2 * out.item() ** 2)


def test_a_configuration_comes_back_from_its_own_json(path):
    configuration = read_configuration(path, ["optimization.lr=1e-4", 'network.embedding="fourier"'])
    content = json.loads(configuration.model_dump_json())
    assert validate(content, "json") == configuration
    # What is written in the headers of checkpoints.
    assert list(content) == [
        "data",
        "network",
        "prediction",
        "sde",
        "time_sampling",
        "weighting",
        "optimization",
        "seed",
    ]


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("optimization.steps=7", "optimization", "steps", 7),
        ("optimization.lr = 1e-2", "optimization", "lr", 0.01),
        ("optimization.lr=1", "optimization", "lr", 1.0),
        ("optimization.decay=linear", "optimization", "decay", "linear"),
        ('optimization.decay="linear"', "optimization", "decay", "linear"),
        ("data.source=some/path with spaces.npz", "data", "source", "some/path with spaces.npz"),
        ('data.source=C:\\data\\"x".npz', "data", "source", 'C:\\data\\"x".npz'),
        ("data.source=a=b", "data", "source", "a=b"),
        ("data.source=2024-01-02", "data", "source", "2024-01-02"),
    ],
)
def test_overrides_are_toml_or_words(path, override, section, key, value):
    assert getattr(getattr(read_configuration(path, [override]), section), key) == value


def test_later_overrides_win_and_leave_their_neighbours(path):
    configuration = read_configuration(
        path, ["optimization.steps=7", "optimization.steps=8", "network.channels=[16, 8]"]
    )
    assert (configuration.optimization.steps, configuration.optimization.batch_size) == (8, 4)
    assert configuration.network.spec == {"name": "unet", "channels": [16, 8], "blocks": 1, "classes": 10}


def test_the_first_weights_are_a_function_of_the_seed_alone(path):
    def weights(seed, state):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        denoiser = read_configuration(path, [f"seed={seed}", "network.embedding=fourier"]).make_denoiser()
        assert torch.equal(torch.get_rng_state(), before)
        return torch.cat([value.flatten() for value in denoiser.net.state_dict().values()])

    assert torch.equal(weights(0, 1), weights(0, 2))
    assert not torch.equal(weights(0, 1), weights(1, 1))


@pytest.mark.parametrize(
    ("kind", "registry"),
    [
        ("network", NETWORKS),
        ("SDE", SDES),
        ("prediction", PREDICTIONS),
        ("time sampling", TIME_SAMPLINGS),
        ("weighting", WEIGHTINGS),
    ],
)
def test_everything_has_a_name_and_works_without_options(kind, registry):
    for name in registry:
        assert build(kind, registry, name) is not None


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64 - 1, 2**64 + 3, 10**100, -(2**80)])
def test_a_seed_may_be_of_any_size(path, seed):
    configuration = read_configuration(path, [f"seed={seed}"])
    assert configuration.seed == seed
    weights = [next(configuration.make_denoiser().parameters()) for _ in range(2)]
    assert torch.equal(*weights)
    assert validate(json.loads(configuration.model_dump_json()), "json") == configuration


def test_a_configuration_s_seed_may_be_of_any_size():
    content = {"data": {"source": "digits"}, "network": {"name": "mlp"}, "prediction": {"name": "v"}}
    first = {
        seed: validate(content | {"seed": seed}, "test").make_denoiser().net.enter.bias.sum().item()
        for seed in (0, 1, -1, 2**70 + 2, -(2**70) - 3)
    }
    assert len(set(first.values())) == 5
    torch.manual_seed(1)
    assert first[1] == MLP().enter.bias.sum().item()


def test_a_byte_order_mark_of_utf_8_is_left_out(path):
    before = read_configuration(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_configuration(path) == before


def test_names_stand_for_the_files_that_ship(tmp_path, monkeypatch):
    assert list(CONFIGURATIONS) == ["digits", "mnist-fine", "mnist"]
    monkeypatch.chdir(tmp_path)
    Path("mnist").mkdir()  # the data, perhaps
    for name, path in CONFIGURATIONS.items():
        assert configuration_file(name) == path
        read_configuration(path)
    Path("digits").write_text("")
    assert configuration_file("digits") == Path("digits")
    assert configuration_file(str(tmp_path / "digits")) == tmp_path / "digits"


@pytest.mark.parametrize(
    ("name", "named"),
    [
        (
            "digit",
            "unknown configuration 'digit'; did you mean 'digits'\\? known: digits, mnist, mnist-fine$",
        ),
        ("digits.toml", "configuration digits.toml: no such file"),
        ("runs/digits", "configuration runs/digits: no such file"),
        ("a\0b", "unknown configuration"),
    ],
)
def test_a_configuration_that_is_nowhere_is_refused(name, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=named):
        configuration_file(name)


# ------------------------------------------------------------------------------------- what is refused

# An override, or a change of the file, and what the line must say.
BAD = {
    "unknown section": ("trainer.steps=1", r"unknown key trainer; .*known: data, network, .*"),
    "unknown top key": ("sed=1", r"unknown key sed; did you mean 'seed'\?"),
    "unknown key of data": (
        "data.sorce=1",
        r"unknown key data.sorce; .* known: crop, images, labels, max_bytes, .*, source, split, unreadable$",
    ),
    "unknown key of optimization": (
        "optimization.step=1",
        r"unknown key optimization.step; did you mean 'steps'\? known: allow_missing_classes, batch_size, "
        r"clip, decay, ema, label_dropout, lr, max_skipped, precision, steps, warmup, weight_decay$",
    ),
    "a key of a section above all": ("steps=5", "unknown key steps; steps belongs into \\[optimization\\]$"),
    "a key of another section": (
        "data.lr=5",
        "unknown key data.lr; lr belongs into \\[optimization\\]$",
    ),
    "a key that belongs above all": (
        "optimization.seed=5",
        "unknown key optimization.seed; seed belongs above all sections$",
    ),
    "an option of another section": (
        "optimization.channels=[8]",
        "unknown key optimization.channels; channels belongs into \\[network\\]$",
    ),
    "an option above all": ("t_max=5.0", "unknown key t_max; t_max belongs into \\[sde\\]$"),
    "an option of another name": (
        "sde.beta_max=5.0",
        "SDE 'edm' has no option 'beta_max'; .*known: t_max, t_min$",
    ),
    "an option of two sections": (
        "data.sigma_data=0.5",
        "unknown key data.sigma_data; sigma_data belongs into \\[prediction\\]$",
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


@bad_overrides
def test_a_bad_value_is_refused_by_file_and_key(path, override, named):
    with pytest.raises(ValueError, match=f"{re.escape(f'{path} with {override}')}: {named}"):
        read_configuration(path, [override])


def test_a_network_larger_than_memory_is_refused_before_it_is_made(path):
    path.write_text(GOOD.replace('"unet"\nchannels = [8]\nblocks = 1', '"mlp"\nwidth = 1000000000'))
    with pytest.raises(
        ValueError, match=r"some.toml: network: its weights take [\d,]+ GiB, and this machine"
    ):
        read_configuration(path)


@bad_files
def test_a_bad_file_is_refused_by_its_name(path, content, named):
    path.write_text(content)
    with pytest.raises(ValueError, match=named):
        read_configuration(path)


@bad_syntax
def test_an_override_of_another_syntax_is_refused(path, override):
    with pytest.raises(ValueError, match=r"an override is written section\.key=value, got "):
        read_configuration(path, [override])


def test_a_file_that_is_missing_or_no_text_is_refused_by_its_name(tmp_path):
    (tmp_path / "latin.toml").write_bytes(b'data.source = "\xe9"')
    (tmp_path / "wide.toml").write_text(GOOD, encoding="utf-16")
    for name in ("none.toml", "latin.toml", "wide.toml", "."):
        with pytest.raises(ValueError, match=f"configuration {tmp_path / name}: "):
            read_configuration(tmp_path / name)


def test_a_configuration_cannot_be_changed(path):
    configuration = read_configuration(path)
    with pytest.raises(ValueError, match="frozen"):
        configuration.seed = 3
    assert isinstance(configuration, Configuration)


# ------------------------------------------------------------------------------------- names and options


def test_the_nearest_name_is_offered_only_if_it_is_near():
    assert nearest("chanels", ["channels", "blocks"]) == "did you mean 'channels'? known: blocks, channels"
    assert nearest("zzz", ["channels", "blocks"]) == "known: blocks, channels"


WORDS = {"kind": "fast", "flag": True}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("dpm", ("dpm", {})),
        ("dpm:", ("dpm", {})),
        ("dpm:order=2,eta=0.5,kind=fast,flag=true", ("dpm", {"order": 2, "eta": 0.5} | WORDS)),
        ("a:b=c=d", ("a", {"b": "c=d"})),
    ],
)
def test_a_word_is_parsed_as_a_name_with_options(spec, expected):
    assert parse(spec) == expected


def test_options_without_a_value_are_refused():
    with pytest.raises(ValueError, match="options are written name:key=value,key=value; got 'dpm:order'"):
        parse("dpm:order")


# ------------------------------------------------------------------------------------- the command


@pytest.fixture
def command(path, tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder: its exit code, its lines on stderr, and what it has written."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def run(*arguments):
        code = main(["train", "--config", str(path), "--quiet", *arguments])
        return code, capsys.readouterr().err.splitlines(), sorted(map(str, Path().rglob("*")))

    return run


def refused(command, *arguments):
    """The one line of a command that fails, after looking at all else."""
    code, lines, written = command(*arguments)
    assert code == 2
    assert written == []
    (line,) = lines
    return line


@bad_overrides
def test_the_command_answers_a_bad_value_with_one_line(command, override, named):
    assert refused(command, override).startswith("scoresde: ")


@bad_files
def test_the_command_answers_a_bad_file_with_one_line(command, path, content, named):
    path.write_text(content)
    assert str(path) in refused(command)


@bad_syntax
def test_the_command_answers_a_bad_override_with_one_line(command, override):
    assert "an override is written section.key=value" in refused(command, override)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--save-every", "0"], "--save-every must be at least 1, got 0"),
        (["--save-every", "-5"], "--save-every must be at least 1, got -5"),
        (["--device", "tpu9"], "--device must be available here, such as cpu, got 'tpu9'"),
        (["--device", "meta"], "--device must be available here, such as cpu, got 'meta'"),
        (["--device", "cuda:99"], "--device must be available here, such as cpu, got 'cuda:99'"),
        (["data.source=none.npz"], "data source must be"),
        (["data.images=x"], "digits has no named arrays"),
        (["network.in_channels=3"], "x must be images (B, 3, H, W)"),
        (["network.patch=3"], "H and W divisible by 3, got shape (1, 1, 8, 8)"),
        (["network.classes=9"], "labels must be in [0, 9), got 0 to 9"),
        (["network.classes=0"], "labels were given, but the network has no classes"),
        (["time_sampling.mean=50.0"], "has less than 1e-9 of its mass in"),
        (["sde.name=rectified-flow", "time_sampling.name=importance"], "importance sampling needs alpha > 0"),
    ],
)
def test_the_command_answers_what_does_not_fit_with_one_line(command, arguments, named):
    assert named in refused(command, *arguments)


def test_the_command_answers_a_network_for_vectors_with_one_line(command, path):
    path.write_text(GOOD.replace('"unet"\nchannels = [8]\nblocks = 1', '"mlp"'))
    assert "x must be vectors (B, 2), got shape (1, 1, 8, 8)" in refused(command)


def test_the_command_answers_a_folder_that_it_cannot_write_with_one_line(command, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert str(tmp_path / "file") in refused(command, "--out", str(out))
    assert (tmp_path / "file").read_text() == ""


def test_the_command_writes_its_run_under_the_name_of_the_file(command):
    code, lines, written = command()
    assert (code, lines) == (0, [])
    files = ["configuration.json", "loss.jsonl", "model.safetensors", "training.safetensors"]
    assert written == ["runs", "runs/some", *(f"runs/some/{name}" for name in files)]
    assert [json.loads(line)["step"] for line in Path("runs/some/loss.jsonl").read_text().splitlines()] == [
        1,
        2,
    ]


def test_a_finished_run_that_goes_on_is_left_as_it_is(command):
    command()
    before = {path: path.read_bytes() for path in Path("runs/some").iterdir()}
    assert command("--resume")[0] == 0
    assert {path: path.read_bytes() for path in Path("runs/some").iterdir()} == before


def test_the_exit_code_of_the_program_is_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scoresde", "train", "--config", str(tmp_path / "none.toml")])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("scoresde.cli", run_name="__main__")
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith(f"scoresde: configuration {tmp_path / 'none.toml'}: ")
    assert out == ""
    assert list(tmp_path.iterdir()) == []
