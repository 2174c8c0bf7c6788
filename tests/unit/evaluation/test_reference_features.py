import pytest
import torch
from safetensors.torch import save_file

from dpsad.evaluation.features import load_reference, train_reference


@pytest.fixture(scope="module")
def reference(digits):
    return train_reference(*digits[0], num_classes=10, seed=0, epochs=15)


def test_features_tell_the_classes_apart(reference, digits):
    """The nearest class mean in feature space names at least nine of ten test digits."""
    (images, labels), (test_images, test_labels) = digits
    features = reference(images)
    means = torch.stack([features[labels == label].mean(dim=0) for label in range(10)])
    nearest = torch.cdist(reference(test_images), means).argmin(dim=1)
    assert (nearest == test_labels).double().mean() >= 0.9


def test_features_are_frozen_and_in_evaluation_mode(reference, digits):
    features = reference(digits[1][0])
    assert features.shape == (360, reference.num_features)
    assert not features.requires_grad
    assert torch.equal(features, reference(digits[1][0]))


def test_saved_features_are_the_same(reference, digits, tmp_path):
    reference.save(tmp_path / "reference.safetensors")
    loaded = load_reference(tmp_path / "reference.safetensors")
    assert loaded.fingerprint() == reference.fingerprint()
    assert loaded.image_shape == (1, 8, 8)
    torch.testing.assert_close(loaded(digits[1][0]), reference(digits[1][0]))


def test_fingerprint_sees_the_smallest_change(reference, tmp_path):
    reference.save(tmp_path / "reference.safetensors")
    changed = load_reference(tmp_path / "reference.safetensors")
    weight = next(changed.parameters())
    weight.view(-1)[0] = torch.nextafter(weight.view(-1)[0], torch.tensor(torch.inf))
    assert len(changed.fingerprint()) == 64
    assert changed.fingerprint() != reference.fingerprint()


def test_the_head_is_kept_and_names_test_digits(reference, digits, tmp_path):
    reference.save(tmp_path / "reference.safetensors")
    loaded = load_reference(tmp_path / "reference.safetensors")
    images, labels = digits[1]
    logits = loaded.classify(loaded(images))
    torch.testing.assert_close(logits, reference.network(images))
    assert (logits.argmax(dim=1) == labels).double().mean() >= 0.9


def test_a_file_without_a_head_is_refused(tmp_path):
    metadata = {"name": "reference-cnn", "image_shape": "[1, 8, 8]"}
    save_file({"trunk.weight": torch.zeros(1)}, tmp_path / "old.safetensors", metadata=metadata)
    with pytest.raises(ValueError, match="delete it"):
        load_reference(tmp_path / "old.safetensors")


def test_another_file_is_refused(tmp_path):
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no reference-cnn features"):
        load_reference(tmp_path / "other.safetensors")
