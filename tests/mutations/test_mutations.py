"""Realistic mistakes in the code that privacy rests on, each of which must be caught by the tests named beside it.

`mutation_table.py` has the mistakes; `make mutations` prints them with what became of each.
"""

import ast
import multiprocessing

import pytest
from mutation_runner import ROOT, awaited, fresh_processes, mutated_source, outcome_of
from mutation_table import MUTATIONS, Mutation


def named(mutation):
    return mutation.name.replace(" ", "-")


@pytest.fixture(scope="module")
def pool():
    with fresh_processes() as pool:
        yield pool


@pytest.mark.parametrize("mutation", MUTATIONS, ids=named)
def test_a_mistake_is_caught(pool, mutation):
    outcome = awaited(mutation, pool.apply_async(outcome_of, (mutation,)))
    assert outcome.caught, f"{mutation.name}: {outcome.missed} did not fail\n{outcome.why}"


@pytest.mark.parametrize("mutation", MUTATIONS, ids=named)
def test_the_table_fits_the_code(mutation):
    """The text stands there once, what replaces it is other code that compiles, and the tests are there."""
    before = ast.dump(ast.parse((ROOT / mutation.file).read_text(encoding="utf-8")))
    assert ast.dump(ast.parse(mutated_source(mutation))) != before
    for name in mutation.caught_by:
        path, test = name.split("[")[0].split("::")
        functions = [node.name for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
                     if isinstance(node, ast.FunctionDef)]  # fmt: skip
        assert functions.count(test) == 1, name


def test_names_are_no_two_the_same():
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)


def test_text_that_moved_away_makes_the_table_stale():
    mutation = Mutation("anything", "dpsad/privacy/plan.py", "no such text", "", ("tests/a.py::test_b",))
    with pytest.raises(ValueError, match=r"mutation 'anything' is stale: its text stands 0 times in .*plan\.py"):
        mutated_source(mutation)


@pytest.mark.parametrize(
    ("new", "test", "why"),
    [
        ("return 2 if self is Unit.SHARD else 0 + 1", "test_an_empty_ledger_has_spent_nothing", "1 passed"),
        ("return a_name_that_nobody_gave", "test_a_shard_costs_what_a_record_costs_at_half_the_noise", "NameError"),
    ],
)
def test_what_nobody_notices_is_not_called_caught(pool, new, test, why):
    """Nor what fails only because the mutation makes no sense."""
    tests = (f"tests/unit/privacy/test_ledger.py::{test}",)
    mutation = Mutation("harmless", "dpsad/privacy/plan.py", "return 2 if self is Unit.SHARD else 1", new, tests)
    outcome = awaited(mutation, pool.apply_async(outcome_of, (mutation,)))
    assert outcome.missed == tests
    assert why in outcome.why


def test_tests_that_do_not_import_the_mistake_are_told_from_those_that_let_it_pass(pool):
    tests = ("tests/unit/privacy/test_provenance.py::test_names_are_what_files_hold",)
    mutation = Mutation("elsewhere", "dpsad/commands/sample.py", "check_destination(out)", "pass", tests)
    outcome = awaited(mutation, pool.apply_async(outcome_of, (mutation,)))
    assert outcome.why == "these tests do not import dpsad.commands.sample"


def test_a_mutation_that_hangs_is_given_up_and_the_next_one_does_not_wait_for_it(pool):
    tests = ("tests/unit/privacy/test_ledger.py::test_a_shard_costs_what_a_record_costs_at_half_the_noise",)
    file, old = "dpsad/privacy/plan.py", "return 2 if self is Unit.SHARD else 1"
    hangs = Mutation("hangs", file, old, 'return __import__("time").sleep(1000)', tests)
    with pytest.raises(multiprocessing.TimeoutError):
        pool.apply_async(outcome_of, (hangs, 1)).get(6)
    assert awaited(hangs, pool.apply_async(outcome_of, (Mutation("caught", file, old, "return 1", tests),))).caught
