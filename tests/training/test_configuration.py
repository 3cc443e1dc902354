"""Configurations: what a file says, and what is refused in it."""

import json
import re
from pathlib import Path

import pytest
import torch
from configurations import GOOD, NAMED, bad_files, bad_overrides, bad_syntax

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
        "levels",
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


def test_the_schedule_of_an_sde_is_not_the_section_of_earlier_versions(path):
    ddpm = "sde={name='ddpm', schedule='cosine'}"
    assert read_configuration(path, [ddpm]).make_denoiser().sde.schedule == "cosine"
    with pytest.raises(ValueError, match=r"unknown key schedule; did you mean 'optimization'\?"):
        read_configuration(path, [ddpm, "schedule.steps=3"])
    with pytest.raises(ValueError, match=r"unknown key schedule; schedule belongs in \[sde\]"):
        read_configuration(path, [ddpm, "schedule=linear"])


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
