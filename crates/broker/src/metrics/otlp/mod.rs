//! Metrics for an OpenTelemetry collector, by gRPC (`metricsExporterType=OTLP_GRPC`).
//!
//! Each export makes a connection of its own: a collector that moved or came back is found, and nothing is kept meanwhile.

mod convert;
mod proto;
#[cfg(test)]
mod tests;

use std::time::Duration;

use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::config::BrokerConfig;
use convert::{Conversion, Deltas};
use proto::{ExportRequest, ExportResponse};

use super::sheet::Family;

const METHOD: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// An answer of a collector is a few numbers and a sentence.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Where systems keep the authorities that they trust.
const ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Why nothing can be exported with these settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OtlpError {
    #[error("metricsGrpcExporterTarget is not set")]
    NoTarget,
    #[error("metricsGrpcExporterTarget: {0}")]
    Target(#[from] tonic::transport::Error),
    #[error("https needs certificates of authorities, and there are none in $SSL_CERT_FILE, {}", ROOTS.join(", "))]
    NoRoots,
}

pub(super) struct Otlp {
    endpoint: Endpoint,
    headers: Vec<(MetadataKey<Ascii>, MetadataValue<Ascii>)>,
    timeout: Duration,
    labels: Vec<(String, String)>,
    /// Nothing unless `metricsInDelta`.
    deltas: Option<Deltas>,
}

/// When values began to count, and now, in milliseconds since the epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) started_ms: i64,
    pub(super) now_ms: i64,
}

impl Otlp {
    pub(super) fn of(config: &BrokerConfig, labels: Vec<(String, String)>) -> Result<Otlp, OtlpError> {
        let target = config.metrics_grpc_exporter_target.trim();
        if target.is_empty() {
            return Err(OtlpError::NoTarget);
        }
        // As in the original, where nothing is said it is https.
        let target = match target.starts_with("http") {
            true => target.to_owned(),
            false => format!("https://{target}"),
        };
        let timeout = Duration::from_millis(config.metric_grpc_exporter_timeout_ms);
        let is_https = target.starts_with("https:");
        let mut endpoint = Endpoint::from_shared(target)?.connect_timeout(timeout);
        if is_https {
            let roots = Certificate::from_pem(roots().ok_or(OtlpError::NoRoots)?);
            endpoint = endpoint.tls_config(ClientTlsConfig::new().ca_certificate(roots))?;
        }
        Ok(Otlp {
            endpoint,
            headers: headers(&config.metrics_grpc_exporter_header),
            timeout,
            labels,
            deltas: config.metrics_in_delta.then(Deltas::default),
        })
    }

    /// Sends everything, or as far as the collector takes it.
    pub(super) async fn export(&mut self, families: &[Family], times: Times) -> Result<(), String> {
        let nanos = |ms: i64| ms.max(0) as u64 * 1_000_000;
        let (start_time, time) = (nanos(times.started_ms), nanos(times.now_ms));
        if let Some(deltas) = &mut self.deltas {
            deltas.retain(families);
        }
        let channel = self.within(self.endpoint.connect()).await?;
        let mut client = Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        let mut taken = Vec::new();
        let mut outcome = Ok(());
        let conversion = Conversion {
            common: &self.labels,
            start_time,
            time,
            deltas: self.deltas.as_ref(),
        };
        for part in conversion.parts(families) {
            outcome = self.within(self.send(&mut client, part.request)).await;
            if outcome.is_err() {
                break;
            }
            taken.extend(part.sent);
        }
        if let Some(deltas) = &mut self.deltas {
            deltas.taken(taken, time);
        }
        outcome
    }

    async fn within<T, E: std::error::Error>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, String> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(done) => done.map_err(|error| with_causes(&error)),
            Err(_) => Err(format!("no answer within {} ms", self.timeout.as_millis())),
        }
    }

    async fn send(&self, client: &mut Grpc<Channel>, request: ExportRequest) -> Result<(), Status> {
        let ready = client.ready().await;
        ready.map_err(|error| Status::unavailable(with_causes(&error)))?;
        let mut request = Request::new(request);
        for (name, value) in &self.headers {
            request.metadata_mut().insert(name.clone(), value.clone());
        }
        let codec = ProstCodec::<ExportRequest, ExportResponse>::default();
        let answer = client.unary(request, PathAndQuery::from_static(METHOD), codec).await?;
        if let Some(partial) = answer.into_inner().partial_success
            && partial.rejected_data_points > 0
        {
            tracing::warn!(
                rejected = partial.rejected_data_points,
                why = partial.error_message,
                "the collector does not take all metrics"
            );
        }
        Ok(())
    }
}

/// `metricsGrpcExporterHeader`; its values are not shown.
fn headers(text: &str) -> Vec<(MetadataKey<Ascii>, MetadataValue<Ascii>)> {
    let mut headers = Vec::new();
    for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
        let parsed = pair.split_once(':').and_then(|(name, value)| {
            let name = MetadataKey::from_bytes(name.trim().to_lowercase().as_bytes()).ok()?;
            Some((name, value.trim().parse().ok()?))
        });
        match parsed {
            Some(header) => headers.push(header),
            None => tracing::warn!("metricsGrpcExporterHeader: a part is not name:value"),
        }
    }
    headers
}

fn roots() -> Option<Vec<u8>> {
    let given = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
    let files = given.into_iter().chain(ROOTS.map(std::path::PathBuf::from));
    files.filter_map(|file| std::fs::read(file).ok()).next()
}

/// An error with what it came from: the outermost says little.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
