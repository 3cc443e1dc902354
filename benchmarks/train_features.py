"""Train the network whose features measure samples of MNIST: ``python benchmarks/train_features.py``.

Also writes the moments of the features of the real images. The network and the moments that ship are from
``--data mnist.npz --out scoresde/pretrained/mnist``, in about four minutes on one core.
"""

import argparse
import hashlib
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import command
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from scoresde.data import load_data
from scoresde.files import write_tensors
from scoresde.metrics.frechet import feature_moments, frechet_distance
from scoresde.networks.classifier import Classifier
from scoresde.pretrained import FEATURES, REFERENCE

NAME = "mnist-cnn"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, write and print; bad input is one line on stderr and 2."""
    parser = command.parser_of(__file__, __doc__)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FILE", help=".npz with x_train, y_train, x_test, y_test"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help=f"folder for {FEATURES} and {REFERENCE}"
    )
    parser.add_argument("--epochs", type=int, default=5, metavar="N")
    parser.add_argument("--lr", type=float, default=5e-3, help="highest learning rate of AdamW, in one cycle")
    parser.add_argument("--shift", type=int, default=2, help="largest random shift of an image, in pixels")
    command.add_shared(parser, "batch-size", "seed", "quiet", batch_size=128)
    typed = shlex.join(["python", *(sys.argv if arguments is None else [sys.argv[0], *arguments])])
    return command.execute(parser, lambda options: run(options, typed), arguments)


def run(options: argparse.Namespace, typed: str) -> None:
    """Train the classifier, write it and the moments of its features, and print its accuracy.

    Args:
        options: of the command line.
        typed: the command line, which the files name.
    """
    command.at_least(1, options, "epochs", "batch_size")
    command.at_least(0, options, "shift")
    if not options.lr > 0:
        raise ValueError(f"--lr must be positive, got {options.lr}")
    for name in (FEATURES, REFERENCE):
        command.check_writable(options.out / name)
    splits = {split: labelled(options.data, split) for split in ("train", "test")}
    began = time.perf_counter()
    net, steps = train(*splits["train"], options)
    seconds = time.perf_counter() - began
    accuracy = measure_accuracy(net, *splits["test"])
    features = options.out / FEATURES
    write_tensors(
        features,
        net.state_dict(),
        name=NAME,
        data=f"MNIST ({options.data.name}), {len(splits['train'][0]):,} training images",
        steps=steps,
        seconds=round(seconds, 1),
        test_accuracy=accuracy,
        command=typed,
    )
    moments = {split: feature_moments(net.features, x) for split, (x, _) in splits.items()}
    distance = frechet_distance(moments["test"], moments["train"])
    write_tensors(
        options.out / REFERENCE,
        {name: value for split in moments for name, value in moments[split].tensors(f"{split}.").items()},
        data=f"MNIST ({options.data.name})",
        splits=list(moments),
        counts={split: found.count for split, found in moments.items()},
        features=NAME,
        features_sha256=hashlib.sha256(features.read_bytes()).hexdigest(),
        fd_test_to_train=distance,
        command=typed,
    )
    print(f"{steps} steps in {seconds:.0f} s")
    print(f"test accuracy {accuracy:.2%}")
    print(f"FD[{NAME}] of {moments['test'].count:,} test images to the training set {distance:.4f}")


def labelled(path: Path, split: str) -> tuple[Tensor, Tensor]:
    """uint8 images ``(N, 1, 28, 28)`` and labels ``(N,)``."""
    found = load_data(str(path), images=f"x_{split}", labels=f"y_{split}")
    assert found.labels is not None
    return found.x, found.labels


def train(x: Tensor, labels: Tensor, options: argparse.Namespace) -> tuple[Classifier, int]:
    """A classifier after ``epochs`` epochs of shifted images, in eval mode; and its number of steps."""
    torch.manual_seed(options.seed)
    net = Classifier()
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.02)
    steps = options.epochs * -(-len(x) // options.batch_size)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=steps)
    with tqdm(total=steps, desc="training", unit="step", disable=options.quiet) as bar:
        for _ in range(options.epochs):
            for chosen in torch.split(torch.randperm(len(x)), options.batch_size):
                loss = F.cross_entropy(net(shifted(x[chosen], options.shift)), labels[chosen])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                scheduler.step()
                bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
                bar.update()
    return net.eval(), steps


def shifted(x: Tensor, most: int) -> Tensor:
    """Each image shifted by up to ``most`` pixels in both directions, at random; empty pixels are 0."""
    height, width = x.shape[2:]
    windows = F.pad(x, [most] * 4).unfold(2, height, 1).unfold(3, width, 1)
    down, right = torch.randint(2 * most + 1, (2, len(x)))
    return windows[torch.arange(len(x)), :, down, right]


@torch.no_grad()
def measure_accuracy(net: nn.Module, x: Tensor, labels: Tensor) -> float:
    """Share of the images whose label has the largest logit."""
    right = [
        (net(images).argmax(1) == truth).sum()
        for images, truth in zip(torch.split(x, 500), torch.split(labels, 500), strict=True)
    ]
    return sum(map(int, right)) / len(x)


if __name__ == "__main__":
    sys.exit(main())
