"""Files and folders that are not what a command needs: refused in a line that names them, and nothing is changed."""

import itertools
import json
import os
import random
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from dpsad.runtime.checkpoint import save_atomic

DEEP = 100_000


def _missing(path):
    path.unlink(missing_ok=True)


def _folder(path):
    _missing(path)
    path.mkdir()


def _empty(path):
    path.write_bytes(b"")


def _fifo(path):
    _missing(path)
    os.mkfifo(path)


def _socket(path):
    _missing(path)
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(path.name)
    os.chdir(here)


def _link_to(aim):
    def make(path):
        _missing(path)
        path.symlink_to(aim)

    return make


def _bytes(content):
    return lambda path: path.write_bytes(content)


NO_FILES = {  # what may lie where a file is expected
    "missing": _missing,
    "folder": _folder,
    "empty": _empty,
    "fifo": _fifo,
    "socket": _socket,
    "endless": _link_to("/dev/zero"),
    "memory": _link_to("/proc/self/mem"),
    "dangling": _link_to("nowhere"),
    "circle": _link_to("file"),
    "noise": _bytes(bytes(range(256))),
}
DISTILL = ("distill", "--config", "digits", "run=new", "refine.steps=0")
CLASS_MEANS = ("baseline", "run=new", "method=class-means", "data.source=npz")
PLACES = {  # a file that a command reads -> the command
    "file": ("account", "--config", "file"),
    "run/config.yaml": ("teach", "run=run", "privacy.epsilon=3"),
    "run/release/config.yaml": ("sample", "run"),
    "run/release/student.safetensors": ("sample", "run"),
    "run/release/privacy.json": ("sample", "run"),
    "teacher.pt": (*DISTILL, "teacher.path=teacher.pt"),
    "pretrained.pt": (
        "baseline",
        "--config",
        "digits",
        "run=new",
        "method=dp-diffusion",
        "pretrain.path=pretrained.pt",
    ),
    "images.npz": (*CLASS_MEANS, "data.path=images.npz"),
    "weights.pth": ("evaluate", "run", "--inception", "weights.pth", "--no-compare", "--num", "10"),
}
READ_BUT_NOT_NEEDED = {("run/config.yaml", "missing"), ("run/config.yaml", "dangling")}


@pytest.mark.parametrize(
    ("place", "kind"), [pair for pair in itertools.product(PLACES, NO_FILES) if pair not in READ_BUT_NOT_NEEDED]
)
def test_what_lies_where_a_file_is_needed(refused, folder, monkeypatch, place, kind):
    monkeypatch.setattr("dpsad.evaluation.features.train_reference", None)
    path = folder / place
    NO_FILES[kind](path)
    refused(PLACES[place], path.name)


@pytest.mark.parametrize("verb", ["sample", "evaluate", "audit", "ledger", "compare"])
@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "fifo", "circle", "endless"])
def test_what_lies_where_a_run_folder_is_needed(refused, folder, verb, kind):
    NO_FILES[kind if kind != "folder" else "missing"](folder / "file")
    if kind == "folder":
        (folder / "file").mkdir()
    refused([verb, "file"], "file")


READ = ("sample", "evaluate", "audit", "ledger", "compare", "account --config", "inspect", "auto")
WRITTEN = ("teach run=", "quickstart run=")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        *itertools.product((*READ, *WRITTEN), ["x" * 5000, "run/config.yaml/below"]),
        *itertools.product(READ, ["~nobody-of-that-name/x"]),  # a run folder of that name can be made
    ],
)
def test_a_name_that_no_file_can_have(refused, words, name):
    start, equals, _ = words.partition("run=")
    refused([*start.split(), equals + name])


OUTS = {
    "full.npz": lambda path: path.write_bytes(b"x"),
    "full": lambda path: (path.mkdir(), (path / "x").write_bytes(b"x")),
    "run/config.yaml/x.npz": lambda path: None,
    "run/config.yaml/x": lambda path: None,
    "x" * 300: lambda path: None,
    "x" * 300 + ".npz": lambda path: None,
    "/proc/nowhere/x.npz": lambda path: None,
    "/proc/x": lambda path: None,
    "/dev/full": lambda path: None,
    "fifo.npz": _fifo,
    "folder.npz": _folder,
}


@pytest.mark.parametrize(
    ("verb", "out"),
    [*itertools.product(["sample"], OUTS), *itertools.product(["compare"], sorted(OUTS.keys() - {"folder.npz"}))],
)
def test_a_place_that_nothing_can_be_written_to(refused, folder, verb, out):
    OUTS[out](folder / out)
    refused([verb, "run", "--out", out])


@pytest.mark.parametrize("verb", ["sample", "compare"])
def test_a_disk_that_is_full(refused, monkeypatch, verb):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "samples")

    monkeypatch.setattr("pathlib.Path.mkdir", full)
    refused([verb, "run", "--out", "new"], "No space left", "samples")


@pytest.mark.parametrize(
    "words", [("sample", "run"), ("ledger", "run"), ("account", "--config", "run/config.yaml"), ("compare", "run")]
)
def test_a_file_that_may_not_be_read(refused, monkeypatch, words):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied", "run/config.yaml")

    monkeypatch.setattr("pathlib.Path.read_text", denied)
    monkeypatch.setattr("pathlib.Path.read_bytes", denied)
    refused(words, "Permission denied", "config.yaml")


YAMLS = {
    "deep flow": "a: " + "[" * DEEP,
    "deep blocks": "\n".join(" " * level + "a:" for level in range(1500)),
    "bomb": "a: &a [x, x]\n" + "\n".join(f"b{n}: &b{n} [*{'a' if n == 0 else f'b{n - 1}'}, *a]" for n in range(60)),
    "alias": "a: &a [*a]",
    "no mapping": "- a\n- b\n",
    "a text": "hello",
    "open": "a: [1, 2",
    "tab": "a:\n\tb: 1",
    "tag": "a: !!python/object/apply:os.system [ls]",
    "unknown key": "nonsense: 1",
    "number for a section": "network: 3",
    "not in UTF-8": b"a: \xff\xfe",
    "NUL": b"a: \x00",
    "a number as key": "1: 2",
    "no text as key": "[a, b]: 2",
    "null as key": "null: 1",
    "environment": "network:\n  kind: ${oc.env:HOME}\n",
    "environment in a list": "class_names: ['${oc.env:HOME}']\ndata: {class_names: ['${oc.env:HOME}']}\n",
    "decode": "network: ${oc.decode:'{}'}\n",
    "interpolation": "network:\n  channels: ${network.blocks}\n",
    "in a key": "${oc.env:HOME}: 1",
    "not closed": "network: {kind: '${'}\n",
    "question marks": "network:\n  channels: ???\n",
    "endless number": "network:\n  channels: 1" + "0" * 5000,
    "channels": "network:\n  channels: 1000000000\n",
    "NaN": "network:\n  channels: .nan\n",
    "text for a number": "network:\n  channels: many\n",
    "time": "network:\n  channels: 2001-01-01\n",
    "large": "# " + "x" * 20_000_000,
    "itself": "extends: file\nkind: x\n",
}
YAML_PLACES = {name: PLACES[name] for name in ("file", "run/config.yaml", "run/release/config.yaml")}


@pytest.mark.parametrize("place", YAML_PLACES)
@pytest.mark.parametrize("kind", YAMLS)
def test_a_file_that_is_no_config(refused, folder, monkeypatch, place, kind):
    monkeypatch.setenv("HOME", "/secret-of-this-machine")
    content = YAMLS[kind]
    (folder / place).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(("teach", "--config", "file", "run=new") if place == "file" else YAML_PLACES[place])


JSONS = {
    "deep": "[" * DEEP,
    "deep objects": '{"a":' * DEEP,
    "a list": "[]",
    "a text": '"formal"',
    "nothing": "{}",
    "cut": '{"formal": true, "eps',
    "not in UTF-8": b'{"a": "\xff"}',
    "null": "null",
    "endless number": '{"epsilon": 1' + "0" * 5000 + "}",
}
STATEMENTS = {  # key -> what it is not
    "formal": ["yes", None],
    "epsilon": ["1", float("nan"), float("inf"), -1, [1], None],
    "delta": ["1", float("nan"), 2, -1, None],
    "guarantee": [3, None],
    "events": [3, None, [3], [{}], [{"noise_multiplier": "x"}]],
    "reasons": ["x", None, [1]],
    "not_covered": [3, None],
    "weights_sha256": [3],
}


def change_statement(folder, key, value):
    path = folder / "run" / "release" / "privacy.json"
    statement = json.loads(path.read_text())
    path.write_text(json.dumps({**statement, key: value}))


@pytest.mark.parametrize("verb", ["sample", "ledger", "compare"])
@pytest.mark.parametrize("kind", JSONS)
def test_a_file_that_is_no_statement(refused, folder, verb, kind):
    content = JSONS[kind]
    path = folder / "run" / "release" / "privacy.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused([verb, "run"], "run")


@pytest.mark.parametrize("verb", ["sample", "ledger"])
@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in STATEMENTS.items() for value in values])
def test_a_statement_that_says_what_cannot_be(refused, folder, verb, key, value):
    change_statement(folder, key, value)
    refused([verb, "run"], "privacy.json")


def test_a_statement_of_other_weights(refused, folder):
    change_statement(folder, "weights_sha256", "0" * 64)
    refused(["sample", "run"], "privacy.json")


@pytest.mark.parametrize("key", ["formal", "epsilon", "delta", "guarantee", "events", "reasons", "not_covered"])
def test_a_statement_that_lacks_a_line(refused, folder, key):
    path = folder / "run" / "release" / "privacy.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != key}))
    refused(["sample", "run"], "privacy.json", key)


@pytest.mark.parametrize(
    ("name", "kind"),  # an audit may be without findings
    [
        *itertools.product(["evaluation.json"], JSONS),
        *itertools.product(["audit.json"], sorted(JSONS.keys() - {"nothing"})),
    ],
)
def test_a_record_of_a_run_that_is_none(refused, folder, name, kind):
    content = JSONS[kind]
    (folder / "run" / "private" / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(["compare", "run"], "run", name)


HUGE = 1_000_000_000
SIZES = {
    "network.channels": HUGE,
    "network.multipliers": [HUGE],
    "network.blocks": HUGE,
    "network.patch": HUGE,
    "network.label_tokens": HUGE,
    "image_shape": [1, HUGE, HUGE],
    "sampler.steps": HUGE,
    "num_prototypes": HUGE,
    "spread_dim": HUGE,
    "spread_groups": HUGE,
    "autoencoder.channels": HUGE,
    "autoencoder.latent_channels": HUGE,
    "autoencoder.patch": HUGE,
    "generator.noise_dim": HUGE,
    "generator.hidden": HUGE,
    "generator.channels": HUGE,
    "guide_directions": [HUGE],
    "attempts": HUGE,
}
KINDS = {
    "num_prototypes": "images",
    "spread_dim": "images",
    "spread_groups": "images",
    "autoencoder": "latent",
    "generator": "generator",
}


def change_config(folder, values):
    from dpsad.runtime.config_files import read_mapping

    path = folder / "run" / "release" / "config.yaml"
    config = dict(read_mapping(path))
    for key, value in values.items():
        section, dot, name = key.rpartition(".")
        (config[section] if dot else config)[name] = value
    path.write_text(json.dumps(config))


@pytest.mark.parametrize("key", SIZES)
def test_a_release_of_a_size_that_no_memory_holds(refused, folder, key):
    more: dict = {"kind": next((kind for start, kind in KINDS.items() if key.startswith(start)), "denoiser")}
    more |= {"network.attention": True} if "tokens" in key else {}
    more |= {"guide_features": ["scattering"]} if key in ("guide_directions", "attempts") else {}
    more |= {"spread_dim": 3, "num_prototypes": 2} if key == "spread_groups" else {}
    change_config(folder, {**more, key: SIZES[key]})
    refused(["sample", "run"], "release")


@pytest.mark.parametrize(
    "values",
    [
        {"network.channels": 100_000},
        {"network.channels": 16},
        {"image_shape": [3, 8, 8]},
        {"image_shape": [1, 8]},
        {"image_shape": []},
        {"image_shape": [0, 8, 8]},
        {"class_names": []},
        {"class_names": ["a", "b", "c"]},
        {"class_names": [["a"], ["b"]]},
        {"kind": "generator"},
        {"kind": "images"},
        {"kind": "nonsense"},
        {"guide_features": ["scattering"]},
        {"guide_features": ["nonsense"], "guide_directions": [3]},
        {"guide_directions": [3], "guide_features": ["scattering", "samples"]},
        {"parameterisation": "nonsense"},
        {"network.kind": "transformer"},
        {"sampler.method": "nonsense"},
        {"network.multipliers": [1] * 1000},
    ],
    ids=str,
)
def test_a_release_whose_config_is_of_another(refused, folder, values):
    change_config(folder, values)
    refused(["sample", "run"], "release")


def _weights(change):
    def make(path):
        weights = load_file(path)
        save_file(change(weights), path)

    return make


def first_changed(value):
    def change(weights):
        name = next(iter(weights))
        return {**weights, name: value(weights[name])}

    return change


WEIGHTS = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "cut in the header": lambda path: path.write_bytes(path.read_bytes()[:50]),
    "seven bytes": lambda path: path.write_bytes(b"\x01" * 7),
    "endless header": lambda path: path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:]),
    "deep header": lambda path: path.write_bytes(DEEP.to_bytes(8, "little") + b"[" * DEEP),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x" * 100),
    "NaN": _weights(first_changed(lambda tensor: tensor * torch.nan)),
    "infinite": _weights(first_changed(lambda tensor: tensor + torch.inf)),
    "one missing": _weights(lambda weights: dict(list(weights.items())[1:])),
    "one more": _weights(lambda weights: {**weights, "nonsense": torch.zeros(1)}),
    "other shapes": _weights(lambda weights: {name: tensor.flatten() for name, tensor in weights.items()}),
    "whole numbers": _weights(lambda weights: {name: tensor.to(torch.int64) for name, tensor in weights.items()}),
    "none": _weights(lambda weights: {}),
    "a pickle": lambda path: torch.save({"a": torch.zeros(1)}, path),
    "other weights": _weights(first_changed(lambda tensor: tensor + 1)),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_are_not_those_of_the_release(refused, folder, kind):
    WEIGHTS[kind](folder / "run" / "release" / "student.safetensors")
    refused(["sample", "run"], "release")


class Code:
    def __reduce__(self):
        return (os.mkdir, ("made-by-a-pickle",))


CHECKPOINTS = {
    "nothing": {},
    "a list": [],
    "a tensor": torch.zeros(3),
    "a number": 3,
    "of another kind": {"step": 3, "parts": {}},
    "a network of another kind": {"network": 3, "model": {}, "provenance": "released", "subject": {}},
    "no subject": {"network": {}, "model": {}, "provenance": "released"},
    "a subject of another kind": {"network": {}, "model": {}, "provenance": "released", "subject": []},
    "code": Code(),
}


@pytest.mark.parametrize("key", ["teacher.path", "pretrain.path"])
@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_model_file_that_holds_something_else(refused, folder, key, kind):
    torch.save(CHECKPOINTS[kind], folder / "file.pt")
    words = PLACES["teacher.pt" if key == "teacher.path" else "pretrained.pt"][:-1]
    refused([*words, f"{key}=file.pt"], "file.pt")


@pytest.mark.parametrize("name", ["sketch.pt", "teacher.pt", "teach.checkpoint"])
@pytest.mark.parametrize("kind", ["nothing", "a tensor", "a network of another kind", "code"])
def test_what_a_run_keeps_is_something_else(refused, folder, name, kind):
    torch.save(CHECKPOINTS[kind], folder / "run" / "private" / name)
    shutil.rmtree(folder / "run" / "release")
    verb = "distill" if name == "teacher.pt" else "sketch" if name == "sketch.pt" else None
    refused([verb, "run=run"] if verb else ["ledger", "run"], name)


ARCHIVES = {
    "pickled": {"images": np.array([{}]), "labels": np.array([0])},
    "no images": {"labels": np.arange(3)},
    "flat": {"images": np.zeros(3, np.uint8), "labels": np.arange(3)},
    "texts": {"images": np.array(["a", "b"]), "labels": np.arange(2)},
    "none": {"images": np.zeros((0, 8, 8), np.uint8), "labels": np.zeros(0, int)},
    "labels of another length": {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.arange(3)},
    "labels that are floats": {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.arange(4) / 2},
    "labels below zero": {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.full(4, -1)},
    "complex": {"images": np.zeros((4, 8, 8), complex), "labels": np.arange(4)},
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_that_holds_no_records(refused, folder, kind):
    np.savez(folder / "images.npz", **ARCHIVES[kind])
    refused([*CLASS_MEANS, "data.path=images.npz"], "images.npz")


FLIPS = 24
SAVED = {
    "run/release/student.safetensors": ("sample", "run", "--num", "4", "--out", "new.npz"),
    "run/release/config.yaml": ("sample", "run", "--num", "4", "--out", "new.npz"),
    "run/release/privacy.json": ("ledger", "run"),
    "images.npz": (*CLASS_MEANS, "data.path=images.npz", "privacy.delta=1e-3"),
    "images/a/0.png": (*CLASS_MEANS[:-1], "data.source=folder", "data.path=images", "privacy.delta=1e-3"),
    "run/private/sketch.pt": ("ledger", "run"),
}


@pytest.mark.parametrize("name", SAVED)
def test_bytes_that_were_flipped_or_cut_make_no_traceback(folder, run_words, name):
    """Whatever the byte, the command ends well, or in a line that says why not; nothing hangs or breaks."""
    np.savez(folder / "images.npz", images=np.zeros((8, 8, 8), np.uint8), labels=np.arange(8) % 2)
    for place in range(8):
        (folder / "images" / "ab"[place % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), place, np.uint8)).save(folder / "images" / "ab"[place % 2] / f"{place}.png")
    if "sketch" in name:
        shutil.rmtree(folder / "run" / "release")
        save_atomic({"ledger": _ledger_state(), "prototypes": {}}, folder / name)
    draw, whole, refusals = random.Random(name), (folder / name).read_bytes(), 0
    for number in range(FLIPS):
        place = draw.randrange(len(whole))
        flipped = bytes([whole[place] ^ (1 << draw.randrange(8))])
        (folder / name).write_bytes(whole[:place] + (flipped + whole[place + 1 :] if number % 4 else b""))
        code, _, err = run_words(SAVED[name])
        assert code in (0, 2), err
        assert "Traceback" not in err
        if code == 2:
            refusals += 1
            assert err.rstrip().splitlines()[-1].startswith("error: "), err
        for made in ("new", "new.npz"):
            shutil.rmtree(folder / made) if (folder / made).is_dir() else _missing(folder / made)
    assert refusals >= FLIPS // 5


STAGES = {  # a checkpoint of a stage that has released something -> the command that goes on from it
    "class_means.checkpoint": (*CLASS_MEANS, "run=own", "data.path=images.npz", "privacy.delta=1e-3"),
    "dp_merf.checkpoint": (
        "baseline", "run=own", "method=dp-merf", "data.source=npz", "data.path=images.npz", "privacy.delta=1e-3",
        "dp_merf.num_features=10", "dp_merf.step_features=4", "dp_merf.steps=1", "dp_merf.batch_size=4",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STAGES)
def test_a_checkpoint_whose_bytes_were_flipped_or_cut_is_kept_and_released_from_by_nobody(folder, run_words, name):
    """Going on ends as if nothing had happened, or in a line with what to do; no charge is forgotten either way."""
    np.savez(folder / "images.npz", images=np.arange(8 * 64, dtype=np.uint8).reshape(8, 8, 8), labels=np.arange(8) % 2)
    assert run_words(STAGES[name])[0] == 0
    own, events = folder / "own", json.loads((folder / "own/release/privacy.json").read_text())["events"]
    shutil.rmtree(own / "release")
    shutil.copytree(own, folder / "whole")
    draw, whole, refusals = random.Random(name), (own / "private" / name).read_bytes(), 0
    for number in range(FLIPS):
        shutil.rmtree(own)
        shutil.copytree(folder / "whole", own)
        place = draw.randrange(len(whole))
        flipped = bytes([whole[place] ^ (1 << draw.randrange(8))])
        broken = whole[:place] + (flipped + whole[place + 1 :] if number % 4 else b"")
        (own / "private" / name).write_bytes(broken)
        code, _, err = run_words(STAGES[name])
        assert code in (0, 2), err
        assert "Traceback" not in err
        if code == 0:
            assert json.loads((own / "release/privacy.json").read_text())["events"] == events
            continue
        refusals += 1
        said = err.rstrip().splitlines()[-1]
        assert said.startswith("error: "), err
        assert any(mend in said for mend in ("restore it from a copy", "another run=...", "name a file")), said
        assert (own / "private" / name).read_bytes() == broken
        assert not (own / "release").exists()
    assert refusals >= FLIPS // 4


def _ledger_state():
    from dpsad.privacy.ledger import Ledger

    return Ledger(1.0, 1e-5).state_dict()


@pytest.mark.parametrize("aim", [Path("/proc/self/environ"), Path("/etc/hostname")])
def test_the_environment_is_never_in_what_is_said(folder, run_words, monkeypatch, aim):
    monkeypatch.setenv("SECRET_OF_A_TEST", "a-secret")
    (folder / "run" / "release" / "config.yaml").write_text("kind: ${oc.env:SECRET_OF_A_TEST}\n")
    _, out, err = run_words(["sample", "run"])
    assert "a-secret" not in out + err
