import pytest
import torch
from torch import nn

from dpsad.privacy.no_mixing import require_no_mixing


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (nn.BatchNorm1d(3), "mixes the examples of a batch; use GroupNorm, e.g. model = opacus.validators"),
        (nn.BatchNorm2d(3, affine=False), "mixes the examples of a batch"),
        (nn.BatchNorm2d(3, track_running_stats=False).eval(), "mixes the examples of a batch"),
        (nn.BatchNorm2d(3).requires_grad_(False), "mixes the examples of a batch"),
        (nn.BatchNorm2d(3).eval(), "is refused by Opacus: BatchNorm cannot support training"),
        (nn.SyncBatchNorm(3), "mixes the examples of a batch"),
        (nn.LazyBatchNorm2d(), "mixes the examples of a batch"),
        (nn.InstanceNorm2d(3, track_running_stats=True), "writes statistics of private records into the model"),
        (nn.Embedding(5, 2, max_norm=1.0), "rescales the rows that a batch looks up"),
    ],
)
def test_a_layer_that_mixes_examples_is_refused_by_name(layer, why):
    model = nn.Sequential(nn.Linear(3, 3), nn.ModuleDict({"inner": layer}))
    with pytest.raises(ValueError, match=rf"^layer '1\.inner' \({type(layer).__name__}\) {why}"):
        require_no_mixing(model)


@pytest.mark.parametrize(
    "layer",
    [
        nn.GroupNorm(1, 3),
        nn.InstanceNorm2d(3, affine=True),
        nn.BatchNorm2d(3).requires_grad_(False).eval(),
        nn.Embedding(5, 2),
        nn.GRU(3, 2),
        nn.LSTM(3, 2),
        nn.MultiheadAttention(4, 2),
    ],
)
def test_a_layer_that_works_example_by_example_passes(layer):
    require_no_mixing(nn.Sequential(nn.Linear(3, 3), layer))


def test_the_mend_that_is_named_mends():
    from opacus.validators import ModuleValidator

    model = ModuleValidator.fix(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)))
    require_no_mixing(model)
    assert isinstance(model[1], nn.GroupNorm)


def test_what_is_refused_does_mix():
    """The premise: another example changes the first one's output, or the model outlives the batch changed."""
    x, other = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    other[0] = x[0]
    for layer in (nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3).requires_grad_(False)):
        assert not torch.allclose(layer(x)[0], layer(other)[0])
    embedding = nn.Embedding(5, 2, max_norm=0.1)
    before = embedding.weight.clone()
    embedding(torch.tensor([1, 2]))
    assert not torch.equal(embedding.weight, before)
