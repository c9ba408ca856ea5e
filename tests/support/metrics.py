"""What a served app says at `/notify/metrics`."""

from __future__ import annotations

import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.support.served import SECONDS, Served


def metric(served: Served, sample: str, **labels: str) -> float:
    """Return the sum of the samples of that name that have these labels."""
    text = requests.get(served.url + "/notify/metrics", timeout=SECONDS).text
    return sum(
        found.value
        for family in text_string_to_metric_families(text)
        for found in family.samples
        if found.name == sample and labels.items() <= found.labels.items()
    )
