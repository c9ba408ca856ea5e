"""Our own server: answers on connections that are kept."""

from __future__ import annotations

from time import perf_counter

import pytest

from tests.support.served import Served, User

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

REQUESTS = 20


def test_answers_on_a_kept_connection_do_not_wait_for_acknowledgements(host: Served) -> None:
    user = User(host)
    user.http.get(host.url + "/plain", timeout=5)
    started = perf_counter()
    for _ in range(REQUESTS):
        assert user.http.get(host.url + "/plain", timeout=5).json() == {"plain": True}
    # A delayed acknowledgement takes 40 ms; the answers themselves take two or three.
    assert perf_counter() - started < REQUESTS * 0.030
