"""Measuring and comparing from Python, where records have no labels and runs no name."""

import pytest
import torch

import dpsad
from dpsad.report.groups import group_by_data

QUICK = {"num": 40, "classifiers": ("logistic",), "compare_with_real": False, "epochs": 1}


@pytest.fixture
def images(rng):
    return torch.rand(60, 8, 8, generator=rng) * 2 - 1


def train(*records):
    return dpsad.train(*records, method="class-means", epsilon=5, delta=1e-3, say=lambda line: None)


def test_images_without_labels_are_measured_by_distance_alone(images):
    student = train(images)
    result = dpsad.evaluate(student, images, **QUICK)
    assert result.student.classifiers == {}
    assert result.no_classifiers == "the records have no labels of their own, or one class alone"
    assert result.student.frechet >= 0
    assert "class-means" in str(dpsad.compare([student]))


def test_what_is_measured_says_how_fast_on_what(images):
    result = dpsad.evaluate(train(images, torch.arange(60) % 2), images, torch.arange(60) % 2, **QUICK)
    assert set(result.student.classifiers) == {"logistic"}
    assert result.sampling_images_per_second > 0
    assert result.hardware.endswith(("CPU thread", "CPU threads"))


def test_a_run_without_a_folder_is_named_after_its_method(images):
    student = train(images)
    assert student.run.name == "class-means"
    assert student.run.is_dir()


def test_the_number_of_records_goes_into_no_class_mean(images):
    """Sums, counts and noise know it only through the release, so the statement need not call it public."""
    assert not any("number of records" in item for item in train(images).privacy.not_covered)


def test_runs_on_different_images_of_a_program_are_not_put_in_one_table(images):
    same, again, other = train(images), train(images), train(-images)
    groups = group_by_data(dpsad.compare([same, again, other]).runs)
    assert sorted(len(group.results) for group in groups) == [1, 2]


def test_a_printed_result_is_a_table(images):
    labels = torch.arange(60) % 2
    lines = str(dpsad.evaluate(train(images, labels), images, labels, **QUICK)).splitlines()
    assert lines[0] == "protocol quick, but 1 epochs, 40 samples"
    assert lines[1].split() == ["trained", "on", "logistic", "Frechet"]
    assert lines[2].startswith("student")
    assert lines[-1].startswith("epsilon 5.000 at delta 0.001, formal")
