import copy
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
import torch
from scipy.stats import chi2
from torch import nn

from dpsad.api.config import Config
from dpsad.diffusion.denoiser import Denoiser
from dpsad.networks.config import NetworkConfig
from dpsad.networks.network import new_network
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.runtime.context import Context
from dpsad.runtime.log import LogConfig
from dpsad.runtime.ranks import Ranks
from dpsad.runtime.run_folder import open_run


@pytest.fixture(autouse=True)
def interruptible():
    """SIGINT interrupts, as in a terminal: a shell lets what it runs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def context(tmp_path):
    """An opened run on the CPU, with a generous budget and seeded noise, without records."""

    def none():
        raise AssertionError("this test reads no images")

    return Context(
        run=open_run(tmp_path / "run", Config()),
        device=torch.device("cpu"),
        precision="float32",
        seed=0,
        ledger=Ledger(500.0, 1e-5),
        randomness=PrivateRandomness(seed=0),
        stated_num_records=0,
        load_records=none,
        load_public=none,
        log_config=LogConfig(),
        say=lambda line: None,
    )


@dataclass
class _Table:
    """Where threads that are each other's ranks meet: each lays something down, and sees what all have."""

    barrier: threading.Barrier
    laid: dict = field(default_factory=dict)

    def meet(self, rank, thing):
        self.laid[rank] = thing
        self.barrier.wait(20)
        found = [self.laid[other] for other in range(self.barrier.parties)]
        self.barrier.wait(20)
        return found


@dataclass(frozen=True, kw_only=True)
class ThreadRanks(Ranks):
    """Ranks that are threads of one process, so that tests see what all of them do."""

    table: _Table

    def add_up(self, total):
        total.copy_(torch.stack(self.table.meet(self.rank, total.clone())).sum(0))

    def from_first(self, make):
        return copy.deepcopy(self.table.meet(self.rank, make() if self.leads else None)[0])

    def gathered(self, value):
        return self.table.meet(self.rank, value)


@pytest.fixture(scope="session")
def side_by_side():
    """(size, work) -> what `work(ranks)` returns in each of so many ranks, which are threads.

    Where one of them raises, the others get BrokenBarrierError, and the first one's error is raised here.
    """

    def run(size, work):
        table = _Table(threading.Barrier(size))
        errors = []

        def one(rank):
            try:
                return work(ThreadRanks(rank, size, table=table))
            except BaseException as error:
                errors.append(error)
                table.barrier.abort()
                raise

        with ThreadPoolExecutor(size) as pool:
            done = [pool.submit(one, rank) for rank in range(size)]
        if errors:
            raise errors[0]
        return [future.result() for future in done]

    return run


@pytest.fixture(scope="session")
def has_scale():
    """(sample, scale) -> whether the sample may be normal of mean 0 and that standard deviation.

    Two-sided chi-square test; a right scale is rejected with probability 5e-7.
    """

    def test(sample, scale):
        quantile = chi2.cdf((sample.double() / scale).square().sum().item(), df=sample.numel())
        return 2.5e-7 < quantile < 1 - 2.5e-7

    return test


@pytest.fixture(scope="session")
def perturbed():
    """model -> the same model with noise on every parameter, so that layers that start at zero matter."""

    def perturb(model: nn.Module, scale: float = 0.1):
        noise = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=noise), alpha=scale)
        return model

    return perturb


@pytest.fixture(scope="session")
def make_denoiser(perturbed):
    """(**shape) -> a small denoiser of 3 classes whose every layer matters."""

    def make(*, image_channels=1, channels=8, **shape):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same whatever tests ran before
            network = new_network(
                NetworkConfig(channels=channels, **shape), image_channels=image_channels, num_classes=3
            )
        return perturbed(Denoiser(network))

    return make
