"""The command line: `repo-notify demo|serve|publish|reference|doctor`."""

# The program's first import: gevent replaces the blocking calls before anybody takes hold of them.
from gevent import monkey

monkey.patch_all()

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import click
from click.core import ParameterSource

from . import __version__
from .doctor.commands import asking, given, tell
from .errors import NotifyError
from .logs import configure


def _listening(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of the commands that serve; `python wsgi.py` reads the same two from the environment."""
    host = click.option(
        "--host",
        envvar="HOST",
        default="127.0.0.1",
        show_default=True,
        show_envvar=True,
        help="The address to listen on.",
    )
    port = click.option(
        "--port",
        envvar="PORT",
        default=3000,
        show_default=True,
        show_envvar=True,
        type=click.IntRange(0, 65535),
        help="The port; 0: a free one.",
    )
    return host(port(command))


_configured = click.option(
    "--config",
    "folder",
    default=None,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of Flask config files, of which REPO_NOTIFY_ENV names one.",
)


_behind = click.option(
    "--3drepo-config",
    "backend_file",
    default=None,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A 3D Repo backend's configuration, JSON or JavaScript, whose settings are the service's.",
)


@click.group()
@click.version_option(__version__, prog_name="repo-notify")
@click.option("--verbose", is_flag=True, help="Log what happens, not only what goes wrong.")
def main(verbose: bool) -> None:
    """Real-time notifications for a Flask REST API in 3D Repo's shape."""
    configure("info" if verbose else "warning", "text")
    if verbose:
        # For `serve`, which reads the settings.
        os.environ["REPO_NOTIFY_LOG_LEVEL"] = "info"


@main.command()
@_listening
@click.option(
    "--data-dir",
    default=Path(".repo-notify"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the embedded database keeps its files.",
)
@click.option("--seed/--no-seed", default=True, help="Put the sample data into an empty database.")
@click.option("--open", "open_browser", is_flag=True, help="Open the console page in a browser.")
def demo(host: str, port: int, data_dir: Path, seed: bool, open_browser: bool) -> None:
    """Run a small REST API with sample data and a console page that shows every event arrive."""
    from .demo import run

    with _told():
        run(host=host, port=port, data_dir=data_dir, seed=seed, open_browser=open_browser)


@main.command()
@_listening
@_configured
@_behind
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Processes that share the port, for clients on WebSockets alone; they need a history in Redis, or a queue.",
)
@click.option("--worker", is_flag=True, hidden=True, help="Be one of them.")
@click.pass_context
def serve(
    context: click.Context,
    host: str,
    port: int,
    folder: Path | None,
    backend_file: Path | None,
    workers: int,
    worker: bool,
) -> None:
    """Run the standalone service; settings come from the environment, and from a 3D Repo backend's configuration."""
    from .app import create_app
    from .backend.config_file import load
    from .serving import serve as serve_app
    from .workers import end_with_parent

    with _told():
        backend = load(backend_file) if backend_file is not None else None
        if backend is not None and context.get_parameter_source("port") is ParameterSource.DEFAULT:
            port = backend.port
        of_backend = backend.settings if backend is not None else None
        if workers > 1:
            _serve_in_workers(host, port, workers, folder, of_backend, backend_file)
            return
        # A polling client's requests would reach one worker or another.
        app = create_app({"REPO_NOTIFY_POLLING": False} if worker else None, folder=folder, backend=of_backend)
        if worker:
            end_with_parent()
        serve_app(app, host=host, port=port, on_ready=_listens, shares_port=worker)


def _listens(url: str) -> None:
    click.echo(f"listening on {url}")


def _serve_in_workers(
    host: str,
    port: int,
    number: int,
    folder: Path | None,
    of_backend: Mapping[str, Any] | None,
    backend_file: Path | None,
) -> None:
    from .app import configured
    from .settings import read
    from .workers import Workers, kept_port, require_sharing

    settings = read(configured(folder=folder, backend=of_backend).config)
    configure(settings.log_level, settings.log_format)
    require_sharing(settings)
    with kept_port(host, port) as kept:
        command = [sys.executable, "-m", "repo_notify", "serve", "--worker", "--host", host, "--port", str(kept)]
        command += ["--config", str(folder)] if folder is not None else []
        command += ["--3drepo-config", str(backend_file)] if backend_file is not None else []
        shown = f"[{host}]" if ":" in host else host
        several = Workers(command, number, shutdown_timeout=settings.shutdown_timeout)
        several.run(lambda: _listens(f"http://{shown}:{kept}"))


@main.command()
@click.argument("file", type=click.File("r", encoding="utf-8"), default="-")
@click.option("--url", envvar="REPO_NOTIFY_URL", help="The service's address, such as http://127.0.0.1:3000.")
@click.option("--key", envvar="REPO_NOTIFY_API_KEY", help="The service's REPO_NOTIFY_API_KEY.")
@click.option("--queue", envvar="REPO_NOTIFY_MESSAGE_QUEUE", help="Publish through this message queue instead.")
@click.option("--channel", envvar="REPO_NOTIFY_MESSAGE_QUEUE_CHANNEL", default="repo_notify", show_default=True)
def publish(file: IO[str], url: str | None, key: str | None, queue: str | None, channel: str) -> None:
    """Publish the events in FILE (`-`: standard input): a JSON object with `type`, or an array of them."""
    from . import client as publishing

    with _told():
        try:
            document = json.load(file)
        except (ValueError, RecursionError) as error:
            raise click.ClickException(f"{file.name} should hold JSON: {error}") from None
        if url:
            number, where = publishing.over_http(url, key, document), ""
        elif queue:
            number = publishing.over_queue(queue, channel, document)
            where = " to the message queue, which does not tell who listens"
        else:
            raise click.UsageError("say where to: --url of the service, or --queue of its message queue")
        click.echo(f"published {number} event{'s' if number != 1 else ''}{where}")


@main.command()
@click.option("--events", is_flag=True, help="Print every event with an example instead (docs/events.md).")
def reference(events: bool) -> None:
    """Print the settings, events and addresses, in Markdown (docs/reference.md)."""
    from . import wiring

    click.echo(wiring.events_reference() if events else wiring.reference(), nl=False)


@main.command()
@_configured
@_behind
@asking
def doctor(
    folder: Path | None, backend_file: Path | None, cookie: str | None, url: str | None, origin: str | None
) -> None:
    """Look at the settings, MongoDB, the sessions and the message queue, and say what is wrong and what helps."""
    from .app import configured, read_sessions
    from .backend.config_file import load
    from .doctor.examine import examine_standalone

    def configure() -> Any:
        return configured(folder=folder, backend=load(backend_file).settings if backend_file is not None else None)

    with _told():
        findings = examine_standalone(
            configure, read_sessions, cookie=given(cookie), url=url, origin=origin
        )
        code = tell(findings)
    sys.exit(code)


class _told:  # noqa: N801 - reads as what it does in a with statement
    """Turn what goes wrong on purpose into one message and exit code 1, without a stack trace."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, NotifyError | OSError):
            raise click.ClickException(str(error)) from error
