"""Metrics' text, judged by prometheus_client's parser."""

from prometheus_client.parser import text_string_to_metric_families

from minik8s.base.metrics import Metrics, watch_process


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counters_gauges_and_histograms_are_read_back() -> None:
    metrics = Metrics()
    total = metrics.counter("requests_total", "Requests.", ("path",))
    total.add(('a"b\\c\nd',), 1)
    total.add(('a"b\\c\nd',), 2)
    metrics.gauge("level", "A level.").set((), 1.5)
    seconds = metrics.histogram("seconds", "Time.", ("verb",), (0.1, 1))
    for value in (0.05, 0.5, 5):
        seconds.observe(("GET",), value)
    found = samples(metrics.text())
    assert found["requests_total", (("path", 'a"b\\c\nd'),)] == 3
    assert found["level", ()] == 1.5
    assert found["seconds_bucket", (("le", "0.1"), ("verb", "GET"))] == 1
    assert found["seconds_bucket", (("le", "1"), ("verb", "GET"))] == 2
    assert found["seconds_bucket", (("le", "+Inf"), ("verb", "GET"))] == 3
    assert found["seconds_sum", (("verb", "GET"),)] == 5.55
    assert found["seconds_count", (("verb", "GET"),)] == 3


def test_a_process_tells_its_own() -> None:
    metrics = Metrics()
    watch_process(metrics)
    found = samples(metrics.text())
    assert found["process_resident_memory_bytes", ()] > 1_000_000
    assert found["process_open_fds", ()] > 2
