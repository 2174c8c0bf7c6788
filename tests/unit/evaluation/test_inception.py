"""The loading code of the FID weights, on weights of the same shape that the tests make."""

import hashlib
import pickle
import sys

import pytest
import torch

from dpsad.evaluation import inception
from dpsad.evaluation.inception import FILE_NAMES, InceptionFeatures, cached_weights

port = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="pip install 'dpsad[inception]'")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of random weights of the true shape, at half precision to keep it small."""
    folder = tmp_path_factory.mktemp("inception")
    torch.save({}, folder / "empty.pth")
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        patch.setattr(port.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = port.FeatureExtractorInceptionV3("test", ["2048"], str(folder / "empty.pth"))
        for weight in network.parameters():
            if weight.dim() == 4:
                torch.nn.init.kaiming_normal_(weight)  # so that images still differ in the last layer
    path = folder / FILE_NAMES[0]
    torch.save({name: tensor.half() for name, tensor in network.state_dict().items()}, path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def space(weights):
    return InceptionFeatures(weights)


def test_features_and_logits_are_those_of_the_port(space, weights, monkeypatch):
    monkeypatch.setattr(inception, "BATCH_SIZE", 2)
    grey = torch.randint(256, (3, 1, 9, 9), generator=torch.Generator().manual_seed(0))
    features = space((grey / 127.5 - 1).float())
    network = port.FeatureExtractorInceptionV3("test", ["2048", "logits_unbiased"], str(weights))
    expected, logits = network(grey.to(torch.uint8).repeat(1, 3, 1, 1))
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(space.classify(features), logits)
    assert features.shape == (3, space.num_features)
    assert features.std(dim=0).max() > 1e-3, "different images, different features"
    assert not any(weight.requires_grad for weight in space.parameters())


def test_other_weights_are_named_by_their_hash_and_only_the_standard_ones_are_fid(space, weights, monkeypatch):
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert space.fingerprint() == digest
    assert space.name == f"inception-v3-{digest[:8]}"
    assert "other weights" in space.source
    monkeypatch.setattr(inception, "STANDARD_SHA256", digest)
    assert InceptionFeatures(weights).name == "inception-v3-fid"
    assert all(name.split("-")[-1].removesuffix(".pth") == "6726825d" for name in FILE_NAMES)


def test_the_standard_hash_is_that_in_the_file_names():
    assert inception.STANDARD_SHA256.startswith(FILE_NAMES[0].removesuffix(".pth").split("-")[-1])


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the file was run as code",))


@pytest.mark.parametrize(
    "content",
    [b"", b"no weights", pickle.dumps(Bomb(), protocol=2), "tensors"],
    ids=["empty", "text", "code", "tensors"],
)
def test_another_file_is_refused_and_never_run(tmp_path, content):
    path = tmp_path / "weights.pth"
    if content == "tensors":
        torch.save({"fc.weight": torch.zeros(1000, 2048)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"weights.pth holds no weights of the FID Inception network"):
        InceptionFeatures(path)


def test_a_missing_library_says_how_to_install_it(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(ValueError, match=r"pip install 'dpsad\[inception\]'"):
        InceptionFeatures(weights)


def test_missing_weights_say_where_and_what_to_fetch(tmp_path):
    with pytest.raises(ValueError, match=r"no Inception weights at .*nowhere.pth; fetch pt_inception"):
        InceptionFeatures(tmp_path / "nowhere.pth")


@pytest.mark.parametrize("name", FILE_NAMES)
def test_the_cache_is_torchs(tmp_path, monkeypatch, name):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert cached_weights() is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / name).touch()
    assert cached_weights() == tmp_path / "checkpoints" / name
