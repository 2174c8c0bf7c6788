"""Breaks the code on purpose, one mistake at a time, and runs the tests that must notice.

    python tests/mutations/mutation_runner.py                      # all, as a table
    python tests/mutations/mutation_runner.py "noise" "shards.py"  # those whose name or file has one of these texts

A mutation is applied to a module as it is imported, in a process of its own: no file is written, so that any number can
run at once (DPSAD_MUTATION_PROCESSES=4 takes four) and nothing is left behind. What a test starts as another process
does not see it.
"""

import contextlib
import importlib.util
import io
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from multiprocessing.pool import AsyncResult, Pool
from pathlib import Path
from types import CodeType

import pytest
from mutation_table import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300  # after which a mutation that hangs is given up, and its process with it
# imported once, and had by every process
HEAVY = (
    "dp_accounting.pld", "dp_accounting.rdp", "omegaconf", "opacus.grad_sample", "opacus.validators", "pytest",
    "safetensors.torch", "scipy.stats", "sklearn.datasets", "torch", "torchvision", "tqdm",
)  # fmt: skip
# such a failure says that the mutation makes no sense, not that a test has noticed it
BROKEN = (NameError, ImportError, SyntaxError)


@dataclass(frozen=True)
class Outcome:
    """What became of a mutation.

    missed: tests that should have failed, and did not.
    why: what pytest printed, or what is wrong with the mutation; empty where it was caught.
    seconds: of processor time that the tests took.
    """

    missed: tuple[str, ...]
    why: str
    seconds: float

    @property
    def caught(self) -> bool:
        return not self.missed


def mutated_source(mutation: Mutation) -> str:
    """The source with the mistake in it.

    Raises:
        ValueError: the text to be replaced does not stand in the file exactly once, so that the table is stale.
    """
    source = (ROOT / mutation.file).read_text(encoding="utf-8")
    found = source.count(mutation.old)
    if found != 1:
        raise ValueError(
            f"mutation '{mutation.name}' is stale: its text stands {found} times in {mutation.file}, not once; give it "
            f"one that does: {mutation.old!r}"
        )
    return source.replace(mutation.old, mutation.new)


def outcome_of(mutation: Mutation, seconds: int = SECONDS) -> Outcome:
    """Runs the mutation's tests on code that has the mistake; for a process that has not imported the project yet.

    The process ends after so many seconds, whatever the tests do: the next mutation does not wait for it.
    """
    signal.alarm(seconds)
    source, module = mutated_source(mutation), mutation.file.removesuffix(".py").replace("/", ".")
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    sys.meta_path.insert(0, _Mutated(module, compile(source, mutation.file, "exec", dont_inherit=True)))
    watch, printed, start = _Watch(), io.StringIO(), time.process_time()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        pytest.main(["-p", "no:cacheprovider", *mutation.caught_by], plugins=[watch])
    seconds, why = time.process_time() - start, printed.getvalue()[-3000:]
    if module not in sys.modules:
        return Outcome(mutation.caught_by, f"these tests do not import {module}", seconds)
    missed = [name for name in mutation.caught_by if not any(_is_of(node, name) for node in watch.noticed)]
    return Outcome(tuple(missed), why if missed else "", seconds)


def awaited(mutation: Mutation, outcome: "AsyncResult[Outcome]") -> Outcome:
    """What became of a mutation once its process is done, or has been ended because it hangs."""
    try:
        return outcome.get(SECONDS + 5)
    except multiprocessing.TimeoutError:
        return Outcome(mutation.caught_by, f"the tests hang: given up after {SECONDS} seconds", SECONDS)


@contextlib.contextmanager
def fresh_processes(number: int = 1) -> Iterator[Pool]:
    """Workers that do one thing each, and have imported what is heavy but nothing of the project."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(list(HEAVY))
    with processes.Pool(number, maxtasksperchild=1) as pool:
        yield pool


def _is_of(node: str, name: str) -> bool:
    """Whether a test that ran is the one of that name, or a case of it."""
    return node == name or node.startswith(f"{name}[")


class _Mutated(MetaPathFinder):
    """Finds one module, and gives it other code than its file has."""

    def __init__(self, module: str, code: CodeType):
        self.module, self.code = module, code

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if fullname != self.module:
            return None
        file = ROOT / f"{fullname.replace('.', '/')}.py"
        loader = SourceFileLoader(fullname, str(file))
        loader.get_code = lambda _: self.code  # type: ignore[method-assign]
        return importlib.util.spec_from_file_location(fullname, file, loader=loader)


class _Watch:
    """A plugin for pytest that notes the tests which fail for a reason that counts."""

    def __init__(self) -> None:
        self.noticed: set[str] = set()

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> None:
        if call.excinfo is not None and not call.excinfo.errisinstance((*BROKEN, pytest.skip.Exception)):
            self.noticed.add(item.nodeid)


def main(words: list[str]) -> int:
    """Prints a line for each mutation, and why where it was not caught."""
    chosen = [m for m in MUTATIONS if not words or any(word in f"{m.name} {m.file}" for word in words)]
    num_caught = 0
    print("| mistake | file | | seconds |\n|---|---|---|---|")
    with fresh_processes(int(os.environ.get("DPSAD_MUTATION_PROCESSES", "1"))) as pool:
        for mutation, result in [(mutation, pool.apply_async(outcome_of, (mutation,))) for mutation in chosen]:
            outcome = awaited(mutation, result)
            num_caught += outcome.caught
            verdict = "caught by" if outcome.caught else "NOT CAUGHT by"
            tests = ", ".join(name.split("::")[-1] for name in mutation.caught_by)
            print(f"| {mutation.name} | {mutation.file} | {verdict} {tests} | {outcome.seconds:.1f} |", flush=True)
            if not outcome.caught:
                print(outcome.why, flush=True)
    print(f"{num_caught} of {len(chosen)} caught")
    return 0 if num_caught == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
