"""How do the same numbers read as OTLP?  Export requests in protobuf, cumulative, each since its counting began.

Never sends anything and never waits.  Delta temporality is not used: a push that is lost costs nothing, because the
next one says everything again.  Format: OpenTelemetry Protocol, opentelemetry.proto.metrics.v1.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from streams.fold.baseline import created_ms
from streams.fold.measure import PROVIDER
from streams.fold.rollup import LIFETIME_SCALE, Exemplar, LogBins
from streams.fold.sketch import ZERO_BIN
from streams.sink.exposition import Samples
from streams.sink.metric import US_PER_SECOND, Metric
from streams.sink.semconv import (
    CHAT,
    GENERATIONS,
    UNITS,
    USAGE,
    USAGE_COUNT,
    USAGE_HELP,
    USAGE_REPLACES,
    USAGE_SUMS,
    Conventional,
    Generation,
)
from streams.sink.series import GROUPS_PER_PIECE, Distribution, Labels, Series, integral, pieces
from streams.sink.view import Group, View

POINTS_PER_REQUEST: Final = 1_000  # about 200 KB; receivers take 4 MB and more
SCOPE: Final = "agent-streams"
NS_PER_MS: Final = 1_000_000
INT64_MAX: Final = 2**63 - 1
_CUMULATIVE: Final = pb.AGGREGATION_TEMPORALITY_CUMULATIVE
_TRACE_ID_CHARS: Final = 32


class Exported(NamedTuple):
    """One request, ready to be sent, and how many points it holds."""

    body: bytes
    points: int


class Source(NamedTuple):
    """Who exports: attributes of the resource, version of this program, the names' generation, declared metrics."""

    attributes: Labels
    version: str
    genai: str
    customs: tuple[Metric, ...] = ()


def requests(view: View, samples: Samples, source: Source, *, now_ms: int) -> Iterator[Exported | None]:
    """Yield requests that together hold every metric; None between them is a step without one."""
    request = _empty(source)
    points = 0
    for metric, count in _metrics(view, samples, source, now_ms * NS_PER_MS):
        request.resource_metrics[0].scope_metrics[0].metrics.append(metric)
        points += count
        if points < POINTS_PER_REQUEST:
            yield None
            continue
        yield Exported(request.SerializeToString(), points)
        request, points = _empty(source), 0
    if points:
        yield Exported(request.SerializeToString(), points)


def rejected_points(answer: bytes) -> tuple[int, str]:
    """Return how many points a receiver refused of a request it has taken, and why; an answer it is not says none."""
    try:
        refused = ExportMetricsServiceResponse.FromString(answer).partial_success
    except DecodeError:
        return 0, ""
    return refused.rejected_data_points, refused.error_message


def _empty(source: Source) -> ExportMetricsServiceRequest:
    scope = pb.ScopeMetrics(scope=InstrumentationScope(name=SCOPE, version=source.version))
    resource = Resource(attributes=_attributes(source.attributes))
    return ExportMetricsServiceRequest(resource_metrics=[pb.ResourceMetrics(resource=resource, scope_metrics=[scope])])


def _metrics(view: View, samples: Samples, source: Source, now_ns: int) -> Iterator[tuple[pb.Metric, int]]:
    """Yield metrics with some of their points, and how many these are; a metric may come several times."""
    generation = GENERATIONS[source.genai]
    for metric, some in pieces(view, samples, source.customs):
        if generation is not None and metric.name == USAGE_REPLACES:
            continue
        name = None if generation is None else generation.metrics.get(metric.name)
        if some:
            yield _metric(metric, name, some, now_ns), len(some)
        if (
            metric.unit == "seconds"
            and metric.histogram is not None
            and (binned := [each for each in some if _log_bins(each) is not None])
        ):
            yield _exponential(metric, binned, now_ns), len(binned)
    if generation is not None:
        groups = view.groups(PROVIDER.name)
        for begin in range(0, len(groups), GROUPS_PER_PIECE):
            points = list(_token_usage(groups[begin : begin + GROUPS_PER_PIECE], generation, now_ns))
            histogram = pb.Histogram(aggregation_temporality=_CUMULATIVE, data_points=points)
            yield _named(USAGE, USAGE_HELP, "{token}", histogram=histogram), len(points)


def _metric(metric: Metric, name: Conventional | None, some: Iterable[Series], now_ns: int) -> pb.Metric:
    called = metric.family if name is None else name.name
    unit = UNITS[metric.unit]
    if metric.histogram is not None:
        bounds = [float(text) for text in metric.bound_texts[:-1]]
        bars = [_histogram_point(name, each, bounds, now_ns) for each in some]
        histogram = pb.Histogram(aggregation_temporality=_CUMULATIVE, data_points=bars)
        return _named(called, metric.help, unit, histogram=histogram)
    whole, counter = integral(metric), metric.kind == "counter"
    points = [_number_point(name, each, now_ns, whole=whole, since=counter) for each in some]
    if counter:
        total = pb.Sum(aggregation_temporality=_CUMULATIVE, is_monotonic=True, data_points=points)
        return _named(called, metric.help, unit, total=total)
    return _named(called, metric.help, unit, gauge=pb.Gauge(data_points=points))


def _log_bins(series: Series) -> LogBins | None:
    return series.value.log_bins if isinstance(series.value, Distribution) else None


def _exponential(metric: Metric, some: Iterable[Series], now_ns: int) -> pb.Metric:
    """Make an exponential histogram of log bins, in µs: bins end at powers of 2, and 10^6 is none."""
    points = [_exponential_point(each.labels, bins, now_ns) for each in some if (bins := _log_bins(each)) is not None]
    histogram = pb.ExponentialHistogram(aggregation_temporality=_CUMULATIVE, data_points=points)
    name = f"{metric.family.removesuffix('_seconds')}_microseconds"
    text = f"{metric.help} In bins 9 % wide, late ones left out."
    return pb.Metric(name=name, description=text, unit="us", exponential_histogram=histogram)


def _exponential_point(labels: Labels, kept: LogBins, now_ns: int) -> pb.ExponentialHistogramDataPoint:
    positive = {index: count for index, count in kept.bins.items() if index != ZERO_BIN and count}
    offset = min(positive, default=0)
    counts = [positive.get(index, 0) for index in range(offset, max(positive, default=offset - 1) + 1)]
    return pb.ExponentialHistogramDataPoint(
        attributes=_attributes(labels),
        start_time_unix_nano=_start_ns(kept.since_ms, now_ns),
        time_unix_nano=now_ns,
        count=sum(kept.bins.values()),
        sum=float(kept.sum_us),
        scale=LIFETIME_SCALE,
        zero_count=kept.bins.get(ZERO_BIN, 0),
        positive=pb.ExponentialHistogramDataPoint.Buckets(offset=offset, bucket_counts=counts),
    )


def _named(
    name: str,
    description: str,
    unit: str,
    *,
    histogram: pb.Histogram | None = None,
    total: pb.Sum | None = None,
    gauge: pb.Gauge | None = None,
) -> pb.Metric:
    return pb.Metric(name=name, description=description, unit=unit, histogram=histogram, sum=total, gauge=gauge)


def _number_point(
    name: Conventional | None, series: Series, now_ns: int, *, whole: bool, since: bool
) -> pb.NumberDataPoint:
    value = series.value
    assert not isinstance(value, Distribution)
    point = pb.NumberDataPoint(
        attributes=_attributes(_renamed(name, series.labels)),
        start_time_unix_nano=_start_ns(series.created_ms, now_ns) if since else 0,
        time_unix_nano=now_ns,
    )
    if whole and abs(value) <= INT64_MAX:
        point.as_int = int(value)
    else:
        point.as_double = float(value)
    return point


def _histogram_point(
    name: Conventional | None, series: Series, bounds: Sequence[float], now_ns: int
) -> pb.HistogramDataPoint:
    value = series.value
    assert isinstance(value, Distribution)
    counts, before = [], 0
    for _, cumulative in value.buckets:
        counts.append(cumulative - before)
        before = cumulative
    return pb.HistogramDataPoint(
        attributes=_attributes(_renamed(name, series.labels)),
        start_time_unix_nano=_start_ns(series.created_ms, now_ns),
        time_unix_nano=now_ns,
        count=value.observed,
        sum=value.sum,
        bucket_counts=counts,
        explicit_bounds=bounds,
        exemplars=list(_exemplars(value.exemplars)),
    )


def _token_usage(groups: Iterable[Group], generation: Generation, now_ns: int) -> Iterator[pb.HistogramDataPoint]:
    for group in groups:
        sums, count = group.shown.sums, group.shown.sums.get(USAGE_COUNT, 0)
        for kind, measure in USAGE_SUMS.items() if count else ():
            labels = ((generation.provider, group.labels[0]), *CHAT, ("gen_ai.token.type", kind))
            yield pb.HistogramDataPoint(
                attributes=_attributes(labels),
                start_time_unix_nano=_start_ns(created_ms(group.shown, (USAGE_COUNT,)), now_ns),
                time_unix_nano=now_ns,
                count=count,
                sum=float(sums.get(measure, 0)),
                bucket_counts=[count],
            )


def _exemplars(exemplars: Iterable[Exemplar]) -> Iterator[pb.Exemplar]:
    """Yield what OTLP can hold: trace ids of 16 bytes, as OpenTelemetry makes them."""
    for each in exemplars:
        try:
            trace_id = bytes.fromhex(each.trace_id) if len(each.trace_id) == _TRACE_ID_CHARS else b""
        except ValueError:
            continue
        if trace_id:
            value = each.value_us / US_PER_SECOND
            yield pb.Exemplar(time_unix_nano=each.event_ms * NS_PER_MS, as_double=value, trace_id=trace_id)


def _renamed(name: Conventional | None, labels: Labels) -> Labels:
    if name is None:
        return labels
    return (*((name.attributes.get(key, key), value) for key, value in labels), *name.constants)


def _attributes(labels: Labels) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in labels]


def _start_ns(created_ms: int, now_ns: int) -> int:
    """Return when counting began, 0 for unknown; an event's clock may be ahead of ours, its point's may not be."""
    return min(created_ms * NS_PER_MS, now_ns) if created_ms >= 0 else 0
