"""What OpenTelemetry records in a test. The spans and metrics stay in memory; no global provider is set."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

Point = tuple[dict[str, object], float]


class Telemetry:
    """Providers for spans and metrics, and what they recorded."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracer = self.tracer_provider.get_tracer("test")

    @contextmanager
    def of_httpx(self) -> Iterator[None]:
        """Switches on OpenTelemetry's own instrumentation of httpx."""
        instrumentor = HTTPXClientInstrumentor()
        instrumentor.instrument(
            tracer_provider=self.tracer_provider, meter_provider=self.meter_provider
        )
        try:
            yield
        finally:
            instrumentor.uninstrument()

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, in that order."""
        return list(self._exporter.get_finished_spans())

    @property
    def urls(self) -> list[object]:
        """The URLs that the instrumentation of httpx recorded in spans."""
        names = ("http.url", "url.full")
        return [
            span.attributes[name]
            for span in self.spans
            for name in names
            if name in span.attributes
        ]

    def metrics(self) -> dict[str, list[Point]]:
        """Each metric's attributes and values. The value of a histogram is the sum of what it recorded."""
        data = self._reader.get_metrics_data()
        return {
            metric.name: [
                (dict(point.attributes), getattr(point, "value", getattr(point, "sum", None)))
                for point in metric.data.data_points
            ]
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def text(self) -> str:
        """Everything that was recorded."""
        spans = "\n".join(span.to_json() for span in self.spans)
        return f"{spans}\n{json.dumps(self.metrics())}"
