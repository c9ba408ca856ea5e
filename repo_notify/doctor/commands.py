"""`flask repo-notify doctor`, for apps that have the extension."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import click
from flask import current_app
from flask.cli import AppGroup

from .findings import Finding, is_healthy

F = TypeVar("F", bound=Callable[..., Any])


def asking(command: F) -> F:
    """Give a command the doctor's options: what to look at beside the settings."""
    options: tuple[Any, ...] = (
        click.option("--cookie", help="A session cookie of a browser: whose is it? `-` reads it from standard input."),
        click.option("--url", help="The address that browsers use: does everything pass the proxy?"),
        click.option("--origin", help="With --url: the page's origin, where it is another one."),
    )
    decorated: Any = command
    for option in reversed(options):
        decorated = option(decorated)
    return cast("F", decorated)


def tell(findings: Iterable[Finding]) -> int:
    """Print the findings as they come; return the exit code."""
    told = []
    for finding in findings:
        told.append(finding)
        click.echo(finding)
    return 0 if is_healthy(told) else 1


def given(cookie: str | None) -> str | None:
    """Return the cookie that an option means."""
    return sys.stdin.read().strip() if cookie == "-" else cookie


group = AppGroup("repo-notify", help="Real-time notifications.")


@group.command()
@asking
def doctor(cookie: str | None, url: str | None, origin: str | None) -> None:
    """Look at what this app's notifications depend on, and say what is wrong and what helps."""
    from .examine import examine_mounted

    app: Any = current_app
    code = tell(examine_mounted(app._get_current_object(), cookie=given(cookie), url=url, origin=origin))
    click.get_current_context().exit(code)
