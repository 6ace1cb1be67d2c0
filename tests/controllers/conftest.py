"""Every scenario runs with authorization on; a controller that is refused something fails the test."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def nobody_is_forbidden_anything(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Controllers have the rights of upstream's bootstrap roles `system:controller:NAME` and live with them; none of them dies."""
    caplog.set_level(logging.DEBUG, "minik8s")
    yield
    told = [record.getMessage() for record in caplog.records]
    assert [text for text in told if 'User "system:serviceaccount:kube-system' in text and "cannot" in text] == []
    assert [f"{r.getMessage()} {r.exc_text or ''}" for r in caplog.records if r.levelno >= logging.ERROR] == []
