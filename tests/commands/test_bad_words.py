"""Words of a command line that cannot be: each is refused in a line that says what and how to mend it."""

import pytest

VERBS = [
    *("sketch", "teach", "distill", "baseline", "sample", "evaluate", "ablate", "audit", "tune", "compare"),
    *("account", "ledger", "presets", "quickstart", "keys", "completion", "inspect", "auto"),
]
HUGE = "1" + "0" * 400


@pytest.mark.parametrize("verb", VERBS)
def test_an_option_that_no_verb_has(refused, verb):
    refused([verb, "--nonsense"], "--nonsense")


@pytest.mark.parametrize("verb", ["sample", "evaluate", "ablate", "audit", "compare", "ledger", "completion", "auto"])
def test_a_word_that_is_missing(refused, verb):
    refused([verb], "Missing argument")


@pytest.mark.parametrize("verb", ["tech", "", "--", "-x", "SAMPLE", "\x1b[2J", "\udcff"])
def test_a_verb_that_is_none(refused, verb):
    refused([verb, "run"])


NUMBERS = [
    ("sample run", "--num", ["0", "-1", "x", "1.5", "inf", HUGE, "1e3", "", "1000000000"]),
    ("sample run", "--seed", ["-1", "x", "nan", HUGE, "9223372036854775808"]),
    ("sample run", "--label", ["-1", "2", "x", "1000000000000"]),
    ("sample run", "--batch-size", ["0", "-5", "x", HUGE]),
    ("sample run", "--device", ["gpu", "cuda:99", "mps", "", "meta", "cpu:x", "cuda:-1"]),
    ("evaluate run", "--num", ["9", "x", HUGE]),
    ("evaluate run", "--seed", ["-1", "x"]),
    ("evaluate run", "--ensemble", ["0", "x"]),
    ("evaluate run", "--classifier", ["cnm", "", "all"]),
    ("evaluate run", "--protocol", ["quik", ""]),
    ("evaluate run", "--metrics", ["kernels", ""]),
    ("audit run", "--repetitions", ["3", "x", HUGE, "-1", "1000000000000"]),
    ("audit run", "--confidence", ["0", "1", "nan", "x", "-1", "inf"]),
    ("audit run", "--canaries", ["-1", "x", HUGE]),
    ("audit run", "--shadows", ["-1", "x"]),
    ("ledger run", "--delta", ["0", "1", "nan", "x", "-1", "inf"]),
    ("tune --config digits", "--mean", ["0", "nan", "x", "-1", "inf"]),
    ("tune --config digits", "--repetitions", ["geometrical", ""]),
    ("tune --config digits", "--num", ["9", "x"]),
    ("tune --config digits", "--score-noise", ["0", "nan", "x", "inf"]),
    ("tune --config digits", "--try", ["teacher.steps", "teacher.steps=1", "run=a,b", "nonsense=1,2", "=1,2", ""]),
    ("ablate lambda --config digits", "--num", ["9", "x"]),
    ("auto run", "--minutes", ["0", "nan", "x", "-1", "inf"]),
]


@pytest.mark.parametrize(
    ("start", "option", "value"), [(start, option, value) for start, option, values in NUMBERS for value in values]
)
def test_a_value_that_an_option_does_not_take(refused, start, option, value):
    refused([*start.split(), option, value], option.lstrip("-").split("=")[0] if option != "--try" else "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("ablate lamda", "did you mean 'lambda'"),
        ("completion tcsh", "bash, zsh, fish"),
        ("keys privcy", "did you mean 'privacy'"),
        ("keys privacy.epsilom", "did you mean 'privacy.epsilon'"),
        ("account --config digit", "did you mean 'digits'"),
        ("sample run more", "more"),
        ("presets more", "more"),
    ],
)
def test_a_name_that_nobody_knows(refused, words, says):
    refused(words.split(), says)


OVERRIDES = [  # key=value, and what must be said of it
    ("epsilon", "has no '='"),
    ("=1", "''"),
    ("privacy.epsilon=", "has no value"),
    ("privcy.epsilon=1", "did you mean 'privacy.epsilon'"),
    ("privacy=1", "whole section"),
    ("privacy.epsilon=-1", "must be in"),
    ("privacy.epsilon=nan", "must be in"),
    ("privacy.epsilon=ten", "must be a number"),
    ("privacy.epsilon=[1]", "must be"),
    ("privacy.epsilon={a: 1}", "must be"),
    ("privacy.epsilon=???", "must be"),
    (f"privacy.epsilon={HUGE}", "must be"),
    ("privacy.epsilon=${oc.env:HOME}", "privacy.epsilon"),
    ("run=${oc.env:HOME}/x", "${"),
    ("run=${nowhere}", "${"),
    ("data.path=${oc.env:HOME}", "${"),
    ("data.class_names=[${oc.env:HOME}]", "${"),
    ("data.class_names=" + "[" * 100_000, "data.class_names"),
    ("data.class_names=[a,a]", "names 1 different"),
    ("data.class_names={}", "must be"),
    ("data.class_names=*a", "must be"),
    ("data.class_names=&a [*a]", "data.class_names"),
    ("network.multipliers=[]", "network.multipliers"),
    ("network.multipliers=[0]", "network.multipliers"),
    ("network.multipliers=[1.5]", "network.multipliers"),
    ("network.multipliers=[a]", "network.multipliers"),
    ("network.channels=0", "must be in"),
    ("network.channels=1e9", "network.channels"),
    ("network.channels=1.5", "whole number"),
    ("network.blocks=1000000000", "network.blocks"),
    ("network.channels=true", "network.channels"),
    ("seed=" + HUGE, "seed="),
    ("seed=x", "whole number"),
    ("guarantee=recods", "did you mean 'records'"),
    ("method=dpdn", "did you mean 'dpdm'"),
    ("device=gpu", "use auto, cpu, cuda"),
    ("precision=float16", "precision"),
    ("teacher.data=prototype", "did you mean 'prototypes'"),
    ("data.grey=maybe", "true or false"),
    ("data.range=byte", "did you mean 'bytes'"),
    ("sampler.steps=1000000000", "sampler.steps"),
    ("sampler.sigma_max=0.01", "sampler.sigma_min"),
    ("\x1b[31mrun=1", "unknown key"),
    ("run\n=1", "unknown key"),
    ("a" * 100_000 + "=1", "unknown key"),
    ("\udcff=1", "unknown key"),
]


@pytest.mark.parametrize(("override", "says"), OVERRIDES, ids=[text[:30] for text, _ in OVERRIDES])
def test_an_override_that_cannot_be(refused, override, says):
    refused(["teach", "--config", "digits", *(["run=new"] if not override.startswith("run=") else []), override], says)
