import pytest
import torch
from torch import nn

from students.generator import Generator, GeneratorConfig, generator_student
from students.sampling import to_bytes
from students.seeds import image_seeds

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 9, 14)]


@pytest.fixture
def make_generator():
    def make(image_shape=(1, 8, 8)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Generator(GeneratorConfig(channels=4, hidden=16), image_shape=image_shape, num_classes=3)

    return make


@pytest.mark.parametrize("shape", SHAPES)
def test_images_have_the_asked_shape_and_range_and_depend_on_noise_and_label(make_generator, rng, shape):
    network, noise = make_generator(shape), 3 * torch.randn(2, 8, generator=rng)
    images = network(noise[[0, 1, 0]], torch.tensor([0, 0, 1]))
    assert images.shape == (3, *shape)
    assert images.abs().max() <= 1
    for other in (1, 2):
        assert (images[0] - images[other]).abs().max() > 1e-3


def test_no_image_sees_another(make_generator, rng):
    network, noise, labels = make_generator(), torch.randn(5, 8, generator=rng), torch.arange(5) % 3
    assert not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in network.modules())
    whole = network(noise, labels)
    for index in range(5):
        torch.testing.assert_close(network(noise[[index]], labels[[index]])[0], whole[index])


def test_an_image_is_its_seed_s_and_label_s_whatever_else_is_made(make_generator):
    """Within 1 of 255 levels, since matrix products round by batch size; the same call repeats to the bit."""
    student = generator_student(make_generator(), (1, 8, 8), ("a", "b", "c"))
    labels, seeds = torch.arange(11) % 3, image_seeds(0, 11)
    counts = []
    whole = student.sample(labels, seeds, progress=counts.append)
    assert counts == [11]
    assert torch.equal(student.sample(labels, seeds), whole)
    order = [7, 2, 10]
    alike = [
        (student.sample(labels, seeds, batch_size=4), whole),
        (student.sample(labels[order], [seeds[index] for index in order]), whole[order]),
    ]
    for images, expected in alike:
        assert abs(to_bytes(images).astype(int) - to_bytes(expected).astype(int)).max() <= 1
    assert not torch.equal(student.sample(labels, image_seeds(1, 11)), whole)


@pytest.mark.parametrize("key", ["noise_dim", "hidden", "channels"])
def test_a_generator_without_width_is_refused(key):
    with pytest.raises(ValueError, match=rf"generator\.{key}=0 must be in"):
        GeneratorConfig(**{key: 0})
