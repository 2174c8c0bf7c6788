"""What people expect of a command line: short help, a version, keys, completion, ~, --quiet and --json."""

import json
import math
import os
import stat
import subprocess
import sys
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
import torch

from dpsad import __version__
from dpsad.api.config import Config
from dpsad.cli import main
from dpsad.commands.keys import all_keys
from dpsad.commands.read import read_config
from dpsad.errors import message_of
from dpsad.privacy.ranges import Range
from dpsad.release.export import export_release, load_releasable
from dpsad.release.model_card import model_card

FACTS = {  # a verb that prints a result -> what its object has
    "sample run --num 4 --out new.npz": {"num": 4, "num_classes": 2, "out": "new.npz"},
    "ledger run": {"sets"},
    "compare run --out new": {"groups", "left_out", "private", "page"},
    "account --config digits": {"releases", "epsilon", "delta", "cross_check", "guarantee"},
    "presets": {"presets"},
    "keys privacy": {"keys"},
    "baseline run=new method=class-means privacy.delta=1e-4": {"run": "new", "release": "new/release"},
}


@pytest.mark.parametrize("words", FACTS)
def test_json_is_one_object_and_the_only_thing_on_stdout(folder, run_words, words):
    code, out, _ = run_words([*words.split(), "--json"])
    assert code == 0
    assert len(out.splitlines()) == 1
    found, wanted = json.loads(out), FACTS[words]
    assert set(wanted) <= found.keys()
    if isinstance(wanted, dict):
        assert {key: found[key] for key in wanted} == wanted


@pytest.mark.parametrize("words", FACTS)
def test_quiet_prints_the_result_alone(folder, run_words, words):
    code, out, err = run_words([*words.split(), "--quiet"])
    assert (code, err) == (0, "")
    assert out.strip()
    assert "warning" not in out
    code, out, err = run_words(["sample", "run", "--quiet", "--json", "--out", "run"])
    assert (code, out) == (2, "")
    assert err.startswith("error: --out run")


@pytest.mark.parametrize("verb", ["", "sample", "teach", "keys", "completion"])
def test_short_help_is_the_long_one(run_words, verb):
    short, long = run_words([*verb.split(), "-h"]), run_words([*verb.split(), "--help"])
    assert short == long
    assert short[0] == 0
    assert "Usage" in short[1]


def test_the_version_is_the_package_s(run_words):
    assert run_words(["--version"]) == (0, f"dpsad {__version__}\n", "")


def test_every_key_is_listed_with_what_the_config_says_of_it(run_words):
    def count(schema):
        whole = schema()
        values = (getattr(whole, field.name) for field in fields(schema))
        return sum(count(type(value)) if is_dataclass(value) else 1 for value in values)

    keys = {key.key: key for key in all_keys()}
    assert len(keys) == count(Config)
    assert [key for key, said in keys.items() if not said.meaning] == []
    steps = keys["sampler.steps"]
    assert (steps.kind, steps.range, steps.default) == ("whole number", "[1, 1e4]", "6")
    assert steps.meaning.startswith("denoising steps")
    assert keys["privacy.epsilon"].range == str(Range("(0, 500]", also=math.inf))
    assert keys["data.path"].default == "null"
    code, out, _ = run_words(["keys", "sampler"])
    assert code == 0
    assert [line.split("=")[0] for line in out.splitlines() if not line.startswith(" ")] == [
        key for key in keys if key.startswith("sampler.")
    ]


def test_defaults_that_are_listed_can_be_typed():
    words = [f"{key.key}={key.default}" for key in all_keys() if key.default]
    assert read_config(None, words) == Config()


def completed(script, *words):
    """What bash offers for the last of `words`."""
    listed = " ".join(f"'{word}'" for word in words)
    program = f"{script}\nCOMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}\ncompopt() {{ :; }}\n_dpsad\n"
    done = subprocess.run(
        ["bash", "-c", program + 'printf "%s\\n" "${COMPREPLY[@]}"'], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_bash_completes_verbs_options_keys_and_presets(run_words):
    code, script, _ = run_words(["completion", "bash"])
    assert code == 0
    assert completed(script, "dpsad", "sa") == ["sample"]
    assert completed(script, "dpsad", "sample", "--ba") == ["--batch-size"]
    assert completed(script, "dpsad", "teach", "privacy.eps") == ["privacy.epsilon="]
    assert completed(script, "dpsad", "teach", "--config", "mnist-eps") == ["mnist-epsilon1"]
    assert completed(script, "dpsad", "sample", "privacy.eps") == []
    assert completed(script, "dpsad", "teach", "data.path", "=", "s") != ["seed="]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_the_same_words(run_words, shell):
    _, script, _ = run_words(["completion", shell])
    for word in ("sample", "batch-size", "privacy.epsilon=", "mnist-epsilon1", "completion"):
        assert word in script


def test_home_is_put_in_for_a_tilde_in_paths_and_keys(folder, run_words, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    (folder / "own.yaml").write_text("data: {path: ~/images}\nrun: ~/new\n")
    assert run_words(["sample", "~/run", "--num", "2", "--out", "~/made.NPZ"])[0] == 0
    assert np.load(folder / "made.NPZ")["labels"].tolist() == [0, 1]
    config = read_config("~/own.yaml", ["teacher.path=~/t.pt"])
    home = str(folder)
    assert (config.run, config.data.path, config.teacher.path) == (f"{home}/new", f"{home}/images", f"{home}/t.pt")
    words = [f"{key.key}=~/x" for key in all_keys() if key.key.rpartition(".")[2] in ("run", "root", "path", "weights")]
    assert {word.partition("=")[0] for word in words} == set(Config.PATH_KEYS), "a path that PATH_KEYS does not name"


def test_a_run_is_taken_up_by_its_name_with_a_tilde(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert read_config(None, ["run=~/run"]).run == str(folder / "run")


HOSTILE = "<script>alert(1)</script>|`a`\n# [b](c) ![d](e) *f*"


def named_release(folder, names):
    made = load_releasable(folder / "run")
    object.__setattr__(made.config, "class_names", names)
    statement = json.loads((folder / "run" / "release" / "privacy.json").read_text())
    export_release(folder / "run" / "release", made, statement)
    return made.config, statement


def test_class_names_are_no_markup_in_a_release_or_on_the_page(folder, run_words):
    config, statement = named_release(folder, (HOSTILE, "b"))
    card = model_card(config, statement)
    assert (folder / "run" / "release" / "README.md").read_text() == card
    line = next(line for line in card.splitlines() if "alert" in line)
    assert "<" not in line
    assert r"\|\`a\` \# \[b\](c) \!\[d\](e) \*f\*" in line
    assert run_words(["compare", "run", "--out", "page"])[0] == 0
    page = (folder / "page" / "report.html").read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page


def test_whoever_may_enter_can_read_a_release(folder):
    before = os.umask(0o077)
    try:
        named_release(folder, ("a", "b"))
    finally:
        os.umask(before)
    release = folder / "run" / "release"
    assert stat.S_IMODE(release.stat().st_mode) == 0o755
    assert {stat.S_IMODE(path.stat().st_mode) for path in release.iterdir()} == {0o644}


def test_a_statement_from_before_it_knew_its_weights_is_read(folder, run_words):
    path = folder / "run" / "release" / "privacy.json"
    statement = json.loads(path.read_text())
    del statement["weights_sha256"], statement["method"]
    path.write_text(json.dumps(statement))
    assert run_words(["sample", "run", "--num", "2", "--out", "new.npz"])[0] == 0


@pytest.mark.parametrize(
    "error", [MemoryError("x"), RecursionError("x"), OSError(28, "No space left on device", "x"), ValueError("x")]
)
def test_errors_that_a_user_can_mend_are_a_line(monkeypatch, capsys, error):
    def broken(*_):
        raise error

    monkeypatch.setattr("dpsad.commands.read.read_config", broken)
    monkeypatch.setattr(sys, "argv", ["dpsad", "account"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {message_of(error)}\n"


def test_faults_of_the_program_are_not_hidden(monkeypatch):
    assert message_of(KeyError("x")) is None
    assert message_of(RuntimeError("shapes do not fit")) is None
    with pytest.raises(RuntimeError) as found:
        torch.empty(2**62)
    assert "memory" in message_of(found.value)
