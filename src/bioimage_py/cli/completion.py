"""Completion of verbs, options and their values in bash, zsh and fish, made from the parser."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bioimage_py.cli.failure import PROGRAM
from bioimage_py.text import one_line, shortened

SHELLS = ("bash", "zsh", "fish")


class _Verb(NamedTuple):
    about: str
    options: Mapping[str, str]  # each spelling, and what it does
    choices: Mapping[str, tuple[str, ...]]  # of the options that have some; "" is the first argument
    takes_value: frozenset[str]


def completion_script(
    shell: str, verbs: Mapping[str, argparse.ArgumentParser], about: Mapping[str, str]
) -> str:
    """Return the script that a shell reads to complete the command."""
    found = {name: _verb(parser, about[name]) for name, parser in verbs.items()}
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](found)


def _verb(parser: argparse.ArgumentParser, about: str) -> _Verb:
    options: dict[str, str] = {}
    choices: dict[str, tuple[str, ...]] = {}
    takes_value = set()
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask for them
        for name in action.option_strings or [""]:
            if action.choices is not None:
                choices[name] = tuple(map(str, action.choices))
            if name:
                options[name] = _first_clause((action.help or "") % {**vars(action), "prog": parser.prog})
            if name and action.nargs != 0:
                takes_value.add(name)
    return _Verb(about, options, choices, frozenset(takes_value))


def _first_clause(text: str) -> str:
    return shortened(one_line(text).partition(" (")[0].partition("; ")[0], 60)


def _bash(verbs: Mapping[str, _Verb]) -> str:
    top = shlex.quote(" ".join([*verbs, "--help", "--version"]))
    options = "\n".join(
        f"    {name}) words={shlex.quote(' '.join(verb.options))} ;;" for name, verb in verbs.items()
    )
    return f"""\
# bash completion of {PROGRAM}
_bioimage_py() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words=
  case "${{COMP_WORDS[1]}}" in
{options}
  esac
  [[ $word == -* ]] || words=
  if ((COMP_CWORD == 1)); then words={top}; fi
  case "${{COMP_WORDS[1]}} $before" in
{_values(verbs, lambda choices: f"words={shlex.quote(' '.join(choices))}")}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o bashdefault -o default -F _bioimage_py {PROGRAM}
"""


def _zsh(verbs: Mapping[str, _Verb]) -> str:
    def described(entries: Mapping[str, str]) -> str:
        return " ".join(shlex.quote(f"{name}:{text}") for name, text in entries.items())

    options = "\n".join(f"    {name}) known=({described(verb.options)}) ;;" for name, verb in verbs.items())
    return f"""\
#compdef {PROGRAM}
_bioimage_py() {{
  local verb=$words[2] before=$words[CURRENT-1]
  local -a known
  if ((CURRENT == 2)); then
    known=({described({name: verb.about for name, verb in verbs.items()})})
    _describe verb known
    return
  fi
  case "$verb $before" in
{_values(verbs, lambda choices: f"compadd -- {shlex.join(choices)}; return")}
  esac
  case $verb in
{options}
  esac
  if [[ $PREFIX == -* ]]; then _describe -o option known; else _files; fi
}}
if [[ $funcstack[1] == _bioimage_py ]]; then _bioimage_py "$@"; else compdef _bioimage_py {PROGRAM}; fi
"""


def _values(verbs: Mapping[str, _Verb], action: Callable[[Sequence[str]], str]) -> str:
    """Return the cases of options with choices; the word before the first argument is the verb itself."""
    return "\n".join(
        f"    {shlex.quote(f'{name} {option or name}')}) {action(choices)} ;;"
        for name, verb in verbs.items()
        for option, choices in verb.choices.items()
    )


def _fish(verbs: Mapping[str, _Verb]) -> str:
    lines = [f"# fish completion of {PROGRAM}", f"complete -c {PROGRAM} -n __fish_use_subcommand -f"]
    for name, verb in verbs.items():
        seen = f"complete -c {PROGRAM} -n '__fish_seen_subcommand_from {name}'"
        about = shlex.quote(verb.about)
        lines.append(f"complete -c {PROGRAM} -n __fish_use_subcommand -f -a {name} -d {about}")
        if "" in verb.choices:
            lines.append(f"{seen} -f -a {shlex.quote(' '.join(verb.choices['']))}")
        for option, text in verb.options.items():
            letter = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            values = " -r" if option in verb.takes_value else ""
            if option in verb.choices:
                values = f" -x -a {shlex.quote(' '.join(verb.choices[option]))}"
            lines.append(f"{seen} {letter}{values} -d {shlex.quote(text)}")
    return "\n".join(lines) + "\n"
