//! Connections: how many, how long a request may take to say what it wants, and how they end.

use super::auth::Tokens;
use super::session::Guard;
use crate::serve::service::Service;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

/// The header of a request must have come within this.
const HEADER_MAX: Duration = Duration::from_secs(10);
/// Who takes nothing of an answer for so long is dropped.
const WRITE_MAX: Duration = Duration::from_secs(60);
/// The largest header.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// How long to wait after the system had no socket to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers requests until the service ends.
pub async fn serve(listener: TcpListener, service: Arc<Service>, tokens: Option<Tokens>, tls: Option<TlsAcceptor>) {
    let router = super::router(Arc::clone(&service), Guard::new(tokens, tls.is_some()));
    let permits = Arc::new(Semaphore::new(service.limits.connections));
    let mut open = JoinSet::new();
    loop {
        let accepted = async {
            // More wait before the door.
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = service.ending() => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        stream.set_nodelay(true).ok();
        let (service, router, tls) = (Arc::clone(&service), router.clone(), tls.clone());
        open.spawn(async move {
            let _permit = permit;
            service.metrics.connections.inc();
            let mut timed = TimeoutStream::new(stream);
            timed.set_write_timeout(Some(WRITE_MAX));
            let timed = Box::pin(timed);
            match tls {
                None => answer(timed, &service, router).await,
                // Who does not come to an agreement in time is none of ours.
                Some(tls) => {
                    if let Ok(Ok(stream)) = tokio::time::timeout(HEADER_MAX, tls.accept(timed)).await {
                        answer(stream, &service, router).await;
                    }
                }
            }
            service.metrics.connections.dec();
        });
        while open.try_join_next().is_some() {}
    }
    while open.join_next().await.is_some() {}
}

/// Answers the requests of a connection.
async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: &Service, router: Router) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_MAX).max_buf_size(HEADER_BYTES_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    // Whoever breaks a connection off knows it.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = service.ending() => {
            connection.as_mut().graceful_shutdown();
            connection.await.ok();
        }
    }
}

/// What proves who the service is, from files in PEM.
pub fn tls(certificates: &Path, key: &Path) -> Result<TlsAcceptor, String> {
    let chain = crate::certificates::read(certificates)?;
    let key_of = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("could not read a key from {key:?}: {error}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key_of))
        .map_err(|error| format!("could not use {certificates:?} with {key:?}: {error}"))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
