//! Counting the calls of a gRPC server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use tonic::Code;
use tonic::service::Routes;

use crate::metrics::{Counter, Durations, Metrics};

/// How a method is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodKind {
    /// One request, one answer.
    Unary,
    /// A stream in at least one direction.
    Stream,
}

struct Method {
    service: String,
    name: String,
    kind: MethodKind,
}

/// Counts the calls of the methods that a server has; others are not counted, for their names are the callers'.
#[derive(Clone)]
pub struct GrpcMetrics {
    methods: Arc<BTreeMap<&'static str, Method>>,
    unary_received: Counter,
    unary_completed: Counter,
    unary_duration: Durations,
    stream_received: Counter,
}

impl std::fmt::Debug for GrpcMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GrpcMetrics({} methods)", self.methods.len())
    }
}

impl GrpcMetrics {
    /// Counters in `metrics` for methods given by path, such as `/protos.Endorser/ProcessProposal`.
    pub fn new(metrics: &Metrics, methods: &[(&'static str, MethodKind)]) -> Self {
        let methods = methods.iter().filter_map(|(path, kind)| {
            let (service, name) = path.strip_prefix('/')?.split_once('/')?;
            let method = Method {
                // As Fabric writes it.
                service: service.replace('.', "_"),
                name: name.to_owned(),
                kind: *kind,
            };
            Some((*path, method))
        });
        let place = ["service", "method"];
        let ended = ["service", "method", "code"];
        let counted = Self {
            methods: Arc::new(methods.collect()),
            unary_received: Counter::new(
                "grpc_server_unary_requests_received",
                "Unary requests received.",
                &place,
            ),
            unary_completed: Counter::new(
                "grpc_server_unary_requests_completed",
                "Unary requests answered.",
                &ended,
            ),
            unary_duration: Durations::new(
                "grpc_server_unary_request_duration",
                "Seconds from a unary request to its answer.",
                &ended,
            ),
            stream_received: Counter::new(
                "grpc_server_stream_requests_received",
                "Streams opened by callers.",
                &place,
            ),
        };
        metrics.register(&counted.unary_received);
        metrics.register(&counted.unary_completed);
        metrics.register(&counted.unary_duration);
        metrics.register(&counted.stream_received);
        counted
    }

    /// The same services, counted.
    pub fn watch(self, routes: Routes) -> Routes {
        let router = routes.into_axum_router();
        Routes::from(router.layer(middleware::from_fn_with_state(self, count)))
    }
}

/// A refused call has its status in the head of the answer; one that was answered has it behind the answer.
fn code(answer: &Response) -> Code {
    let status = answer.headers().get("grpc-status");
    status.map_or(Code::Ok, |s| Code::from_bytes(s.as_bytes()))
}

async fn count(State(metrics): State<GrpcMetrics>, request: Request, next: Next) -> Response {
    let methods = Arc::clone(&metrics.methods);
    let Some(method) = methods.get(request.uri().path()) else {
        return next.run(request).await;
    };
    let place = [method.service.as_str(), method.name.as_str()];
    if method.kind == MethodKind::Stream {
        metrics.stream_received.count(&place);
        return next.run(request).await;
    }
    metrics.unary_received.count(&place);
    let started = Instant::now();
    let answer = next.run(request).await;
    let code = format!("{:?}", code(&answer));
    let ended = [place[0], place[1], &code];
    metrics.unary_completed.count(&ended);
    metrics.unary_duration.observe(&ended, started.elapsed());
    answer
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::post;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn calls_are_counted_by_method_and_code() {
        let metrics = Metrics::new();
        let router = Router::new()
            .route("/protos.Endorser/ProcessProposal", post(|| async { "fine" }))
            .route(
                "/protos.Endorser/Refuse",
                post(|| async { ([("grpc-status", "7")], "") }),
            )
            .route("/protos.Deliver/Deliver", post(|| async { "blocks" }));
        let counted = GrpcMetrics::new(
            &metrics,
            &[
                ("/protos.Endorser/ProcessProposal", MethodKind::Unary),
                ("/protos.Endorser/Refuse", MethodKind::Unary),
                ("/protos.Deliver/Deliver", MethodKind::Stream),
            ],
        );
        let watched = counted.watch(Routes::from(router)).into_axum_router();
        for path in [
            "/protos.Endorser/ProcessProposal",
            "/protos.Endorser/ProcessProposal",
            "/protos.Endorser/Refuse",
            "/protos.Deliver/Deliver",
            "/made.up/Name",
        ] {
            let request = Request::post(path).body(Body::empty()).unwrap();
            watched.clone().oneshot(request).await.unwrap();
        }
        let text = metrics.text();
        for line in [
            "grpc_server_unary_requests_received{method=\"ProcessProposal\",service=\"protos_Endorser\"} 2",
            "grpc_server_unary_requests_completed{code=\"Ok\",method=\"ProcessProposal\",service=\"protos_Endorser\"} 2",
            "grpc_server_unary_requests_completed{code=\"PermissionDenied\",method=\"Refuse\",service=\"protos_Endorser\"} 1",
            "grpc_server_stream_requests_received{method=\"Deliver\",service=\"protos_Deliver\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        assert!(!text.contains("made"));
    }
}
