from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from dpsad.runtime import config_files
from dpsad.runtime.config_files import differences, find_config, flatten, load_config, read_mapping, save_config


@dataclass(frozen=True, kw_only=True)
class Privacy:
    epsilon: float = 1.0
    delta: float = 1e-5

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"privacy.epsilon={self.epsilon} must be positive")


@dataclass(frozen=True, kw_only=True)
class Stage:
    RENAMED_KEYS: ClassVar[dict[str, str]] = {"stairs": "ladder"}

    steps: int = 10
    ladder: list[int] = field(default_factory=lambda: [1, 8])
    fast: bool = False


@dataclass(frozen=True, kw_only=True)
class Config:
    RENAMED_KEYS: ClassVar[dict[str, str]] = {"master": "teacher"}
    RENAMED_VALUES: ClassVar[dict[str, dict[str, str]]] = {"root": {"cellar": "basement"}}

    run: str = "runs/one"
    root: str | None = None
    privacy: Privacy = field(default_factory=Privacy)
    teacher: Stage = field(default_factory=Stage)
    student: Stage = field(default_factory=Stage)


@dataclass(frozen=True, kw_only=True)
class Demanding:
    run: str


def load(*overrides, base=None):
    return load_config(Config, base=base, overrides=overrides)


def test_defaults_alone_give_the_dataclass():
    assert load() == Config()


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("privacy:\n  epsilon: 3\n  delta: 1e-6\nstudent:\n")
    config = load("privacy.epsilon=inf", "teacher.ladder=[4, 16]", "student.fast=true", base=file)
    assert config.privacy == Privacy(epsilon=math.inf, delta=1e-6)
    assert config.teacher == Stage(ladder=[4, 16])
    assert config.student == Stage(fast=True)


@pytest.mark.parametrize("text", ["007", "yes", "1e5", "a=b", "a: b", "[1", "null", "#1"])
def test_a_text_stands_as_it_was_typed(text):
    assert load(f"run={text}").run == text


def test_null_empties_an_optional_text(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("root: somewhere\n")
    assert load(base=file).root == "somewhere"
    assert load("root=null", base=file).root is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("privcy.epsilon=1", "unknown key 'privcy.epsilon' in the command line; did you mean 'privacy.epsilon'?"),
        ("privacy.epsilom=1", "unknown key 'privacy.epsilom' in the command line; did you mean 'privacy.epsilon'?"),
        ("epsilon=1", "unknown key 'epsilon' in the command line; did you mean 'privacy.epsilon'?"),
        ("steps=1", "unknown key 'steps' in the command line; did you mean 'teacher.steps' or 'student.steps'?"),
        ("techer.steps=1", "unknown key 'techer.steps' in the command line; did you mean 'teacher.steps'?"),
        ("privacy.epsilon.x=1", "unknown key 'privacy.epsilon.x' in the command line; did you mean 'privacy.epsilon'?"),
        ("privacy.epsilon=ten", "privacy.epsilon='ten' must be a number"),
        ("privacy.epsilon=[1", "privacy.epsilon='[1' must be a number"),
        ("privacy.epsilon=null", "privacy.epsilon='null' must be a number"),
        ("privacy.epsilon=???", "privacy.epsilon='???' must be a number"),
        ("teacher.steps=1.5", "teacher.steps='1.5' must be a whole number"),
        ("teacher.fast=maybe", "teacher.fast='maybe' must be true or false"),
        ("teacher.ladder=[a]", "teacher.ladder='[a]' must be a list such as [1, 2]"),
        ("privacy=3", "privacy='3' is a whole section; set its keys: privacy.epsilon, privacy.delta"),
        ("privacy.epsilon", "'privacy.epsilon' in the command line has no '='; write privacy.epsilon=VALUE"),
        ("privacy.epsilon=", "privacy.epsilon= has no value; write privacy.epsilon=VALUE, or leave it out"),
        ("privacy.epsilon=-1", "privacy.epsilon=-1.0 must be positive"),
    ],
)
def test_a_slip_on_the_command_line_is_named_with_its_mend(override, message):
    with pytest.raises(ValueError, match=r".") as caught:
        load(override)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("privacy:\n  epsilom: 1\n", "unknown key 'privacy.epsilom' in FILE; did you mean 'privacy.epsilon'?"),
        ("privcy:\n  epsilon: 1\n", "unknown key 'privcy' in FILE; did you mean 'privacy'?"),
        ("privacy:\n  epsilon: ten\n", "FILE: privacy.epsilon='ten' must be a number"),
        ("privacy: 3\n", "FILE: privacy=3 is a whole section; set its keys: privacy.epsilon, privacy.delta"),
        ("run: a\nprivacy: {\n", "FILE, line 3: "),
        ("run: a\nrun: b\n", "FILE, line 2: found duplicate key run"),
        ("just text\n", "FILE must be a YAML mapping of lines such as 'key: value'"),
        ("- run\n", "FILE must be a YAML mapping of lines such as 'key: value'"),
        ("run: ${nowhere}\n", "FILE: run='${nowhere}' has ${...}, which nothing is put in for"),
    ],
)
def test_a_slip_in_a_file_is_named_with_the_file(tmp_path, text, message):
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r".") as caught:
        load(base=file)
    assert str(caught.value).startswith(message.replace("FILE", str(file)))


def test_a_value_without_default_is_asked_for():
    with pytest.raises(ValueError, match=r"^run has no value; pass run=VALUE$"):
        load_config(Demanding, base=None, overrides=())
    assert load_config(Demanding, base=None, overrides=["run=a"]) == Demanding(run="a")


def test_a_config_is_found_by_path_then_by_name(tmp_path, monkeypatch):
    (tmp_path / "presets").mkdir()
    preset, own = tmp_path / "presets" / "mnist.yaml", tmp_path / "mnist"
    preset.write_text("")
    monkeypatch.setattr(config_files, "PRESETS", preset.parent)
    monkeypatch.chdir(tmp_path)
    assert find_config("mnist") == preset
    own.write_text("")
    assert find_config("mnist").resolve() == own
    with pytest.raises(ValueError, match=r"config 'mnsit' is .* did you mean 'mnist'\? Presets: mnist$"):
        find_config("mnsit")


def write(folder, **files):
    """YAML files by name; the last one's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{name}.yaml"


def test_a_file_extends_another_key_by_key(tmp_path):
    mine = write(
        tmp_path,
        base="run: base\nroot: there\nprivacy: {epsilon: 3, delta: 1e-6}\nteacher:\n  steps: 5\n  ladder: [1, 2, 3]\n",
        mine="run: mine\nextends: base.yaml\nprivacy:\n  epsilon: 4\nteacher:\n  ladder: [7]\nstudent:\n",
    )
    expected = Config(
        run="mine", root="there", privacy=Privacy(epsilon=4.0, delta=1e-6), teacher=Stage(steps=5, ladder=[7])
    )
    assert load(base=mine) == expected
    assert load("teacher.steps=6", "root=null", base=mine) == Config(
        run="mine", privacy=expected.privacy, teacher=Stage(steps=6, ladder=[7])
    )


def test_null_takes_a_base_s_value_away(tmp_path):
    assert load(base=write(tmp_path, base="root: there\n", mine="extends: base.yaml\nroot: null\n")).root is None


def test_a_chain_begins_at_its_far_end(tmp_path):
    mine = write(
        tmp_path,
        first="run: a\nroot: a\nteacher: {steps: 1}\n",
        second="extends: first.yaml\nroot: b\nteacher: {steps: 2, fast: true}\n",
        third="extends: second.yaml\nteacher: {steps: 3}\n",
    )
    assert load(base=mine) == Config(run="a", root="b", teacher=Stage(steps=3, fast=True))


def test_a_base_is_found_from_the_file_s_own_folder_then_among_the_presets(tmp_path, monkeypatch):
    monkeypatch.setattr(config_files, "PRESETS", tmp_path / "presets")
    monkeypatch.chdir(write(tmp_path / "elsewhere", shared="run: wrong\n").parent)
    write(tmp_path / "presets", mnist="run: preset\n", variant="extends: mnist\nroot: v\n")
    write(tmp_path / "own", shared="run: shared\n")
    mine = write(tmp_path / "own" / "deep", mine="extends: ../shared.yaml\n", mnist="extends: mnist\n")
    assert load(base=tmp_path / "own" / "deep" / "mine.yaml").run == "shared"
    assert load(base=mine).run == "preset"
    assert load(base=find_config("variant")) == Config(run="preset", root="v")
    assert load(base=write(tmp_path, mine=f"extends: {tmp_path / 'own' / 'shared.yaml'}\n")).run == "shared"


@pytest.mark.parametrize("old_first", [True, False])
def test_old_names_meet_new_ones_across_files(tmp_path, old_first):
    old, new = "root: cellar\nmaster: {stairs: [2]}\n", "root: attic\nteacher: {ladder: [3]}\n"
    base, own = (old, new) if old_first else (new, old)
    config = load(base=write(tmp_path, base=base + "run: b\n", mine=f"extends: base.yaml\n{own}"))
    assert config == Config(
        run="b", root="attic" if old_first else "basement", teacher=Stage(ladder=[3] if old_first else [2])
    )


def test_a_saved_config_has_the_values_of_its_bases_and_no_trace_of_them(tmp_path):
    config = load(base=write(tmp_path, base="run: b\nteacher: {steps: 3}\n", mine="extends: base.yaml\nroot: r\n"))
    save_config(config, saved := tmp_path / "config.yaml")
    assert list(read_mapping(saved)) == ["run", "root", "privacy", "teacher", "student"]
    assert load(base=saved) == config == Config(run="b", root="r", teacher=Stage(steps=3))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": "extends: a.yaml\n"}, "extends goes in a circle: {a} -> {a}; take it out of one of them"),
        (
            {"c": "extends: a.yaml\n", "b": "extends: c.yaml\n", "a": "extends: b.yaml\n"},
            "extends goes in a circle: {a} -> {b} -> {c} -> {a}; take it out of one of them",
        ),
        (
            {"a": "extends: mnsit\n"},
            "{a}: extends: config 'mnsit' is neither a file in {folder} nor a preset; did you mean 'mnist'? Presets",
        ),
        (
            {"b": "extends: gone.yaml\n", "a": "extends: b.yaml\n"},
            "{b}: extends: config 'gone.yaml' is neither a file in {folder} nor a preset. Presets: mnist",
        ),
        ({"a": "extends:\n"}, "{a}: extends: None must be the name of a preset, or a path from this file's folder"),
        (
            {"a": "extends: [b]\n"},
            "{a}: extends: ['b'] must be the name of a preset, or a path from this file's folder",
        ),
        ({"b": "privacy: {epsilom: 1}\n", "a": "extends: b.yaml\n"}, "unknown key 'privacy.epsilom' in {b}; did you "),
        ({"b": "teacher: {steps: x}\n", "a": "extends: b.yaml\n"}, "{b}: teacher.steps='x' must be a whole number"),
        ({"a": "privacy: {extends: mnist}\n"}, "unknown key 'privacy.extends' in {a}"),
    ],
)
def test_a_slip_in_what_is_extended_is_named_with_its_file(tmp_path, monkeypatch, files, message):
    monkeypatch.setattr(config_files, "PRESETS", write(tmp_path / "presets", mnist="").parent)
    own = write(tmp_path / "own", **files)
    with pytest.raises(ValueError, match=r".") as caught:
        load(base=own)
    names = {name: own.with_name(f"{name}.yaml") for name in "abc"}
    assert str(caught.value).startswith(message.format(**names, folder=own.parent))


def test_extends_is_a_line_of_files_alone():
    with pytest.raises(ValueError, match=r"^unknown key 'extends' in the command line"):
        load("extends=mnist")


def test_a_saved_config_reads_back_equal(tmp_path):
    config = Config(
        run="007", root="yes: #1 'ü'", privacy=Privacy(epsilon=math.inf, delta=1e-10), student=Stage(ladder=[])
    )
    save_config(config, tmp_path / "config.yaml")
    assert load(base=tmp_path / "config.yaml") == config
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_differences_stay_within_the_given_sections():
    there, here = Config(privacy=Privacy(epsilon=10.0)), Config(teacher=Stage(steps=3))
    assert flatten(there)["privacy.epsilon"] == 10.0
    assert differences(there, here) == ["privacy.epsilon: 10.0 there, 1.0 here", "teacher.steps: 10 there, 3 here"]
    assert differences(there, here, ["privacy"]) == ["privacy.epsilon: 10.0 there, 1.0 here"]
    assert differences(there, here, ["privacy.delta", "student", "run"]) == []
    with pytest.raises(ValueError, match="'priv' is no key or section"):
        differences(there, here, ["priv"])
