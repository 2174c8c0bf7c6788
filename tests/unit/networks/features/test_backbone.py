"""Features of public networks: those of torchvision's own code, from the files that people have."""

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch.nn import functional as F
from torchvision.transforms.functional import normalize, resize

from dpsad.networks.features.backbone import Backbone, load_backbone
from dpsad.privacy.provenance import UNNOTED


@pytest.fixture
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torchvision.models.resnet18(weights=None)
    with torch.no_grad():  # statistics of batches that are told from those of a new network
        for part in network.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.fill_(0.1)
                part.running_var.fill_(2.0)
    return network.eval()


@pytest.mark.parametrize(("suffix", "save"), [("pth", lambda w, p: torch.save(w, p)), ("safetensors", save_file)])
@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_what_torchvision_hands_to_the_last_layer(tmp_path, rng, network, suffix, save, channels):
    path = tmp_path / f"resnet18.{suffix}"
    save({key: value.clone() for key, value in network.state_dict().items()}, path)
    backbone = load_backbone((channels, 16, 32), "resnet18", path)
    images = torch.rand(3, channels, 16, 32, generator=rng) * 2 - 1
    seen = resize(images.expand(-1, 3, -1, -1) / 2 + 0.5, [64, 128], antialias=True)
    handed = []
    network.fc.register_forward_hook(lambda part, given, result: handed.append(given[0]))
    with torch.no_grad():
        network(normalize(seen, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        features = backbone(images)
    assert features.shape == (3, backbone.dim) == (3, 512)
    torch.testing.assert_close(features, F.normalize(handed[0]), atol=1e-5, rtol=1e-4)
    assert backbone.public_images == (UNNOTED,)


def test_files_of_something_else_are_refused(tmp_path, network):
    with pytest.raises(ValueError, match=r"guide\.weights=.*none\.pth is no file; pass weights of resnet18"):
        load_backbone((1, 28, 28), "resnet18", tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("no weights")
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    for name, path in (("resnet18", "text.pth"), ("resnet50", "resnet18.pth")):
        with pytest.raises(ValueError, match=rf"guide\.weights=.*{path} holds no weights of {name}: "):
            load_backbone((3, 28, 28), name, tmp_path / path)
    with pytest.raises(ValueError, match="reads grey or colour images, not images of 2 channels"):
        Backbone((2, 28, 28), "resnet18")
