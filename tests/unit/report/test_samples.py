import numpy as np
import pytest
from PIL import Image

from dpsad.report.groups import group_by_data
from dpsad.report.reading import read_run, read_runs
from dpsad.report.samples import LARGEST_SIDE, bands, class_strips
from students.sampling import to_bytes


@pytest.mark.parametrize("image_shape", [(1, 8, 8), (3, 8, 12), (1, 28, 28)])
def test_strips_are_the_images_of_their_class_pixel_by_pixel(make_run, noise_images, image_shape):
    names = ("zero", "one", "two")
    strips = class_strips(read_run(make_run("a", image_shape=image_shape, class_names=names), "a"))
    expected = to_bytes(noise_images(3, image_shape))
    assert list(strips) == list(names)
    for label, name in enumerate(names):
        assert len(strips[name]) == 10
        for row, image in enumerate(strips[name]):
            np.testing.assert_array_equal(np.asarray(image), expected[row * 3 + label])


def groups_of(*folders):
    return group_by_data(read_runs(folders)[0])


def test_a_page_keeps_its_size_with_many_classes_and_large_images(make_run):
    names = tuple(f"class {number}" for number in range(30))
    folders = [make_run(name, class_names=names, image_shape=(3, 72, 72)) for name in "abc"]
    (group,) = groups_of(*folders)
    pictures, notes = bands(group, budget=600_000)
    stacks = [stack for by_class in pictures.values() for stack in by_class.values()]
    assert all(stack.width <= LARGEST_SIDE for stack in stacks)
    assert 300_000 < sum(stack.width * stack.height * 3 for stack in stacks) <= 600_000
    assert notes == [f"{len(pictures['a'])} of 30 classes are shown"]


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_a_run_without_its_picture_is_named_and_the_others_are_shown(make_run, content):
    broken = make_run("broken")
    path = broken / "release" / "samples.png"
    path.unlink() if content is None else path.write_bytes(content)
    pictures, notes = bands(groups_of(make_run("a"), broken)[0], budget=10**6)
    assert list(pictures) == ["a"]
    assert "broken: " in notes[0]
    assert str(path) in notes[0]


def test_a_picture_of_another_layout_is_refused(make_run):
    folder = make_run("a")
    Image.new("L", (31, 57)).save(folder / "release" / "samples.png")
    with pytest.raises(ValueError, match="31x57 does not fit 3 classes"):
        class_strips(read_run(folder, "a"))
