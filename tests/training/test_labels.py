"""Labels: those that fit the network, and their dropout."""

import math

import pytest
import torch
from training_runs import Labels, run

from scoresde.denoisers.network import Denoiser
from scoresde.denoisers.predictions import data, edm
from scoresde.processes.continuous import EDM
from scoresde.training import labels_of
from scoresde.training.labels import check_labels, in_proportion


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_stated_share_of_labels_is_dropped_and_the_others_are_those_of_the_samples(share):
    labels = torch.arange(64) % 3
    x = torch.stack([labels.float(), labels.float()], 1)
    net = Labels(3)

    def time_sampling(sde, u):  # no noise to speak of: the network is shown the sample itself
        return torch.full_like(u, sde.t_min), torch.ones_like(u)

    shown = []
    net.register_forward_pre_hook(lambda _, arguments: shown.append(arguments[0][:, 0]))
    run(
        net,
        EDM(1e-6, 1.0),
        data,
        x,
        labels,
        steps=100,
        batch_size=64,
        label_dropout=share,
        time_sampling=time_sampling,
    )
    seen, own = torch.cat(net.seen), torch.cat(shown).round().long()
    dropped = seen == 3
    # 6400 labels: 4 standard errors of the share.
    assert abs(dropped.double().mean().item() - share) <= 4 * math.sqrt(share * (1 - share) / 6400)
    assert torch.equal(seen[~dropped], own[~dropped])


@pytest.mark.parametrize(
    ("classes", "n", "labels", "named"),
    [
        (3, 0, None, "the data set is empty"),
        (3, 4, None, "the network has 3 classes, but the data have no labels"),
        (3, 4, torch.tensor([0, 2, 2, 0]), "no sample has the label 1, but the network has 3 classes"),
        (20, 4, torch.tensor([5, 7, 7, 5]), "the label 0, 1, 2, 3, 4, 6, 8, 9, 10, 11 and 8 more, but"),
        (3, 4, torch.zeros(4, dtype=torch.complex64), "labels must be 4 integers, .* of torch.complex64"),
        (3, 4, torch.zeros(3, dtype=torch.long), r"labels must be 4 integers, .*, got shape \(3,\)"),
        (3, 4, torch.zeros(4, 1, dtype=torch.long), r"labels must be 4 integers, .*, got shape \(4, 1\)"),
        (3, 4, torch.zeros(4), "labels must be 4 integers, .* of torch.float32"),
        (3, 4, torch.tensor([0, 1, 2, 3]), r"labels must be in \[0, 3\), got 0 to 3"),
        (3, 4, torch.tensor([-1, 1, 2, 0]), r"labels must be in \[0, 3\), got -1 to 2"),
        (0, 4, torch.zeros(4, dtype=torch.long), "labels were given, but the network has no classes"),
    ],
)
def test_data_and_labels_that_do_not_fit_are_refused(classes, n, labels, named):
    with pytest.raises(ValueError, match=named):
        check_labels(Denoiser(Labels(classes), EDM(), edm()), torch.zeros(n, 2), labels)
    with pytest.raises(ValueError, match=named):
        run(Labels(classes), EDM(), edm(), torch.zeros(n, 2), labels, steps=1)


def test_classes_without_a_sample_may_be_allowed():
    labels = torch.tensor([0, 2, 2, 0])
    check_labels(Denoiser(Labels(3), EDM(), edm()), torch.zeros(4, 2), labels, allow_missing=True)
    run(Labels(3), EDM(), edm(), torch.zeros(4, 2), labels, steps=1, allow_missing_classes=True)


def test_labels_of_says_which_classes_there_are_and_their_names():
    assert labels_of(None) is None
    assert labels_of(torch.tensor([3, 1, 3])) == ((1, 3), ())
    assert labels_of(torch.tensor([1, 0], dtype=torch.uint8), ["cat", "dog"]) == ((0, 1), ("cat", "dog"))


@pytest.mark.parametrize("counts", [(5,), (1, 0, 1), (9, 3), (100, 1, 50, 49), (7,) * 10])
def test_labels_in_proportion_have_the_shares_of_the_data_in_every_part(counts):
    """The golden ratio puts n places into an interval of length p within 3 of n p, for n up to 1,000."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    taken = in_proportion(labels, 1000)
    assert taken.dtype == torch.int64
    for label, count in enumerate(counts):
        share = count / len(labels)
        for first, last in ((0, 1000), (0, 32), (32, 64), (500, 700)):
            found = int((taken[first:last] == label).sum())
            assert abs(found - share * (last - first)) < 3, (label, first, last)
