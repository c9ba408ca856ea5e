"""The alerts and the dashboard: understood by Prometheus, and about metrics that the service has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("yaml")

import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import host_defaults
from tests.deploy.kit import DEPLOY, checked, documents
from tests.support import brokers
from tests.support.served import SECONDS, host_app

pytestmark = pytest.mark.deploy

ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "repo_notify.json"
# Not ours: what Prometheus says of each scrape.
OF_PROMETHEUS = {"up": {"job", "instance"}}
BY_SCRAPE = {"job", "instance"}
SELECTOR = re.compile(r"\b(up|repo_notify_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!=|!~|=)\s*"([^"]*)"')
GROUPED = re.compile(r"\bby \(([^)]*)\)")
LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@pytest.fixture(scope="module")
def series(sample: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, str]]]:
    """The labels of each sample that a fresh service with a queue shows."""
    with (
        brokers.redis(tmp_path_factory.mktemp("redis")) as queue,
        host_app({**host_defaults(sample), "REPO_NOTIFY_MESSAGE_QUEUE": queue}) as served,
    ):
        text = requests.get(f"{served.url}/notify/metrics", timeout=SECONDS).text
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        # The series of some metrics come with what they count; their names are there all the same.
        found.setdefault(family.name + ("_total" if family.type == "counter" else ""), [])
        for sample_of_family in family.samples:
            found.setdefault(sample_of_family.name, []).append(dict(sample_of_family.labels))
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    rules = [rule["expr"] for group in documents(ALERTS)[0]["groups"] for rule in group["rules"]]
    return rules + [target["expr"] for panel in panels() for target in panel["targets"]]


def test_every_metric_exists(series: dict[str, list[dict[str, str]]]) -> None:
    named = {name for text in expressions() for name, _ in SELECTOR.findall(text)}
    assert len(named) > 20
    assert named - series.keys() - OF_PROMETHEUS.keys() == set()


def test_every_label_and_value_that_is_asked_for_exists(series: dict[str, list[dict[str, str]]]) -> None:
    for text in expressions():
        for name, matchers in SELECTOR.findall(text):
            for label, operator, value in MATCHER.findall(matchers):
                if label in BY_SCRAPE:
                    continue
                values = {labels[label] for labels in series[name] if label in labels}
                # That a port is shared cannot be seen where it is not.
                if label == "shared":
                    assert values == {"false"}
                    continue
                wanted = value.split("|") if operator in ("=~", "!~") else [value]
                assert values.issuperset(wanted), f"{name} has no {label} of {value}: {values}"


def test_every_label_that_is_grouped_by_or_shown_exists(series: dict[str, list[dict[str, str]]]) -> None:
    def known(text: str) -> set[str]:
        labels = {label for name, _ in SELECTOR.findall(text) for found in series.get(name, []) for label in found}
        # These have no series before the first of their kind.
        return labels | BY_SCRAPE | {"type", "generation", "transport", "limit"}

    for text in expressions():
        grouped = {label.strip() for found in GROUPED.findall(text) for label in found.split(",")}
        assert grouped <= known(text), text
    for panel in panels():
        for target in panel["targets"]:
            assert set(LEGEND.findall(target["legendFormat"])) <= known(target["expr"]), panel["title"]


def test_prometheus_takes_the_rules() -> None:
    assert "SUCCESS" in checked("promtool", "check", "rules", ALERTS)


def test_the_alerts_are_raised_when_they_should_be(tmp_path: Path) -> None:
    tests = tmp_path / "test.yml"
    tests.write_text((Path(__file__).parent / "alerts.test.yml").read_text().replace("RULES", str(ALERTS)))
    checked("promtool", "test", "rules", tests)
    raised = set(re.findall(r'alertname="(\w+)"', tests.read_text()))
    assert raised == {rule["alert"] for group in documents(ALERTS)[0]["groups"] for rule in group["rules"]}


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    for group in documents(ALERTS)[0]["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert set(rule["annotations"]) == {"summary", "description"}


def test_prometheus_takes_the_dashboards_queries(tmp_path: Path) -> None:
    """As rules that record, with Grafana's variables filled in."""
    queries = [target["expr"] for panel in panels() for target in panel["targets"]]
    filled = [text.replace("$__rate_interval", "5m").replace("$instance", ".*") for text in queries]
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(filled)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked("promtool", "check", "rules", file)


def test_the_scrape_is_one_that_prometheus_takes(tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yml"
    scrape = documents(DEPLOY / "prometheus" / "scrape.yml")[0]
    file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "scrape_configs": scrape}))
    checked("promtool", "check", "config", file)


def test_the_dashboard_is_laid_out_and_uses_its_variables() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert {variable["name"] for variable in dashboard["templating"]["list"]} == {"datasource", "instance"}
    for panel in panels():
        assert panel["description"], panel["title"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            assert 'instance=~"$instance"' in target["expr"]
