import math
from itertools import product

import pytest
import torch
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression
from torch import nn

from dpsad.evaluation import downstream
from dpsad.evaluation.choices import DEFAULT_KINDS, KINDS, PROTOCOLS
from dpsad.evaluation.downstream import build_classifier, downstream_accuracy, epochs_of, predict, train_classifier


@pytest.mark.parametrize(("kind", "epochs", "least"), [("logistic", None, 0.94), ("mlp", 60, 0.94), ("cnn", 20, 0.93)])
def test_real_digits_are_learned(digits, kind, epochs, least):
    result = downstream_accuracy(kind, *digits[0], *digits[1], num_classes=10, seed=0, epochs=epochs)
    assert result.accuracy >= least
    assert abs(result.accuracy - result.synthetic_accuracy) < 0.06


def test_logistic_regression_is_scikit_learns(digits):
    """Same optimum of the same penalised likelihood, pixels in [0, 1]."""
    images, labels = digits[0][0][:500], digits[0][1][:500]
    network = build_classifier("logistic", (1, 8, 8), 10)
    passes = downstream._full_batch_epochs(network, images, labels)
    for _ in range(100):
        next(passes)
    pixels = ((images + 1) / 2).flatten(1).numpy()
    expected = LogisticRegression(C=1.0, max_iter=1000, tol=1e-6).fit(pixels, labels.numpy()).predict_proba(pixels)
    torch.testing.assert_close(
        predict(network, images).softmax(dim=1), torch.tensor(expected, dtype=torch.float32), atol=5e-3, rtol=0
    )


def test_shuffled_labels_give_chance(digits):
    """Test labels uniform and independent of everything: hits are Binomial(360, 0.1); false alarm below 1e-6."""
    rng = torch.Generator().manual_seed(1)
    images, labels = digits[0]
    shuffled = labels[torch.randperm(len(labels), generator=rng)]
    uniform = torch.randint(10, (360,), generator=rng)
    result = downstream_accuracy("mlp", images, shuffled, digits[1][0], uniform, num_classes=10, seed=0, epochs=20)
    low, high = binom.ppf([5e-7, 1 - 5e-7], 360, 0.1)
    assert low <= round(result.accuracy * 360) <= high


def test_held_out_images_are_not_trained_on():
    """Noise that can be memorised, with uniform labels: held-out hits are Binomial(40, 0.1) in each of ten epochs.

    False alarm below 1e-6 by the union over epochs; a trained-on part would be right nearly always.
    """
    rng = torch.Generator().manual_seed(2)
    images = torch.rand(400, 1, 24, 24, generator=rng) * 2 - 1
    labels = torch.randint(10, (400,), generator=rng)
    result = downstream_accuracy("logistic", images, labels, images, labels, num_classes=10, seed=0, epochs=10)
    assert round(result.synthetic_accuracy * 40) <= binom.ppf(1 - 1e-7, 40, 0.1)


def test_epoch_is_chosen_without_the_test_set(digits):
    train, (images, labels) = digits
    broken = torch.full_like(images, -1), (labels + 1) % 10
    runs = [downstream_accuracy("mlp", *train, *test, num_classes=10, seed=3, epochs=8) for test in (digits[1], broken)]
    assert runs[0].epoch == runs[1].epoch
    assert runs[0].synthetic_accuracy == runs[1].synthetic_accuracy
    assert runs[0].accuracy > runs[1].accuracy


def test_test_set_is_read_once(digits, monkeypatch):
    test_images = digits[1][0]
    seen = []
    original = downstream.predict

    def spy(network, images):
        seen.append(images.shape == test_images.shape and torch.equal(images, test_images))
        return original(network, images)

    monkeypatch.setattr(downstream, "predict", spy)
    downstream_accuracy("mlp", *digits[0], *digits[1], num_classes=10, seed=0, epochs=3)
    assert seen == [False, False, False, True]


def test_a_lower_learning_rate_moves_weights_less(digits):
    networks = [
        train_classifier("mlp", *digits[0], num_classes=10, seed=0, epochs=1, learning_rate=rate)
        for rate in (1e-8, 3e-4, 1e-3)
    ]
    first, *moved = (torch.cat([weight.flatten() for weight in network.parameters()]) for network in networks)
    near, far = ((weights - first).norm().item() for weights in moved)
    assert 0 < near < 0.6 * far


def test_best_epoch_is_returned_not_the_last(digits, monkeypatch):
    third = train_classifier_at_scores(monkeypatch, digits, [(0.5, -1.0), (0.9, -0.5), (0.9, -0.4), (0.7, -0.1)])
    last = train_classifier_at_scores(monkeypatch, digits, [(0.1, -1.0), (0.2, -1.0), (0.3, -1.0)])
    assert_same_weights(third, last)


def train_classifier_at_scores(monkeypatch, digits, scores):
    script = iter(scores)
    monkeypatch.setattr(downstream, "_accuracy_and_negative_loss", lambda *_: next(script))
    return train_classifier("mlp", *digits[0], num_classes=10, seed=0, epochs=len(scores))


def assert_same_weights(network, other):
    for weight, expected in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(weight, expected)


@pytest.mark.parametrize("kind", DEFAULT_KINDS)
def test_seed_fixes_the_weights_and_leaves_the_global_generator(digits, kind):
    before = torch.get_rng_state()
    images, labels = digits[0][0][:300], digits[0][1][:300]
    first = train_classifier(kind, images, labels, num_classes=10, seed=5, epochs=2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    second = train_classifier(kind, images, labels, num_classes=10, seed=5, epochs=2)
    other = train_classifier(kind, images, labels, num_classes=10, seed=6, epochs=2)
    assert_same_weights(first, second)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_precision_is_that_of_the_steps(digits):
    images, labels = digits[0][0][:300], digits[0][1][:300]
    exact, rounded = (
        train_classifier("cnn", images, labels, num_classes=10, seed=5, epochs=1, precision=precision).trunk.layers[0]
        for precision in ("float32", "bfloat16")
    )
    assert rounded.weight.dtype == torch.float32
    assert not torch.equal(exact.weight, rounded.weight)


def test_predictions_are_without_dropout_and_in_order(digits):
    images = digits[0][0]
    network = build_classifier("cnn", (1, 8, 8), 10).train()
    logits = predict(network, images)
    torch.testing.assert_close(logits[1000:], predict(network, images[1000:]))
    assert not network.training


@pytest.mark.parametrize("kind", DEFAULT_KINDS)
def test_absent_classes_do_no_harm(digits, kind):
    (images, labels), (test_images, test_labels) = digits
    known, asked = labels != 9, test_labels != 4
    result = downstream_accuracy(
        kind, images[known], labels[known], test_images[asked], test_labels[asked], num_classes=10, seed=0, epochs=4
    )
    assert result.per_class_accuracy[9] == 0
    assert result.per_class_accuracy[4] is None
    assert len(result.per_class_accuracy) == 10


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        *product(DEFAULT_KINDS, [(1, 8, 8), (3, 8, 21), (1, 17, 17), (3, 18, 18), (1, 28, 28), (3, 32, 32)]),
        *product(KINDS[3:], [(1, 8, 8), (3, 9, 21)]),
    ],
)
def test_networks_take_any_shape_and_have_no_batch_norm(kind, shape):
    network = build_classifier(kind, shape, 7)
    assert network(torch.zeros(2, *shape)).shape == (2, 7)
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def test_cnn_has_the_size_of_the_source():
    convolutions = (32 * 9 + 32) + (64 * 32 * 9 + 64) + (128 * 64 * 9 + 128)
    dense = (128 * 1152 + 128) + (10 * 128 + 10)
    assert (
        sum(weight.numel() for weight in build_classifier("cnn", (1, 28, 28), 10).parameters()) == convolutions + dense
    )


@pytest.mark.parametrize(("kind", "millions"), [("wrn-40-4", 8.9), ("resnext-29", 34.4), ("resnet-110", 1.7)])
def test_residual_networks_have_the_size_that_their_papers_give(kind, millions):
    """Zagoruyko & Komodakis 2016, Table 5; Xie et al. 2017, Table 7; He et al. 2016, Table 6 (CIFAR-10)."""
    with torch.device("meta"):
        network = build_classifier(kind, (3, 32, 32), 10)
    assert round(sum(weight.numel() for weight in network.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize(("kind", "convolutions"), [("wrn-40-4", 37), ("resnext-29", 28), ("resnet-110", 109)])
def test_residual_networks_have_their_depth_and_keep_a_quarter_of_the_side(kind, convolutions):
    """Depth counts the linear head and, in WRN-40, its three projections; other projections are not counted."""
    network = build_classifier(kind, (1, 8, 8), 10)
    sizes = [module.kernel_size[0] for module in network[1].modules() if isinstance(module, nn.Conv2d)]
    projections = 0 if kind == "resnet-110" else 3
    assert 1 + len(sizes) - projections == convolutions
    assert network[:2](torch.zeros(2, 1, 8, 8)).shape[2:] == (2, 2)


def test_residual_networks_learn(digits):
    """The cheapest of the three: the loss on one batch of 64 falls below that of chance in a few steps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_classifier("resnet-110", (1, 8, 8), 10)
        epochs = downstream._minibatch_epochs(network, digits[0][0][:64], digits[0][1][:64], 1e-3, "float32")
        for _ in range(14):
            next(epochs)
    loss = nn.functional.cross_entropy(predict(network, digits[0][0][:64]), digits[0][1][:64])
    assert loss < math.log(10) - 0.3


def test_an_ensemble_is_the_mean_of_its_members_probabilities(digits):
    train, (images, labels) = digits
    result = downstream_accuracy("mlp", *train, images, labels, num_classes=10, seed=5, epochs=3, members=3)
    networks = [train_classifier("mlp", *train, num_classes=10, seed=seed, epochs=3) for seed in (5, 6, 7)]
    each = torch.stack([network(images).softmax(dim=1) for network in networks])
    hits = each.mean(dim=0).argmax(dim=1) == labels
    assert result.accuracy == pytest.approx(hits.double().mean().item())
    assert result.member_accuracies == pytest.approx((each.argmax(dim=2) == labels).double().mean(dim=1).tolist())
    assert len(set(result.member_accuracies)) > 1
    alone = downstream_accuracy("mlp", *train, images, labels, num_classes=10, seed=6, epochs=3)
    assert alone.member_accuracies == (alone.accuracy,) == result.member_accuracies[1:2]


def slow_calibration_error(probabilities, labels):
    """Guo et al. 2017, equation 3, image by image."""
    bins = [[] for _ in range(15)]
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        confidence = max(row)
        bins[min(14, int(confidence * 15))].append((confidence, row.index(confidence) == label))
    gaps = [abs(sum(hit for _, hit in held) - sum(confidence for confidence, _ in held)) for held in bins if held]
    return sum(gaps) / len(labels)


def test_calibration_error_is_that_of_the_source(digits):
    train, (images, labels) = digits
    result = downstream_accuracy("mlp", *train, images, labels, num_classes=10, seed=0, epochs=20, members=2)
    networks = [train_classifier("mlp", *train, num_classes=10, seed=seed, epochs=20) for seed in (0, 1)]
    each = torch.stack([network(images).double().softmax(dim=1) for network in networks])
    assert result.calibration_error == pytest.approx(slow_calibration_error(each.mean(dim=0), labels), abs=1e-4)


@pytest.mark.parametrize(("scale", "expected"), [(1e4, 0.5), (0.0, 0.4)])
def test_calibration_of_the_certain_and_of_the_undecided(monkeypatch, scale, expected):
    """Right half of the time: certainty is wrong by a half; 1/10 for each class is 0.4 below."""
    labels = torch.arange(10).repeat(4)
    said = torch.where(torch.arange(40) % 4 < 2, labels, (labels + 1) % 10)
    logits = scale * torch.eye(10)[said] + 1e-6 * torch.eye(10)[said]
    monkeypatch.setattr(downstream, "predict", lambda network, images: logits[: len(images)])
    images = torch.zeros(40, 1, 8, 8)
    result = downstream_accuracy("mlp", images, labels, images, labels, num_classes=10, seed=0, epochs=1, members=3)
    assert result.accuracy == 0.5
    assert result.calibration_error == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("kind", "shape", "labels", "message"),
    [
        ("svm", (4, 1, 8, 8), [0, 1, 0, 1], "unknown classifier 'svm'"),
        ("cnn", (4, 1, 7, 8), [0, 1, 0, 1], "7x8 pixels are too small"),
        ("mlp", (4, 1, 8, 8), [0, 1, 2, 1], "labels 0 to 2 do not fit num_classes=2"),
        ("mlp", (4, 1, 8, 8), [0, -1, 1, 1], "labels -1 to 1"),
        ("mlp", (1, 1, 8, 8), [0], "at least 2"),
    ],
)
def test_what_cannot_be_trained_is_refused(kind, shape, labels, message):
    with pytest.raises(ValueError, match=message):
        train_classifier(kind, torch.zeros(shape), torch.tensor(labels), num_classes=2, seed=0)


@pytest.mark.parametrize(("num", "epochs"), [(1, 1000), (134, 500), (1293, 90), (18_000, 10), (10**6, 10)])
def test_few_images_are_seen_in_a_thousand_batches(num, epochs):
    assert epochs_of(num, least=10) == epochs
    assert epochs * math.ceil(num / 128) <= max(1000, 10 * math.ceil(num / 128))


def test_samples_are_in_proportion_to_few_records_and_as_published_otherwise():
    quick, dpdm = PROTOCOLS["quick"], PROTOCOLS["dpdm"]
    assert [quick.num_for(num) for num in (10, 149, 999, 1437, 60_000)] == [2000, 2980, 19_980, 20_000, 20_000]
    assert dpdm.num_for(149) == 60_000
