"""What a verb has found: as text for people, or with --json as one object for programs. Loads nothing heavy."""

import inspect
import io
import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from dpsad.runtime.torchrun import place_here

Quiet = Annotated[bool, typer.Option("--quiet", help="Print the result alone; stderr has errors and nothing else.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object; all else goes to stderr.")]


@dataclass(frozen=True, kw_only=True)
class Found:
    """A verb's result.

    text: for people.
    facts: the same and more for programs; of numbers that are not finite, None is written.
    said: whether the verb has said the text on the way.
    code: the exit code.
    """

    text: str
    facts: Mapping[str, Any]
    said: bool = False
    code: int = 0


def reporting(verb: Callable[..., Found]) -> Callable[..., None]:
    """The same verb with --quiet and --json, which prints what it finds. ~ in its paths is the user's own folder.

    Whatever is said on the way goes to stderr with --json, and nowhere with --quiet. Of the processes that torchrun
    started, only the first one says and prints anything.
    """

    @wraps(verb)
    def run(*, quiet: bool, as_json: bool, **words: Any) -> None:
        leads = place_here().rank == 0
        with ExitStack() as around:
            if quiet or not leads:
                around.enter_context(redirect_stdout(io.StringIO()))
                around.enter_context(redirect_stderr(io.StringIO()))
            elif as_json:
                around.enter_context(redirect_stdout(sys.stderr))
            found = verb(**{name: _at_home(value) for name, value in words.items()})
        if not leads:
            return
        if as_json:
            typer.echo(json.dumps(_plain(found.facts), allow_nan=False))
        elif found.text and (quiet or not found.said):
            typer.echo(found.text)
        if found.code:
            raise typer.Exit(found.code)

    options = {"quiet": Quiet, "as_json": AsJson}
    signature = inspect.signature(verb)
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in options.items()
    ]
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *more], return_annotation=None
    )
    run.__annotations__ = {**verb.__annotations__, **options, "return": None}
    return run


def _at_home(value: Any) -> Any:
    if isinstance(value, Path):
        return Path(os.path.expanduser(value))
    return [_at_home(part) for part in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if isinstance(value, str | int | float | None) else str(value)
