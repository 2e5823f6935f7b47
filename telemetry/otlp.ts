// Spans to a collector, in OTLP over HTTP, as OpenTelemetry's own exporter sends them. None of it is loaded unless an endpoint is set.
import type { Span as ApiSpan, HrTime } from '@opentelemetry/api';
import type { Span, Spans } from './spans.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Whether spans are wanted, by the variables of OpenTelemetry's specification. */
export function isTraced(environment: Environment): boolean {
  const endpoint =
    environment.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT || environment.OTEL_EXPORTER_OTLP_ENDPOINT || '';
  const off =
    environment.OTEL_SDK_DISABLED?.toLowerCase() === 'true' || environment.OTEL_TRACES_EXPORTER === 'none';
  return endpoint !== '' && !off;
}

/**
 * null where no endpoint is set. Endpoint, headers, timeout and compression are read from the environment by the exporter; what a
 * collector does not take is tried again by it, and what waits is bounded (OTEL_BSP_*).
 *
 * @param service name of this side, unless OTEL_SERVICE_NAME says another
 */
export async function openSpans(service: string, environment: Environment): Promise<Spans | null> {
  if (!isTraced(environment)) return null;
  const [
    api,
    { BasicTracerProvider, BatchSpanProcessor },
    { OTLPTraceExporter },
    { resourceFromAttributes },
  ] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/sdk-trace-base'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
  ]);
  const next = { trace: '', span: '' };
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ 'service.name': environment.OTEL_SERVICE_NAME || service }),
    // A span has the id that its maker gave it: others name it before it is told.
    idGenerator: { generateTraceId: () => next.trace, generateSpanId: () => next.span },
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
  });
  const tracer = provider.getTracer('eve-attest');
  const kinds = {
    internal: api.SpanKind.INTERNAL,
    server: api.SpanKind.SERVER,
    client: api.SpanKind.CLIENT,
  };

  function tell({ ids, id, parent, name, kind, start, end, attributes, failed }: Span): void {
    next.trace = ids.trace;
    next.span = id;
    const above = { traceId: ids.trace, spanId: parent ?? '', traceFlags: api.TraceFlags.SAMPLED };
    const context =
      parent === null ? api.ROOT_CONTEXT : api.trace.setSpanContext(api.ROOT_CONTEXT, { ...above });
    const span: ApiSpan = tracer.startSpan(
      name,
      { kind: kinds[kind], startTime: timeOf(start), attributes, root: parent === null },
      context,
    );
    if (failed !== null) {
      span.setAttribute('error.type', failed);
      span.setStatus({ code: api.SpanStatusCode.ERROR, message: failed });
    }
    span.end(timeOf(end));
  }

  return { tell, close: () => provider.shutdown().catch(() => undefined) };
}

/** Seconds and nanoseconds. */
function timeOf(ms: number): HrTime {
  const seconds = Math.floor(ms / 1000);
  return [seconds, Math.round((ms - seconds * 1000) * 1e6)];
}
