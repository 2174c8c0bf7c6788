import pytest
import torch

from students.few_step import SamplerConfig, few_step_student
from students.sampling import to_bytes
from students.seeds import image_seeds

KINDS = [
    {},
    {"method": "ddim", "steps": 3},
    {"method": "ddim", "steps": 3, "churn": 1.0},
    {"churn": 3.0, "steps": 4},
    {"guidance": 1.0, "steps": 2},
]


@pytest.fixture
def make_student(make_denoiser):
    def make(**sampler):
        return few_step_student(make_denoiser(attention=True), SamplerConfig(**sampler), (1, 8, 8), ("a", "b", "c"))

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_its_seed_s_and_label_s_whatever_else_is_made(make_student, kind):
    """Within 1 of 255 levels, since matrix products round by batch size; the same call repeats to the bit."""
    student, labels, seeds = make_student(**kind), torch.arange(11) % 3, image_seeds(0, 11)
    whole = student.sample(labels, seeds)
    assert torch.equal(student.sample(labels, seeds), whole)
    assert whole.shape == (11, 1, 8, 8)
    assert whole.abs().max() <= 1
    order = [7, 2, 10]
    alike = [
        (student.sample(labels, seeds, batch_size=4), whole),
        (student.sample(labels, seeds, batch_size=1), whole),
        (student.sample(labels[order], [seeds[index] for index in order]), whole[order]),
    ]
    for images, expected in alike:
        levels = to_bytes(images).astype(int) - to_bytes(expected).astype(int)
        assert abs(levels).max() <= 1


def test_seeds_and_labels_make_different_images(make_student):
    images = make_student().sample(torch.tensor([0, 0, 1]), [5, 6, 5])
    for one, other in [(0, 1), (0, 2)]:
        assert (images[one] - images[other]).abs().max() > 0.05


def test_progress_counts_every_image_once(make_student):
    counts = []
    make_student(steps=1).sample(torch.zeros(7).long(), range(7), batch_size=3, progress=counts.append)
    assert counts == [3, 3, 1]


def test_seeds_of_different_base_seeds_never_meet():
    seeds = [*image_seeds(0, 1000), *image_seeds(1, 1000), *image_seeds(1, 1000, first=1000)]
    assert len(set(seeds)) == 3000
    assert image_seeds(4, 3, first=2) == image_seeds(4, 5)[2:]


def test_images_of_different_base_seeds_differ(make_student):
    student, labels = make_student(steps=1), torch.zeros(2).long()
    first, second = (student.sample(labels, image_seeds(seed, 2)) for seed in (0, 1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "huen"}, r"sampler\.method='huen' .*did you mean 'heun'"),
        ({"steps": 0}, r"sampler\.steps=0 must be in"),
        ({"sigma_min": 0.0}, r"sampler\.sigma_min=0\.0 must be in"),
        ({"sigma_max": 0.01}, r"sampler\.sigma_max=0\.01 must be above sampler\.sigma_min"),
    ],
)
def test_a_sampler_that_cannot_run_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        SamplerConfig(**wrong)
