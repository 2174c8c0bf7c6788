"""Public streams, and how they go on."""

import pytest
import torch

from dpsad.runtime.seeds import go_on, rng_named

GPU_STATE = torch.arange(16, dtype=torch.uint8)  # as long as a generator's on CUDA: a seed and how far it came


def drawn(rng):
    return torch.rand(4, generator=rng).tolist()


def test_a_stream_goes_on_where_it_was_saved():
    rng, other = rng_named(0, "a"), rng_named(1, "b")
    drawn(rng)
    go_on(other, rng.get_state())
    assert drawn(other) == drawn(rng)


def test_a_stream_of_another_kind_of_device_goes_on_by_what_was_saved_and_never_from_its_start():
    def moved(state):
        rng = rng_named(0, "a")
        go_on(rng, state)
        return drawn(rng)

    assert moved(GPU_STATE) == moved(GPU_STATE)
    assert moved(GPU_STATE) != moved(GPU_STATE + 1)
    assert moved(GPU_STATE) != drawn(rng_named(0, "a"))


def test_what_is_no_generators_state_is_refused():
    with pytest.raises(RuntimeError):
        go_on(rng_named(0, "a"), torch.zeros(17, dtype=torch.uint8))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_states_are_as_long_as_is_taken_for_granted():
    for device, other in (("cuda", "cpu"), ("cpu", "cuda")):
        go_on(rng_named(0, "a", device), rng_named(0, "a", other).get_state())
