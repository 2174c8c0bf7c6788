"""Scripts that complete a command line in a shell, from what the parser and the config know. Loads nothing heavy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class VerbWords:
    """What may follow a verb: options with their help, and keys where it takes `key=value`."""

    name: str
    about: str
    options: dict[str, str]
    takes_keys: bool


def verbs_of(group: Any) -> list[VerbWords]:
    """The verbs of a parser, Click's group of commands."""
    verbs = []
    for name, command in group.commands.items():
        options = {
            word: option.help or ""
            for option in command.params
            for word in (*option.opts, *option.secondary_opts)
            if word.startswith("--")
        }
        takes_keys = any(parameter.name == "overrides" for parameter in command.params)
        about = command.get_short_help_str(80)
        verbs.append(VerbWords(name=name, about=about, options={**options, "--help": "Help."}, takes_keys=takes_keys))
    return verbs


def bash_script(verbs: Sequence[VerbWords], keys: Sequence[str], presets: Sequence[str]) -> str:
    """For `source <(dpsad completion bash)`. Values of keys are completed as names of files are."""
    cases = "\n".join(
        f'        {verb.name}) words="{" ".join(verb.options)}{" $keys" if verb.takes_keys else ""}" ;;'
        for verb in verbs
    )
    return f"""_dpsad() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
    local keys="{_assigned(keys)}"
    COMPREPLY=()
    if [[ $before == "=" || $word == "=" ]]; then return; fi
    if [[ $before == "--config" ]]; then
        COMPREPLY=($(compgen -W "{" ".join(presets)}" -- "$word"))
        return
    fi
    if (( COMP_CWORD == 1 )); then words="{" ".join(verb.name for verb in verbs)} --help --version"; fi
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    if [[ ${{#COMPREPLY[@]}} == 1 && ${{COMPREPLY[0]}} == *= ]]; then compopt -o nospace; fi
}}
complete -o default -F _dpsad dpsad
"""


def zsh_script(verbs: Sequence[VerbWords], keys: Sequence[str], presets: Sequence[str]) -> str:
    """For a file `_dpsad` in a folder of `fpath`, or `source <(dpsad completion zsh)`."""
    with_keys = "; compadd -S '' -- $=keys"
    cases = "\n".join(
        f"        {verb.name}) compadd -- {' '.join(verb.options)}{with_keys if verb.takes_keys else ''} ;;"
        for verb in verbs
    )
    return f"""#compdef dpsad
_dpsad() {{
    local keys="{_assigned(keys)}"
    if [[ $words[CURRENT] == *=* ]]; then compset -P '*='; _files; return; fi
    if [[ $words[CURRENT-1] == --config ]]; then compadd -- {" ".join(presets)}; _files; return; fi
    if (( CURRENT == 2 )); then compadd -- {" ".join(verb.name for verb in verbs)} --help --version; return; fi
    case $words[2] in
{cases}
    esac
    _files
}}
if [[ $funcstack[1] == _dpsad ]]; then _dpsad "$@"; else compdef _dpsad dpsad; fi
"""


def fish_script(verbs: Sequence[VerbWords], keys: Sequence[str], presets: Sequence[str]) -> str:
    """For `dpsad completion fish | source`, or a file in ~/.config/fish/completions."""
    lines = ["complete -c dpsad -n __fish_use_subcommand -l version -d 'Print the version.'"]
    for verb in verbs:
        lines.append(f"complete -c dpsad -f -n __fish_use_subcommand -a {verb.name} -d {_quoted(verb.about)}")
        seen = f"complete -c dpsad -n '__fish_seen_subcommand_from {verb.name}'"
        lines += [f"{seen} -l {word[2:]} -d {_quoted(about)}" for word, about in verb.options.items()]
        if verb.takes_keys:
            lines.append(f"{seen} -a '{_assigned(keys)}'")
        if "--config" in verb.options:
            lines.append(f"{seen} -l config -a '{' '.join(presets)}'")
    return "\n".join(lines) + "\n"


SHELLS = {"bash": bash_script, "zsh": zsh_script, "fish": fish_script}


def _assigned(keys: Sequence[str]) -> str:
    return " ".join(f"{key}=" for key in keys)


def _quoted(text: str) -> str:
    """A text as fish reads it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
