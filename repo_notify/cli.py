"""The command line: `repo-notify demo|serve|publish|reference|doctor`."""

# The program's first import: gevent replaces the blocking calls before anybody takes hold of them.
from gevent import monkey

monkey.patch_all()

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import click

from . import __version__
from .errors import NotifyError


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


@click.group()
@click.version_option(__version__, prog_name="repo-notify")
@click.option("--verbose", is_flag=True, help="Log what happens, not only what goes wrong.")
def main(verbose: bool) -> None:
    """Real-time notifications for a Flask REST API in 3D Repo's shape."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


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
@click.option(
    "--config",
    "folder",
    default=None,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of Flask config files, of which REPO_NOTIFY_ENV names one.",
)
def serve(host: str, port: int, folder: Path | None) -> None:
    """Run the standalone service; settings come from the environment."""
    from .app import create_app
    from .serving import serve as serve_app

    with _told():
        serve_app(
            create_app(folder=folder), host=host, port=port, on_ready=lambda url: click.echo(f"listening on {url}")
        )


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
def reference() -> None:
    """Print the tables of settings and events, in Markdown."""
    from repo_notify.wiring import reference as page

    click.echo(page(), nl=False)


@main.command()
def doctor() -> None:
    """Look at the settings of the environment, MongoDB and the message queue, and say what is wrong."""
    from .doctor import examine

    healthy = True
    for finding in examine():
        healthy &= finding.good
        click.echo(f"{'ok   ' if finding.good else 'WRONG'} {finding.text}")
    sys.exit(0 if healthy else 1)


class _told:  # noqa: N801 - reads as what it does in a with statement
    """Turn what goes wrong on purpose into one message and exit code 1, without a stack trace."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, NotifyError | OSError):
            raise click.ClickException(str(error)) from error
