"""Downstream accuracy: train on synthetic images only, test once on real ones."""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpsad.evaluation.choices import KINDS, PROTOCOLS, Kind
from dpsad.evaluation.result import DownstreamResult
from dpsad.networks.classifiers import Cnn, Logistic, Mlp
from dpsad.networks.residual_classifiers import resnet_110, resnext_29, wide_resnet_40_4
from dpsad.runtime.precision import autocast

BATCH_SIZE = 128
LEAST_BATCHES = 1000  # that a classifier takes, where nobody says how many epochs
CONVERGED = 100  # epochs of the logistic regression, whose loss is convex: more change nothing


@dataclass(frozen=True, kw_only=True)
class _Trained:
    network: nn.Module
    accuracy: float
    epoch: int


def build_classifier(kind: Kind, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Makes an untrained classifier of images; its initial weights come from torch's global generator.

    Args:
        kind: one of `KINDS`; the last three are DPImageBench's.
        image_shape: channels, height, width.
        num_classes: number of logits.

    Raises:
        ValueError: the kind is unknown, or the images are too small for it.
    """
    if kind == "logistic":
        return Logistic(image_shape, num_classes)
    if kind == "mlp":
        return Mlp(image_shape, num_classes)
    if kind == "cnn":
        return Cnn(image_shape, num_classes)
    if kind == "wrn-40-4":
        return wide_resnet_40_4(image_shape[0], num_classes)
    if kind == "resnext-29":
        return resnext_29(image_shape[0], num_classes)
    if kind == "resnet-110":
        return resnet_110(image_shape[0], num_classes)
    raise ValueError(f"unknown classifier {kind!r}; choose one of {', '.join(KINDS)}")


def train_classifier(
    kind: Kind,
    images: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    seed: int,
    epochs: int | None = None,
    learning_rate: float = PROTOCOLS["quick"].learning_rate,
    device: torch.device | str = "cpu",
    precision: str = "float32",
) -> nn.Module:
    """Trains a classifier and returns it as it was after its best epoch.

    A tenth of the images is held out, and the epoch is chosen on them: highest accuracy, then lowest loss. All take
    Adam steps on batches of 128 but the logistic regression, whose loss is convex: it takes five full-batch L-BFGS
    iterations an epoch under an L2 penalty of |weight|^2 / (2 num).

    Args:
        kind: one of `KINDS`.
        images: [num, chan, height, width] in [-1, 1], num >= 2.
        labels: [num] in [0, num_classes); a class may be absent.
        num_classes: number of logits.
        seed: fixes the split, the initial weights, the batches and dropout; torch's global generator is left as it was.
        epochs: passes over the images; None takes ten, or as many as give 1,000 batches if that is more.
        learning_rate: of Adam.
        device: where to train.
        precision: as of `autocast`, for steps on batches.

    Returns:
        Network in evaluation mode on `device`: images to logits [num, num_classes].

    Raises:
        ValueError: fewer than two images, a label outside the range, a kind that is unknown or needs larger images, or
            pixels or a loss that are NaN or infinite.
    """
    device = torch.device(device)
    return _train(kind, images, labels, num_classes, seed, epochs, learning_rate, device, precision).network


def epochs_of(num: int, *, least: int, batches: int = LEAST_BATCHES) -> int:
    """Passes over so many images that make up `batches` together, and no fewer than `least`."""
    return max(least, batches // math.ceil(num / BATCH_SIZE))


def downstream_accuracy(
    kind: Kind,
    synthetic_images: Tensor,
    synthetic_labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    *,
    num_classes: int,
    seed: int,
    epochs: int | None = None,
    learning_rate: float = PROTOCOLS["quick"].learning_rate,
    members: int = 1,
    device: torch.device | str = "cpu",
) -> DownstreamResult:
    """Measures on real test images a classifier that saw synthetic images only, or an ensemble of such.

    Each member reads the test set once, after its epoch was chosen on held-out synthetic images. The members, with
    seeds `seed`, `seed` + 1, ..., answer with the mean of their probabilities. Other arguments and errors are those of
    `train_classifier`; the test images have the shape and range of the synthetic ones.

    Source: Dockhorn et al. 2023 (DPDM), section 5; the seed and the epoch choice are ours to fix.
    """
    from torchmetrics.functional.classification import multiclass_calibration_error  # takes a second or more

    start = time.perf_counter()
    truth = test_labels.cpu()
    total = torch.zeros(len(truth), num_classes, dtype=torch.float64)
    trained, member_accuracies = [], []
    for member_seed in range(seed, seed + members):
        member = _train(
            kind,
            synthetic_images,
            synthetic_labels,
            num_classes,
            member_seed,
            epochs,
            learning_rate,
            torch.device(device),
            "float32",  # in bfloat16 the CNN took 0.65 times as long, and lost 0.002 in five of five pairs
        )
        answers = predict(member.network, test_images).double().softmax(dim=1)
        member_accuracies.append((answers.argmax(dim=1) == truth).double().mean().item())
        trained.append((member.accuracy, member.epoch))
        total += answers
    probabilities = total / members
    correct = (probabilities.argmax(dim=1) == truth).double()
    of_class = [correct[truth == label] for label in range(num_classes)]
    return DownstreamResult(
        accuracy=correct.mean().item(),
        per_class_accuracy=tuple(hits.mean().item() if len(hits) else None for hits in of_class),
        calibration_error=multiclass_calibration_error(probabilities, truth, num_classes).item(),
        member_accuracies=tuple(member_accuracies),
        synthetic_accuracy=sum(accuracy for accuracy, _ in trained) / members,
        epoch=trained[0][1],
        seconds=time.perf_counter() - start,
    )


@torch.no_grad()
def predict(network: nn.Module, images: Tensor) -> Tensor:
    """Runs a network over any number of images, a thousand at a time.

    Args:
        network: images to [num, outputs]; left in evaluation mode.
        images: [num, chan, height, width] on any device.

    Returns:
        [num, outputs] on the CPU.
    """
    network.eval()
    device = next(network.parameters()).device
    return torch.cat([network(_channels_last(batch.to(device))).cpu() for batch in images.split(1000)])


def _train(
    kind: Kind,
    images: Tensor,
    labels: Tensor,
    num_classes: int,
    seed: int,
    epochs: int | None,
    learning_rate: float,
    device: torch.device,
    precision: str,
) -> _Trained:
    num_held_out = math.ceil(len(images) / 10)
    if len(images) < 2:
        raise ValueError(f"{len(images)} images cannot be split into training and held-out images; pass at least 2")
    if not images.isfinite().all():
        raise ValueError(f"{len(images)} images to learn from have NaN or infinite pixels; check where they come from")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels {labels.min()} to {labels.max()} do not fit num_classes={num_classes}")
    if epochs is None:
        epochs = epochs_of(len(images) - num_held_out, least=10)

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        held_out, kept = torch.randperm(len(images)).tensor_split([num_held_out])
        network = build_classifier(kind, (images.shape[1], images.shape[2], images.shape[3]), num_classes)
        network = network.to(device).to(memory_format=torch.channels_last)
        x, y = _channels_last(images[kept].to(device)), labels[kept].to(device)
        full_batch = kind == "logistic"
        passes = (
            _full_batch_epochs(network, x, y)
            if full_batch
            else _minibatch_epochs(network, x, y, learning_rate, precision)
        )

        best, best_state, best_epoch = (-1.0, 0.0), network.state_dict(), 0
        for epoch, _ in enumerate(islice(passes, min(epochs, CONVERGED) if full_batch else epochs), start=1):
            score = _accuracy_and_negative_loss(network, images[held_out], labels[held_out])
            if score > best:
                best, best_state, best_epoch = score, copy.deepcopy(network.state_dict()), epoch
    network.load_state_dict(best_state)
    if not math.isfinite(best[1]):
        raise ValueError(f"classifier {kind} has a loss of {-best[1]} on held-out images; check the images")
    return _Trained(network=network.eval(), accuracy=best[0], epoch=best_epoch)


def _minibatch_epochs(
    network: nn.Module, images: Tensor, labels: Tensor, learning_rate: float, precision: str
) -> Iterator[None]:
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    while True:
        network.train()
        for batch in torch.randperm(len(images)).to(images.device).split(BATCH_SIZE):
            optimizer.zero_grad()
            with autocast(images.device, precision):
                logits = network(_channels_last(images[batch]))
            F.cross_entropy(logits.float(), labels[batch]).backward()
            optimizer.step()
        yield


def _full_batch_epochs(network: nn.Module, images: Tensor, labels: Tensor) -> Iterator[None]:
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=5, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        penalty = sum(weight.square().sum() for weight in network.parameters() if weight.dim() > 1)
        loss = F.cross_entropy(network(images), labels) + penalty / (2 * len(images))
        loss.backward()
        return loss

    while True:
        optimizer.step(closure)
        yield


def _accuracy_and_negative_loss(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    logits = predict(network, images)
    accuracy = (logits.argmax(dim=1) == labels.cpu()).double().mean()
    return accuracy.item(), -F.cross_entropy(logits, labels.cpu()).item()


def _channels_last(images: Tensor) -> Tensor:
    # On CPUs convolutions in channels-last order take about 0.8 times as long.
    return images.contiguous(memory_format=torch.channels_last)
