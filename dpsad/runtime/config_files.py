"""Between dataclasses and what people type: YAML files, `key=value` and presets. Knows no key of the project."""

from __future__ import annotations

import hashlib
import io
import json
import os
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dpsad.errors import nearest, require_file
from dpsad.privacy.ranges import require_within
from dpsad.runtime.presets import PRESETS
from dpsad.runtime.whole_files import write_whole

T = TypeVar("T")

EXTENDS = "extends"  # a line of a file, never of a dataclass
MAX_BYTES, MAX_LEVELS = 1_000_000, 30  # of a file; what one writes has a thousandth of the one and three of the other
_TYPE_NAMES = {float: "a number", int: "a whole number", bool: "true or false", str: "a text", type(None): "null"}


def load_config(
    schema: type[T],
    *,
    base: Path | Mapping[str, Any] | None,
    overrides: Sequence[str],
    note: Callable[[str], object] | None = None,
) -> T:
    """Fills a dataclass from its defaults, then a file, then the command line; the later wins, value by value.

    A file may begin at another's values: `extends: NAME`, a preset or a path relative to the file, and so on.

    Args:
        schema: a dataclass, frozen or not; fields that are dataclasses are its sections.
        base: a YAML file of sections and values, these themselves, or None.
        overrides: `section.key=value` each; `null` is None, `inf` a number, and a text stands as it is.
        note: receives a line for each override whose name is out of date. A dataclass tells such names by
            `RENAMED_KEYS` (old name of a field -> its name) and `RENAMED_VALUES` (name of a field -> old value ->
            value); files may have them, too. Keys of its `PATH_KEYS` are paths, in which ~ is the user's own folder.

    An interpolation such as ${oc.env:HOME} is refused wherever it stands: a file from elsewhere must not read what is
    here, and a text that is another once it is read is no text.

    Raises:
        ValueError: an unknown key, a value of the wrong type, a value missing, a file that is no YAML mapping,
            extends what is not there or itself, a number outside the range that its field declares (see
            `dpsad.privacy.ranges`), or whatever the dataclasses' own checks raise.
    """
    keys, renamed = keys_of(schema), _Renamed(schema)
    config = OmegaConf.structured(schema)
    for section in ("", *(key for key, hint in keys.items() if is_dataclass(hint))):
        OmegaConf.set_readonly(OmegaConf.select(config, section) if section else config, False)
    files = _with_bases(base) if isinstance(base, Path) else [("the settings", base or {})]
    for file, mapping in files:
        for key, value in renamed.pairs(_pairs(mapping, renamed.sections(keys))):
            _require_known(key, keys, str(file))
            try:
                _assign(config, key, value, keys, shown=value)
            except ValueError as error:
                raise ValueError(f"{file}: {error}") from None
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"{override!r} in the command line has no '='; write {key}=VALUE")
        if not text:
            raise ValueError(f"{override} has no value; write {key}=VALUE, or leave it out")
        ((key, text),) = renamed.pairs([(key, text)], note)
        _require_known(key, keys, "the command line")
        _assign(config, key, _parse(text, keys[key]), keys, shown=text)
    try:
        for key in getattr(schema, "PATH_KEYS", ()):
            if (value := OmegaConf.select(config, key)) is not None:
                OmegaConf.update(config, key, os.path.expanduser(value))
        for key, hint in keys_of(schema, with_ranges=True).items():  # here, since a section does not know where it is
            if (value := OmegaConf.select(config, key)) is not None:
                require_within(key, value, hint)
        return OmegaConf.to_object(config)  # type: ignore[return-value]
    except MissingMandatoryValue as error:
        raise ValueError(f"{error.full_key} has no value; pass {error.full_key}=VALUE") from None
    except OmegaConfBaseException as error:
        raise ValueError(f"{error.full_key}: {str(error).splitlines()[0]}") from None


def find_config(name_or_path: str | Path, folder: Path = Path()) -> Path:
    """The file at a path, relative to `folder`, else the packaged preset of that name.

    Raises:
        ValueError: neither is there.
    """
    if (file := folder / os.path.expanduser(name_or_path)).is_file():
        return file
    presets = {path.stem: path for path in sorted(PRESETS.glob("*.yaml"))}
    if str(name_or_path) in presets:
        return presets[str(name_or_path)]
    if file.exists():
        require_file(file)
    near = nearest(str(name_or_path), presets)
    hint = f"; did you mean {near!r}?" if near else ""
    listed = ", ".join(presets) or "none"
    where = "" if folder == Path() else f" in {folder}"
    raise ValueError(
        f"config {str(name_or_path)!r} is neither a file{where} nor a preset{hint or '.'} Presets: {listed}"
    )


def save_config(config: object, path: Path) -> None:
    """Writes all values as YAML that `load_config` reads back to an equal object; whole or not at all."""
    write_whole(path, OmegaConf.to_yaml(OmegaConf.structured(config)))


def flatten(config: object, prefix: str = "") -> dict[str, Any]:
    """All values of a nested dataclass or mapping by dotted key, in their order; a list is a value."""
    flat: dict[str, Any] = {}
    for name in config if isinstance(config, Mapping) else [field.name for field in fields(config)]:  # type: ignore[arg-type]
        value = config[name] if isinstance(config, Mapping) else getattr(config, name)
        is_section = is_dataclass(value) or isinstance(value, Mapping)
        flat |= flatten(value, f"{prefix}{name}.") if is_section else {prefix + name: value}
    return flat


def fingerprint(*parts: object) -> str:
    """A short name of dataclasses and plain values: the same for the same values, and no other.

    Source: BLAKE2b, RFC 7693.
    """
    plain = [flatten(part) if is_dataclass(part) else part for part in parts]
    return hashlib.blake2b(json.dumps(plain).encode(), digest_size=16).hexdigest()


def differences(there: T, here: T, within: Sequence[str] = ("",)) -> list[str]:
    """What differs between two configs of one schema, such as "privacy.epsilon: 10.0 there, 1.0 here".

    Args:
        within: keys and sections to compare; "" is everything.

    Raises:
        ValueError: an entry of `within` that is no key or section.
    """
    before, after = flatten(there), flatten(here)
    found = []
    for part in within:
        keys = [key for key in after if not part or f"{key}.".startswith(f"{part}.")]
        if not keys:
            raise ValueError(f"{part!r} is no key or section of {type(here).__name__}")
        changed = [key for key in keys if before[key] != after[key]]
        found += [f"{key}: {before[key]!r} there, {after[key]!r} here" for key in changed]
    return list(dict.fromkeys(found))  # a key and its section may both be asked for


def keys_of(schema: Any, prefix: str = "", *, with_ranges: bool = False) -> dict[str, Any]:
    """Every dotted key with its type, and its range if asked; sections have their dataclass."""
    hints = get_type_hints(schema, include_extras=with_ranges)
    keys: dict[str, Any] = {}
    for field in fields(schema):
        key, hint = prefix + field.name, hints[field.name]
        keys |= {key: hint, **(keys_of(hint, f"{key}.", with_ranges=with_ranges) if is_dataclass(hint) else {})}
    return keys


class _Renamed:
    """Old names of a schema's keys and values, as its dataclasses tell them."""

    def __init__(self, schema: Any):
        self.keys, self.values = dict[str, str](), dict[str, dict[Any, Any]]()
        self._collect(schema, "", "")

    def _collect(self, schema: Any, prefix: str, old_prefix: str) -> None:
        """Goes down the sections, below old names of sections as well."""
        hints, old_names = get_type_hints(schema), getattr(schema, "RENAMED_KEYS", {})
        for name, values in getattr(schema, "RENAMED_VALUES", {}).items():
            self.values[prefix + name] = values
        for old, name in [*((field.name, field.name) for field in fields(schema)), *old_names.items()]:
            if old_prefix + old != prefix + name:
                self.keys[old_prefix + old] = prefix + name
            if is_dataclass(hints[name]):
                self._collect(hints[name], f"{prefix}{name}.", f"{old_prefix}{old}.")

    def sections(self, keys: Mapping[str, Any]) -> dict[str, Any]:
        """All keys with their types, old names as well."""
        return {**keys, **{old: keys[key] for old, key in self.keys.items()}}

    def pairs(
        self, pairs: Iterable[tuple[str, Any]], note: Callable[[str], object] | None = None
    ) -> Iterator[tuple[str, Any]]:
        """The same keys and values under the names of today."""
        for old_key, old_value in pairs:
            key = self.keys.get(old_key, old_key)
            values = self.values.get(key, {})
            value = values.get(old_value, old_value) if isinstance(old_value, str) else old_value
            if note is not None and (key, value) != (old_key, old_value):
                note(f"note: {old_key}={old_value} is called {key}={value} now")
            yield key, value


def read_mapping(path: Path) -> Mapping[str, Any]:
    """A YAML file as it stands, checked against no schema.

    Raises:
        ValueError: it is no file, no YAML or no mapping, has names that are no text, is far longer or deeper than any
            config, or repeats parts of itself, which a few lines could do without end.
    """
    require_file(path)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} has more than {MAX_BYTES:,} bytes and can be no config; name another file")
    try:
        text = path.read_text(encoding="utf-8")
        _require_plain(text, path)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None and not isinstance(node, yaml.MappingNode):
            raise ValueError(f"{path} must be a YAML mapping of lines such as 'key: value'")
        mapping: Any = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))
        for name in mapping:
            if not isinstance(name, str):
                raise ValueError(f"{path}: the key {name!r} is no text; keys are names such as 'run'")
        return mapping
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error.reason}); save it as such") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{path}, line {line}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from None
    except OmegaConfBaseException as error:  # an interpolation that is none
        raise ValueError(f"{path}: {str(error).splitlines()[0]}") from None


def _require_plain(text: str, path: Path) -> None:
    """Refuses what would grow, or be taken apart, without end once it is loaded. Events come one by one, unnested."""
    level = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1
            raise ValueError(f"{path}, line {line}: *{event.anchor} repeats a part; write the part out")
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if level > MAX_LEVELS:
            raise ValueError(f"{path}, line {event.start_mark.line + 1}: more than {MAX_LEVELS} levels; use fewer")


def _with_bases(file: Path, above: Sequence[Path] = ()) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """A file and its values after those of all that it extends, the farthest first.

    Args:
        above: the files that extend this one, the first asked for first.

    Raises:
        ValueError: it extends what is not there, or a circle.
    """
    chain = [*above, file]
    if any(file.samefile(other) for other in above):
        raise ValueError(f"extends goes in a circle: {' -> '.join(map(str, chain))}; take it out of one of them")
    values = dict(read_mapping(file))
    if EXTENDS in values:
        name = values.pop(EXTENDS)
        try:
            if not isinstance(name, str):
                raise ValueError(f"{name!r} must be the name of a preset, or a path from this file's folder")
            base = find_config(name, file.parent)
        except ValueError as error:
            raise ValueError(f"{file}: {EXTENDS}: {error}") from None
        yield from _with_bases(base, chain)
    yield file, values


def _pairs(mapping: Mapping[str, Any], keys: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values; a section without lines has none."""
    for name, value in mapping.items():
        key = f"{prefix}{name}"
        if not is_dataclass(keys.get(key)):
            yield key, value
        elif isinstance(value, Mapping):
            yield from _pairs(value, keys, f"{key}.")
        elif value is not None:
            yield key, value


def _require_known(key: str, keys: Mapping[str, Any], where: str) -> None:
    if key not in keys:
        last = key.rpartition(".")[2]
        near = nearest(key, keys, similarity=0.75)
        candidates = [near] if near else [option for option in keys if option.rpartition(".")[2] == last]
        candidates = candidates or [option for option in [nearest(key, keys)] if option]
        hint = f"; did you mean {' or '.join(map(repr, candidates))}?" if candidates else f"; keys: {', '.join(keys)}"
        raise ValueError(f"unknown key {key!r} in {where}{hint}")


def _parse(text: str, hint: Any) -> Any:
    """A value as the command line means it. A text is left alone, so that a run may be called 007 or yes."""
    types_here = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if str in types_here and not (text == "null" and type(None) in types_here):
        return text
    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"]  # type: ignore[index,call-overload]
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError):
        # where a whole number has thousands of digits, or a list as many levels
        return text


def _assign(config: DictConfig, key: str, value: Any, keys: Mapping[str, Any], *, shown: Any) -> None:
    if is_dataclass(keys[key]):
        inner = ", ".join(option for option in keys if option.startswith(f"{key}."))
        raise ValueError(f"{key}={shown!r} is a whole section; set its keys: {inner}")
    if "${" in str(value):
        raise ValueError(f"{key}={shown!r} has ${{...}}, which nothing is put in for; write the value itself")
    try:
        if value == "???":  # omegaconf's mark for a missing value
            raise ValueError
        OmegaConf.update(config, key, value, merge=False)
    except (OmegaConfBaseException, ValueError, OverflowError, RecursionError, TypeError, AttributeError):
        raise ValueError(f"{key}={shown!r} must be {_expected(keys[key])}") from None


def _expected(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(map(_expected, get_args(hint)))
    if get_origin(hint) in (list, tuple):
        return "a list such as [1, 2]"
    return _TYPE_NAMES.get(hint, f"a {hint}")
