"""Files of tensors: refused where a bit of them has changed, and what they can hold."""

import json
import random

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_run import SHAPE, configured, trained
from torch import nn

from scoresde.files import check_writable, hash_of, read_tensors, write_tensors
from scoresde.pretrained import FEATURES, FOLDERS, REFERENCE
from scoresde.training.checkpoint import MODEL, TRAINING, load_denoiser, load_training, save_training

# ------------------------------------------------------------------------------------- damaged files


def byte(content, numbers):
    content[numbers.randrange(len(content))] ^= numbers.randrange(1, 256)


def block(content, numbers):
    begin = numbers.randrange(len(content))
    content[begin : begin + 512] = bytes(len(content[begin : begin + 512]))


def cut(content, numbers):
    del content[numbers.randrange(len(content)) :]


DAMAGES = {"a byte": byte, "a block of zeros": block, "a cut": cut}


def damage(path, how, seed):
    """Change a file at random, and really; returns what it was."""
    before, numbers = path.read_bytes(), random.Random(seed)
    content = bytearray(before)
    while content == before:
        DAMAGES[how](content, numbers)
    path.write_bytes(bytes(content))
    return before


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder after a step of training."""
    folder = tmp_path_factory.mktemp("run")
    save_training(folder, configured(), trained(configured(), 1)[0], SHAPE)
    return folder


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", [MODEL, TRAINING])
def test_a_file_that_was_damaged_at_random_is_refused_by_name(run, name, how):
    path = run / name
    for seed in range(8):
        before = damage(path, how, seed)
        try:
            with pytest.raises(ValueError, match=f"checkpoint {path} ") as caught:
                load_denoiser(run) if name == MODEL else load_training(run, configured())
            assert "\n" not in str(caught.value)
        finally:
            path.write_bytes(before)
    load_denoiser(run) if name == MODEL else load_training(run, configured())


@pytest.mark.parametrize("part", ["values", "names", "header", "hash", "format"])
def test_a_file_whose_content_changed_is_refused_by_its_hash(tmp_path, part):
    """Files that are whole, as another program would write them."""
    path, tensors, header = tmp_path / "file", {"a": torch.ones(2), "b": torch.zeros(2)}, {"step": 1}
    write_tensors(path, tensors, **header)
    with safe_open(path, "pt") as file:
        texts = dict(file.metadata())
    if part == "values":
        tensors["a"][0] = torch.nextafter(tensors["a"][0], torch.tensor(2.0))
    elif part == "names":
        tensors["a"], tensors["b"] = tensors["b"], tensors["a"]
    elif part == "header":
        texts["step"] = "2"
    else:
        texts[part[:-1]] = texts.pop(part)  # as a damaged byte would leave the key
    save_file(tensors, path, texts)
    with pytest.raises(ValueError, match="was changed after it was written: its hash is wrong"):
        read_tensors(path)


@pytest.mark.parametrize("key", ["hash", "format"])
def test_a_header_must_not_set_what_describes_the_file_itself(tmp_path, key):
    with pytest.raises(ValueError, match=f"header must not have the keys format and hash, got {key}"):
        write_tensors(tmp_path / "file", {"a": torch.ones(2)}, **{key: 1})
    assert list(tmp_path.iterdir()) == []


def test_the_hash_sees_names_types_shapes_and_bits():
    x = torch.arange(4.0)
    others = [
        {"y": x},
        {"x": x.double()},
        {"x": x.view(torch.int32)},
        {"x": x.reshape(2, 2)},
        {"x": -x * 0},
        {"x": x * 0},
        {"x": x, "y": x},
        {"x": torch.tensor(0.0)},
        {"x": torch.zeros(0)},
        {},
    ]
    assert len({hash_of(tensors) for tensors in ({"x": x}, *others)}) == 11
    assert hash_of({"x": x.reshape(2, 2).T}) == hash_of({"x": x.reshape(2, 2).T.contiguous()})
    assert hash_of({"x": x, "y": x}) == hash_of({"y": x, "x": x})
    assert hash_of({"x": x}) == "087ccf2f649f74d571dc71bc7d743b03e5a3d9c8f548792563a3b74122906596"


STRANGE = {
    "an unknown type": ({"dtype": "XX", "shape": [8]}, "1"),
    "a type of half a byte": ({"dtype": "F4", "shape": [16]}, "1"),
    "a shape beyond": ({"dtype": "F32", "shape": [2**62, 2**62]}, "1"),
    "a shape of no numbers": ({"dtype": "F32", "shape": [0, 2**63], "data_offsets": [0, 0]}, "1"),
    "a deep header": ({"dtype": "F32", "shape": [2]}, "[" * 100_000),
    "a long number": ({"dtype": "F32", "shape": [2]}, "1" * 5_000),
}


@pytest.mark.parametrize(("tensor", "text"), STRANGE.values(), ids=STRANGE.keys())
def test_a_strange_header_is_refused_by_the_name_of_the_file(tmp_path, tensor, text):
    tensor = {"data_offsets": [0, 8]} | tensor
    header = json.dumps({"x": tensor, "__metadata__": {"step": text}}).encode()
    content = bytes(tensor["data_offsets"][1])
    (tmp_path / "file").write_bytes(len(header).to_bytes(8, "little") + header + content)
    with pytest.raises(ValueError, match="file is not a whole safetensors file of scoresde: "):
        read_tensors(tmp_path / "file")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused_in_files_without_a_hash(tmp_path, number):
    save_file({"good": torch.ones(2), "bad": torch.tensor([1.0, number])}, tmp_path / "file", {"step": "1"})
    with pytest.raises(ValueError, match="file is damaged: bad not finite"):
        read_tensors(tmp_path / "file")


@pytest.mark.parametrize("name", [MODEL, FEATURES, REFERENCE])
def test_what_ships_with_and_without_a_hash_loads_with_its_bits(name):
    path = FOLDERS["mnist"] / name
    expected = load_file(path)
    tensors, header = read_tensors(path)
    with safe_open(path, "pt") as file:
        keys = file.metadata().keys()
    # The classifier and its statistics are files of format 1, which has no hash.
    assert keys == header.keys() | ({"hash", "format"} if name == MODEL else set())
    assert hash_of(tensors) == hash_of(expected)
    if name == MODEL:
        trained = load_denoiser(path)
        assert trained.labels is None
        assert hash_of(trained.denoiser.net.state_dict()) == hash_of(expected)


# ------------------------------------------------------------------------------------- what can be written


class Net(nn.Module):
    """Two layers of one weight, and a buffer."""

    def __init__(self, buffer=None):
        super().__init__()
        self.one, self.two = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.two.weight = self.one.weight
        self.register_buffer("mask", torch.zeros(2) if buffer is None else buffer)


class Extra(Net):
    def get_extra_state(self):
        return {"count": 3}

    def set_extra_state(self, state):
        pass


FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2]
TYPES = [torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.bool, torch.int64, *FLOAT8]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_all_types_come_back_to_the_bit(tmp_path, dtype):
    net = Net(torch.tensor([0.0, 1.0]).to(dtype))
    check_writable(net.state_dict())
    write_tensors(tmp_path / "file", net.state_dict())
    tensors, _ = read_tensors(tmp_path / "file")
    assert hash_of(tensors) == hash_of(net.state_dict())
    assert tensors["mask"].dtype == dtype
    again = Net(torch.zeros(2).to(dtype))
    again.load_state_dict(tensors)
    assert again.one.weight is again.two.weight
    assert hash_of(again.state_dict()) == hash_of(net.state_dict())


def test_tensors_that_overlap_are_written_each():
    """Tied weights are, and views of one memory."""
    whole = torch.arange(6.0)
    check_writable({"whole": whole, "part": whole[2:], "odd": whole[1::2]})


@pytest.mark.parametrize(
    ("net", "named"),
    [
        (Net(torch.tensor([0.0, -torch.inf])), "mask holds numbers that are not finite.*persistent=False"),
        (Net(torch.tensor([torch.nan, 0.0])), "mask holds numbers that are not finite"),
        (Net(torch.tensor([torch.nan, 0.0]).to(FLOAT8[0])), "mask holds numbers that are not finite"),
        (
            Net(torch.zeros(2, dtype=torch.complex128)),
            "mask has the type torch.complex128, which a checkpoint",
        ),
        (Net(torch.zeros(2, device="meta")), "mask must be a dense tensor with numbers"),
        (Net(torch.eye(2).to_sparse()), "mask must be a dense tensor with numbers"),
        (Extra(), "_extra_state must be a tensor for a checkpoint to hold it, got dict"),
    ],
    ids=["infinite", "nan", "nan of float8", "complex128", "meta", "sparse", "extra state"],
)
def test_a_value_that_cannot_be_written_is_named(net, named):
    with pytest.raises(ValueError, match=f"^{named}"):
        check_writable(net.state_dict())
