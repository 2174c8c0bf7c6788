"""Commands killed wherever a release is drawn, a file replaced or a line written, and gone on with.

With fixed noise all that is kept is that of an uninterrupted run. With secret noise a release that is drawn again is
the same. Real kills, at any moment, and full disks in every stage are in benchmarks/kill.py.
"""

import json
import shutil
import stat

import pytest
from safetensors.torch import load_file

from dpsad.privacy import ledger
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime import log, whole_files
from dpsad.runtime.checkpoint import load
from dpsad.runtime.run_folder import Run
from dpsad.runtime.state_fingerprint import fingerprint_of_state

DATA = ("--config", "digits", "data.limit=120", "privacy.num_records=120", "privacy.delta=1e-3", "network.channels=8",
        "network.multipliers=[1]", "sampler.steps=1", "sampler.method=ddim", "teacher.steps=2", "student.steps=0",
        "refine.steps=0", "prototypes.per_class=[1]", "prototypes.rounds=[2]", "prototypes.shares=[1.0]")  # fmt: skip
STAGES = {  # what comes before, and the command
    "sketch": ((), ("sketch",)),
    "shards": ((), ("sketch", "guarantee=shards", "shards.num_shards=6", "shards.teacher=denoisers", "shards.steps=2",
                    "shards.batch_size=2", "shards.queries=2")),
    "refine": (("teach",), ("distill", "refine.steps=2", "refine.batch_size=20", "refine.noise_multiplicity=1")),
    "nominal": (("teach",), ("distill", "guarantee=nominal", "student.steps=2", "student.batch_size=8",
                             "discriminator.channels=8")),
    "guide": (("teach",), ("distill", "guide.share=0.3", "guide.steps=2", "guide.images=20",
                           "guide.features=[random]", "matching.share=0.2", "shorten.steps=1", "shorten.images=20",
                           "shorten.batch_size=4")),
    "dpdm": ((), ("baseline", "method=dpdm", "baseline.steps=2", "baseline.batch_size=20",
                  "baseline.noise_multiplicity=1")),
    "dp-merf": ((), ("baseline", "method=dp-merf", "dp_merf.num_features=40", "dp_merf.step_features=20",
                     "dp_merf.steps=50", "dp_merf.batch_size=10", "dp_merf.generator.channels=2")),
    "dp-kernel": ((), ("baseline", "method=dp-kernel", "dp_kernel.rounds=2", "dp_kernel.landmarks=3",
                       "dp_kernel.steps=2", "dp_kernel.batch_size=20", "dp_kernel.generator.channels=2")),
    "feta-pro": ((), ("baseline", "method=feta-pro", "dp_feta.central_images=2", "dp_feta.steps=2",
                      "dp_feta.batch_size=4", "dp_merf.num_features=40", "dp_merf.step_features=20", "dp_merf.steps=2",
                      "dp_merf.batch_size=10", "dp_merf.generator.channels=2", "feta_pro.steps=2",
                      "feta_pro.batch_size=4", "baseline.steps=2", "baseline.batch_size=20",
                      "baseline.noise_multiplicity=1")),
    "gs-wgan": ((), ("baseline", "method=gs-wgan", "guarantee=shards", "gs_wgan.num_shards=6",
                     "gs_wgan.shards_per_step=3", "gs_wgan.steps=2", "gs_wgan.batch_size=4",
                     "gs_wgan.critic_batch_size=2", "gs_wgan.critic_steps=1", "gs_wgan.warm_steps=1",
                     "gs_wgan.generator.channels=2")),
    "class-means": ((), ("baseline", "method=class-means")),
}  # fmt: skip


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture(autouse=True, scope="module")
def accounted_once():
    """Every attempt asks the accountant the same, which takes most of its time."""
    known = {}
    with pytest.MonkeyPatch.context() as patch:
        for ask in (ledger.calibrated, ledger.epsilon_of):

            def answer(*told, ask=ask, **named):
                key = repr((ask.__name__, told, named))
                known[key] = known[key] if key in known else ask(*told, **named)
                return known[key]

            patch.setattr(ledger, ask.__name__, answer)
        yield


@pytest.fixture
def moments(monkeypatch):
    """What a command does that a kill may come before or after: `left` of them go by, then it is killed,
    or where `until_drawn` is set, once the first release is drawn.

    `drawn` has what every planned release was drawn as.
    """

    class Moments:
        def __init__(self):
            self.left, self.until_drawn, self.drawn = 10**9, False, {}

        def passes(self):
            self.left -= 1
            if self.left < 0 or (self.until_drawn and self.drawn):
                raise Killed

    moments = Moments()
    release, replace, append = Sanitizer.release, whole_files.os.replace, log._append_line

    def released(self, *told):
        sums = release(self, *told)
        moments.drawn.setdefault((self.plan.purpose, self.num_made), set()).add(fingerprint_of_state(sums))
        moments.passes()
        return sums

    def replaced(*paths):
        moments.passes()
        replace(*paths)
        moments.passes()

    def appended(*told):
        moments.passes()
        append(*told)

    monkeypatch.setattr(Sanitizer, "release", released)
    monkeypatch.setattr(whole_files.os, "replace", replaced)
    monkeypatch.setattr(log, "_append_line", appended)
    return moments


def plain(state):
    """A state without the random names of charges, and lines that are written."""
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items() if key not in ("charge_id", "told", "fingerprint")}
    return [plain(value) for value in state] if isinstance(state, list | tuple) else state


def kept(run):
    """Public lines, and fingerprints of all else that a finished run holds."""
    lines = (run.path / "metrics.jsonl").read_text() if (run.path / "metrics.jsonl").exists() else ""
    states = {file.name: plain(load(file)) for kind in ("*.pt", "*.checkpoint") for file in run.private.glob(kind)}
    if run.statement.exists():
        states["privacy.json"] = plain(json.loads(run.statement.read_text()))
        states["weights"] = load_file(run.release / "student.safetensors")
    return lines, {name: fingerprint_of_state(state) for name, state in states.items()}


def steps_told(run):
    file = run.path / "metrics.jsonl"
    lines = map(json.loads, file.read_text().splitlines()) if file.exists() else ()
    return [line["step"] for line in lines if "step" in line]


def steps_saved(run):
    return max((load(file)["step"] for file in run.private.glob("*.checkpoint")), default=0)


@pytest.mark.parametrize(
    ("stage", "noise"),
    [*((stage, ["privacy.noise_seed=3"]) for stage in STAGES), ("dpdm", [])],
    ids=[*STAGES, "dpdm by secret noise"],
)
def test_a_killed_command_goes_on_as_if_it_had_not_been_killed(stage, noise, command, moments, tmp_path):
    before, words = STAGES[stage]
    whole, run = Run(tmp_path / "whole"), Run(tmp_path / "run")
    teacher = ["teacher.data=private"] if stage == "nominal" else []
    told = (*DATA, *noise, *teacher, *words[1:])
    for verb in before:
        assert command(verb, *told, f"run={whole.path}")[0] == 0
    if before:
        shutil.copytree(whole.path, run.path)
    moments.drawn.clear()
    code, printed = command(words[0], *told, f"run={whole.path}")
    assert code == 0, printed
    first, kills = {key: len(was) for key, was in moments.drawn.items()}, 0
    moments.drawn.clear()
    while True:  # each time it gets a bit further
        moments.left = 4 * kills + 1
        try:
            code, printed = command(words[0], *told, f"run={run.path}")
        except Killed:
            kills += 1
            assert max(steps_told(run), default=0) <= steps_saved(run)
            continue
        break
    assert code == 0, printed
    assert kills > 1
    assert {key: len(was) for key, was in moments.drawn.items()} == first, "no release was drawn as two"
    assert len(set(steps_told(run))) == len(steps_told(run))
    if noise:
        assert kept(run) == kept(whole)
    assert not [path for path in run.path.rglob("*") if whole_files.is_temporary(path)]


def test_a_sketch_is_charged_on_disk_before_it_is_drawn_and_its_key_goes_with_its_end(command, moments, tmp_path):
    run = Run(tmp_path / "run")
    words = ("sketch", *DATA, "data.limit=0", "data.share=0.1", f"run={run.path}")
    begun = run.checkpoint("sketch")
    moments.until_drawn = True
    with pytest.raises(Killed):
        command(*words)
    assert moments.drawn
    saved = load(begun)["parts"]
    assert [entry["num_releases"] for entry in saved["ledger"]["entries"]] == [2]
    assert len(bytes.fromhex(saved["randomness"]["key"])) == 32
    assert stat.S_IMODE(begun.stat().st_mode) == 0o600
    assert "together: epsilon" in command("ledger", run.path)[1]
    moments.until_drawn = False
    assert command(*words)[0] == 0
    assert not begun.exists()
    assert all(len(was) == 1 for was in moments.drawn.values())


def test_a_full_disk_ends_a_stage_with_a_word_on_what_to_do_and_the_same_command_goes_on(command, tmp_path):
    resource = pytest.importorskip("resource")
    run = Run(tmp_path / "run")
    words = (STAGES["dp-merf"][1][0], *DATA, *STAGES["dp-merf"][1][1:], f"run={run.path}")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most in (10, 5_000, 20_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        try:
            code, printed = command(*words)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        errors = [line for line in printed.splitlines() if line.startswith("error: ")]
        assert (code, len(errors)) == (2, 1), printed
        assert "File too large; " in errors[0]
        assert "run the same command again" in errors[0]
        assert not [path for path in run.path.rglob("*") if whole_files.is_temporary(path)]
    code, printed = command(*words)
    assert code == 0, printed


def test_what_a_killed_process_left_half_written_is_harmless_and_goes(command, tmp_path):
    """In the first milliseconds there is nothing else; later it lies beside what is whole."""
    run = Run(tmp_path / "run")
    words = (STAGES["class-means"][1][0], *DATA, *STAGES["class-means"][1][1:], f"run={run.path}")
    run.private.mkdir(parents=True)
    files = [run.path / ".config.yaml.part", run.private / ".class_means.checkpoint.part"]
    files[0].write_text("met")
    code, printed = command(*words)
    assert code == 0, printed
    shutil.rmtree(run.release)
    for file in files:
        file.write_text("half")
    (run.path / ".release.part").mkdir()
    (run.path / ".release.part" / "config.yaml").write_text("half")
    (run.path / ".hidden").write_text("mine")
    code, printed = command(*words)
    assert code == 0, printed
    assert sorted(path.name for path in run.path.iterdir()) == [
        ".hidden", "config.yaml", "private", "release"
    ]  # fmt: skip
    assert not list(run.private.glob(".*"))
