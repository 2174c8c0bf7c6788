"""The file that `dpsad keys` reads."""

from dpsad.commands.declared_keys import declared_keys
from dpsad.commands.keys import all_keys


def test_the_file_of_keys_says_what_the_dataclasses_say():
    assert all_keys() == list(declared_keys()), "run `make keys`"
