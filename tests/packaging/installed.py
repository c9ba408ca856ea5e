"""Check an installed distribution, run by the interpreter that it is installed for and outside the source tree."""

from __future__ import annotations

from importlib.metadata import distribution
from importlib.resources import files

EXPECTED = {
    "repo_notify": ("py.typed",),
    "repo_notify.demo": ("static/console.html", "static/console.css", "static/console.js", "static/wire.js"),
    "legacy_v4": ("py.typed",),
}


def main() -> None:
    """Fail naming every file that the wheel should hold and does not, or the folder that it should not hold."""
    expected = [(package, name) for package, names in EXPECTED.items() for name in names]
    missing = [f"{package}/{name}" for package, name in expected if not (files(package) / name).is_file()]
    top_level = {path.parts[0] for path in distribution("repo_notify").files or ()}
    strays = sorted(top_level & {"config", "tests", "benchmarks", "docs"})
    if missing or strays:
        raise SystemExit(f"the wheel lacks {missing} and holds {strays}")


main()
