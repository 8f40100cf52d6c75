"""`osmo-pipeline`: the commands that need every part."""

from osmo_runtime import garbage  # noqa: F401  (before all that is imported)

# isort: split
import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from osmo_listener.errors import KubeconfigError, ListenerError
from osmo_pipeline import benchmarks
from osmo_pipeline.commands import (
    backends,
    completion,
    dead_letters,
    queue,
    rules,
    tokens,
    top,
)
from osmo_pipeline.config import DemoConfig
from osmo_pipeline.errors import DemoError, NothingFoundError, RefusedError, StoppedError
from osmo_pipeline.web.config import WebConfig
from osmo_runtime import runner
from osmo_runtime.build import version
from osmo_runtime.completion import complete
from osmo_runtime.errors import nearest
from osmo_runtime.operations import open_operations
from osmo_runtime.runner import ProgramConfig
from osmo_transport.errors import MissingExtraError
from osmo_worker.errors import WorkerError

USAGE = """\
usage: osmo-pipeline [--help] [--version] COMMAND [options]

commands:
  demo                      run a whole backend in one process, and check it at the end
  queue status              show how much the queue holds, and how old it is
  queue peek [STREAM ...]   show the oldest entries, and take none of them
  dlq list                  list what was given up, with the reason
  dlq show LETTER ...       show all of a dead letter
  dlq replay [LETTER ...]   put dead letters back into their streams
  dlq drop [LETTER ...]     remove dead letters for ever
  rules set BACKEND TYPE=STATUS ...
                            say by which conditions nodes of a backend are available
  rules get BACKEND         print these rules
  rules clear BACKEND       let the default rules hold for a backend
  backends list             list who reports, since when, and who is silent
  backends show BACKEND     show all that is known of a backend
  backends purge BACKEND    remove all rows of a backend from the store
  backends reset BACKEND    let what a backend reports count again
  backends forget BACKEND   free the name of a backend for another cluster
  tokens add NAME BACKEND ...
                            make a token with which a listener may report
  tokens list               list the tokens by their names
  tokens revoke NAME        take a token back
  top                       show what goes through it now, live
  web                       serve a page that shows all of it, and stays current
  completion SHELL          print what makes a shell complete our command lines
  bench [TABLE ...]         measure this project beside others, and show who is ahead

osmo-pipeline COMMAND --help tells a command's options.

exit codes: 0 done, 1 failed or stopped half-way, 2 wrong usage, 3 nothing found
"""


async def demo(config: DemoConfig, stop: asyncio.Event) -> None:
    """Run the demo."""
    # Here, so that a missing extra is told as every other error is.
    from osmo_pipeline.demo import run_demo  # noqa: PLC0415

    async with open_operations("osmo-pipeline", config, stop) as operations:
        await run_demo(config, stop, operations)


async def web(config: WebConfig, stop: asyncio.Event) -> None:
    """Serve the page."""
    try:
        from osmo_pipeline.web.service import run_web  # noqa: PLC0415
    except ImportError as exc:
        raise MissingExtraError(
            f"the page needs {exc.name}: pip install 'osmo-pipeline[operations,store]'"
        ) from exc
    await run_web(config, stop)


def main() -> int:
    """Run the program; returns its exit code."""
    return runner.until_unread(_main)


class Command(NamedTuple):
    """What runs under a name."""

    config: type[ProgramConfig]
    run: Callable[[Any, asyncio.Event], Coroutine[Any, Any, None]]


COMMANDS = {
    ("demo",): Command(DemoConfig, demo),
    ("queue", "status"): Command(queue.StatusConfig, queue.show_status),
    ("queue", "peek"): Command(queue.PeekConfig, queue.peek),
    ("dlq", "list"): Command(dead_letters.ListConfig, dead_letters.list_letters),
    ("dlq", "show"): Command(dead_letters.ShowConfig, dead_letters.show_letters),
    ("dlq", "replay"): Command(dead_letters.ReplayConfig, dead_letters.replay),
    ("dlq", "drop"): Command(dead_letters.DropConfig, dead_letters.drop),
    ("rules", "set"): Command(rules.SetRulesConfig, rules.set_rules),
    ("rules", "get"): Command(rules.GetRulesConfig, rules.get_rules),
    ("rules", "clear"): Command(rules.ClearRulesConfig, rules.clear_rules),
    ("backends", "list"): Command(backends.ListConfig, backends.list_backends),
    ("backends", "show"): Command(backends.ShowConfig, backends.show_backend),
    ("backends", "purge"): Command(backends.PurgeConfig, backends.purge_backend),
    ("backends", "reset"): Command(backends.ResetConfig, backends.reset_backend),
    ("backends", "forget"): Command(backends.ForgetConfig, backends.forget_backend),
    ("tokens", "add"): Command(tokens.AddConfig, tokens.add),
    ("tokens", "list"): Command(tokens.ListConfig, tokens.list_tokens),
    ("tokens", "revoke"): Command(tokens.RevokeConfig, tokens.revoke),
    ("top",): Command(top.TopConfig, top.show_top),
    ("web",): Command(WebConfig, web),
    ("completion",): Command(completion.CompletionConfig, completion.show_code),
}

BENCH = "bench"
"""Not among these, as the package may lack what it runs."""

SERVICES = {("demo",), ("web",)}
"""Those that run until they are stopped."""

ERRORS = {
    DemoError: runner.ExitCode.FAILED,
    NothingFoundError: runner.ExitCode.NOTHING,
    RefusedError: runner.ExitCode.FAILED,
    StoppedError: runner.ExitCode.FAILED,
    KubeconfigError: runner.ExitCode.MISUSED,
    ListenerError: runner.ExitCode.FAILED,
    WorkerError: runner.ExitCode.FAILED,
}


def _main() -> int:
    complete("osmo-pipeline", {words: command.config for words, command in COMMANDS.items()})
    arguments = sys.argv[1:] or ["--help"]
    if arguments[0] == BENCH:
        return benchmarks.main(arguments[1:])
    for words in (tuple(arguments[:2]), tuple(arguments[:1])):
        if words in COMMANDS:
            config, run = COMMANDS[words]
            name = " ".join(("osmo-pipeline", *words))
            return runner.main(
                name,
                config,
                run,
                argv=arguments[len(words) :],
                errors=ERRORS,
                is_command=words not in SERVICES,
            )
    given = arguments[:2] if (arguments[0],) in _GROUPS else arguments[:1]
    if given[-1] in ("--help", "-h"):
        sys.stdout.write(USAGE)
        return 0
    if arguments[0] == "--version":
        sys.stdout.write(f"osmo-pipeline {version()}\n")
        return 0
    sys.stderr.write(f"osmo-pipeline: {_unknown(given, arguments[:2])}\n")
    return runner.ExitCode.MISUSED


def _unknown(given: list[str], words: list[str]) -> str:
    """What to say of a command that there is not; a list of all would push it off the screen."""
    known = [BENCH, *(" ".join(each) for each in COMMANDS)]
    said = " ".join(given)
    if tuple(given[:1]) in _GROUPS and "".join(given[1:])[:1] in ("", "-"):
        return f"say which: {', '.join(name for name in known if name.startswith(f'{given[0]} '))}"
    question = nearest(" ".join(words), known) or nearest(said, known)
    every = "osmo-pipeline --help lists them"
    return f"no command {said!r}{f': {question}' if question else f'; {every}'}"


_GROUPS = {words[:1] for words in COMMANDS if len(words) > 1}


if __name__ == "__main__":
    sys.exit(main())
