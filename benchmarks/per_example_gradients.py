"""What one DP-SGD step costs beside the same step without privacy: python benchmarks/per_example_gradients.py [records]

All on one UNet, one batch and one device, in float32, measured in turn in one run: this project's rows; norms first and
then a weighted sum, which keeps no rows; Opacus's hooks, functorch mode, expanded weights and ghost clipping. Where a
record has several noise draws, Opacus's per-example gradients of the draws are added up before the clip; ghost clipping
knows the draws' norms only, and so has no entry. Prints medians as ratios to the plain step, and how far a step raises
the memory in use at its peak, each in a process of its own.
"""

import math
import multiprocessing
import platform
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch
from opacus.grad_sample import GradSampleModule, GradSampleModuleExpandedWeights, GradSampleModuleFastGradientClipping
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from dpsad.diffusion.denoiser import Denoiser
from dpsad.diffusion.parameterisations import edm_loss_weight
from dpsad.networks.config import NetworkConfig
from dpsad.networks.unet import UNet
from dpsad.privacy import per_example_gradients as per_example
from dpsad.privacy.clipping import PartedRows, clip_scale, steps_for, sum_clipped
from dpsad.privacy.per_example_gradients import per_example_gradients, set_gradients, trainable_parameters
from dpsad.privacy.randomness import PrivateRandomness

RECORDS, IMAGES_AT_ONCE, MAX_NORM = 16, 64, 1.0
ROUNDS = {1: 7, 4: 5, 32: 2}  # for each number of noise draws
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # images, sigma, noise, labels: one draw of all records, then the next
AddClipped = Callable[[nn.Module, Batch, int, Tensor], None]  # model, chunk, its records, total [num_parameters]


@dataclass(frozen=True)
class Contender:
    """A way to make a step.

    wrap: what becomes of the denoiser before it runs.
    add_clipped: adds a chunk's clipped gradients to the total.
    """

    wrap: Callable[[nn.Module], nn.Module]
    add_clipped: AddClipped
    several_draws: bool = True
    private: bool = True


def losses_of(model: nn.Module, batch: Batch) -> Tensor:
    """`denoising_loss` for models that wrap a denoiser."""
    images, sigma, noise, labels = batch
    noisy = images + sigma[:, None, None, None] * noise
    return edm_loss_weight(sigma, 0.5) * (model(noisy, sigma, labels) - images).square().mean(dim=(1, 2, 3))


def add_plain(model: nn.Module, batch: Batch, num: int, total: Tensor) -> None:
    gradients = torch.autograd.grad(losses_of(model, batch).sum(), trainable_parameters(model))
    total += torch.cat([gradient.flatten() for gradient in gradients])


def add_rows(model: nn.Module, batch: Batch, num: int, total: Tensor) -> None:
    add_clipped(per_example_gradients(model, lambda: losses_of(model, batch), num), total)


def add_clipped(rows: PartedRows, total: Tensor) -> None:
    """Adds a chunk's exact sum to the total."""
    steps = torch.zeros(len(total), dtype=torch.float64, device=total.device)
    sum_clipped(rows, MAX_NORM, steps, steps_for(1.0))
    total += steps * (MAX_NORM / steps_for(1.0))


def add_weighted(model: nn.Module, batch: Batch, num: int, total: Tensor) -> None:
    """Norms layer by layer, whose rows are freed at once; then plain weight gradients of scaled output gradients."""
    with per_example._recorded(model) as calls:
        loss = losses_of(model, batch).sum()
    gradients = torch.autograd.grad(loss, [output for _, _, output in calls])
    squared: Tensor | float = 0.0
    for (layer, x, _), gradient in zip(calls, gradients, strict=True):
        for _, rows in per_example._layer_rows(layer, x.detach(), gradient, num):
            squared = squared + rows.flatten(1).square().sum(1)
    assert isinstance(squared, Tensor)
    scale = clip_scale(squared.sqrt(), MAX_NORM).repeat(len(gradients[0]) // num)
    summed: dict[Tensor, Tensor] = {}
    for (layer, x, _), gradient in zip(calls, gradients, strict=True):
        gradient = gradient * scale.reshape(-1, *[1] * (gradient.ndim - 1))
        if isinstance(layer, nn.Conv2d):
            summed[layer.weight] = conv2d_weight(
                x.detach(), layer.weight.shape, gradient, layer.stride, layer.padding, layer.dilation
            )
        else:
            summed[layer.weight] = gradient.T @ x.detach()
        if layer.bias is not None:
            summed[layer.bias] = gradient.transpose(0, 1).flatten(1).sum(1)
    total += torch.cat([summed[parameter].flatten() for parameter in trainable_parameters(model)])


def add_opacus(model: nn.Module, batch: Batch, num: int, total: Tensor) -> None:
    losses_of(model, batch).sum().backward()
    parameters = trainable_parameters(model)
    parts = [parameter.grad_sample.unflatten(0, (-1, num)).sum(0) for parameter in parameters]  # type: ignore[attr-defined]
    for parameter in parameters:
        parameter.grad_sample = parameter.grad = None  # type: ignore[attr-defined]
    add_clipped(PartedRows(parts), total)


def add_ghost(model: nn.Module, batch: Batch, num: int, total: Tensor) -> None:
    losses = losses_of(model, batch)
    losses.sum().backward(retain_graph=True)
    scale = model.get_clipping_coef()  # type: ignore[operator]
    model.disable_hooks()  # type: ignore[operator]
    model.zero_grad(set_to_none=True)
    (scale * losses).sum().backward()
    model.enable_hooks()  # type: ignore[operator]
    total += torch.cat([parameter.grad.flatten() for parameter in trainable_parameters(model)])  # type: ignore[union-attr]
    model.zero_grad(set_to_none=True)


_opacus = {"loss_reduction": "sum", "strict": False}
CONTENDERS = {
    "plain": Contender(lambda model: model, add_plain, private=False),
    "rows (this project)": Contender(lambda model: model, add_rows),
    "norms, then weighted sum": Contender(lambda model: model, add_weighted),
    "Opacus, hooks": Contender(partial(GradSampleModule, **_opacus), add_opacus),
    "Opacus, functorch": Contender(partial(GradSampleModule, force_functorch=True, **_opacus), add_opacus),
    "Opacus, expanded weights": Contender(partial(GradSampleModuleExpandedWeights, loss_reduction="sum"), add_opacus),
    "Opacus, ghost clipping": Contender(
        partial(GradSampleModuleFastGradientClipping, max_grad_norm=MAX_NORM, **_opacus), add_ghost, several_draws=False
    ),
}


def make_step(name: str, records: int, draws: int) -> Callable[[], Tensor]:
    """One step of a contender on fixed draws; returns the sum before noise, for comparison."""
    contender, rng = CONTENDERS[name], torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = Denoiser(UNet(NetworkConfig(patch=2), image_channels=1, num_classes=10)).to(DEVICE)
    for parameter in denoiser.parameters():  # so that no layer is silent
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=rng).to(DEVICE)
    model = contender.wrap(denoiser).train()
    images = torch.rand(records, 1, 28, 28, generator=rng).to(DEVICE) * 2 - 1
    sigma = torch.randn(draws, records, generator=rng).mul(1.2).sub(0.8).exp().to(DEVICE)
    noise = torch.randn(draws, *images.shape, generator=rng).to(DEVICE)
    labels = torch.arange(records, device=DEVICE) % 10
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=0.0)
    randomness, size = PrivateRandomness(DEVICE), sum(p.numel() for p in denoiser.parameters())

    def step() -> Tensor:
        total = torch.zeros(size, device=DEVICE)
        for index in torch.arange(records, device=DEVICE).split(max(1, IMAGES_AT_ONCE // draws)):
            repeated = images[index].repeat(draws, 1, 1, 1), labels[index].repeat(draws)
            batch = repeated[0], sigma[:, index].flatten(), noise[:, index].flatten(0, 1), repeated[1]
            contender.add_clipped(model, batch, len(index), total)
        noisy = total + MAX_NORM * randomness.normal((size,)) if contender.private else total
        set_gradients(denoiser, noisy / records)
        optimizer.step()
        return total

    return step


def _measure_memory(name: str, records: int, draws: int, answer: "multiprocessing.Queue[float]") -> None:
    warnings.simplefilter("ignore")
    make_step("plain", 1, 1)()  # what torch loads once
    step = make_step(name, records, draws)
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        answer.put((torch.cuda.max_memory_allocated() - before) / 2**20)
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is in use
        before = _peak_kibibytes()
        step()
        answer.put((_peak_kibibytes() - before) / 2**10)
    else:
        answer.put(math.nan)


def _peak_kibibytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def memory_of(name: str, records: int, draws: int) -> float:
    """MiB by which one step raises the peak of memory in use, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    answer: multiprocessing.Queue[float] = context.Queue()
    process = context.Process(target=_measure_memory, args=(name, records, draws, answer))
    process.start()
    megabytes = answer.get()
    process.join()
    return megabytes


def time_in_turn(steps: dict[str, Callable[[], Tensor]], rounds: int) -> dict[str, float]:
    """Median seconds of each step, all in turn, after one warm-up round."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(taken[1:]) for name, taken in seconds.items()}


def main() -> None:
    warnings.simplefilter("ignore")
    records = int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS
    print(f"{platform.processor() or platform.machine()}, {DEVICE}, {torch.get_num_threads()} threads, float32")
    for draws, rounds in ROUNDS.items():
        steps: dict[str, Callable[[], Tensor]] = {}
        failed = {}
        for name, contender in CONTENDERS.items():
            if draws == 1 or contender.several_draws:
                step = make_step(name, records, draws)
                try:
                    total = step()
                except Exception as error:  # what a library does not support, it says in many ways
                    failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:70]}"
                    continue
                steps[name] = step
                if name == "rows (this project)":
                    expected = total
                elif contender.private:
                    assert (total - expected).norm() < 1e-3 * expected.norm(), f"{name} computes something else"
        seconds = time_in_turn(steps, rounds)
        print(f"\n{records} records, {draws} draws      {'ms':>9} {'to plain':>9} {'to hooks':>9} {'peak MiB':>9}")
        for name, taken in seconds.items():
            ratios = f"{taken / seconds['plain']:9.2f} {taken / seconds['Opacus, hooks']:9.2f}"
            print(f"{name:26} {taken * 1e3:9.1f} {ratios} {memory_of(name, records, draws):9.0f}", flush=True)
        for name, reason in failed.items():
            print(f"{name:26} fails: {reason}")
    sizes = [memory_of("rows (this project)", size, 4) for size in (records, 4 * records)]
    print(f"\nrows, 4 draws: peak {sizes[0]:.0f} MiB for {records} records, {sizes[1]:.0f} MiB for {4 * records}")


if __name__ == "__main__":
    main()
