//! Where requests come in: a socket, and the threads that answer.

use super::http;
use super::service::Service;
use super::{Options, ServeError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// How long connections are given to end.
const ENDING_MAX: Duration = Duration::from_secs(5);
/// Threads that answer requests. What takes longer than that has threads of its own.
const THREADS: usize = 2;

/// A door that is open.
pub struct Door {
    runtime: Runtime,
    answering: JoinHandle<()>,
    address: SocketAddr,
}

impl Door {
    /// Listens and answers. Tokens and certificates are taken out of the options.
    pub fn open(service: &Arc<Service>, options: &mut Options) -> Result<Door, ServeError> {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().thread_name("http").build()?;
        let listener = runtime.block_on(listen(options))?;
        let address = listener.local_addr()?;
        let (tokens, tls) = (options.tokens.take(), options.tls.take());
        let answering = runtime.spawn(http::server::serve(listener, Arc::clone(service), tokens, tls));
        Ok(Door { runtime, answering, address })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until all have been answered. The service has been told to end, so streams end by themselves.
    pub fn close(self) {
        let Door { runtime, answering, .. } = self;
        runtime.block_on(async { tokio::time::timeout(ENDING_MAX, answering).await.ok() });
        runtime.shutdown_timeout(ENDING_MAX);
    }
}

/// Listens, where only those can come who may.
async fn listen(options: &Options) -> Result<tokio::net::TcpListener, ServeError> {
    let failed = |cause| ServeError::Listen { address: options.listen.clone(), cause };
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(&options.listen).await.map_err(failed)?.collect();
    if options.tokens.is_none() && addresses.iter().any(|address| !address.ip().is_loopback()) {
        return Err(ServeError::Unprotected(options.listen.clone()));
    }
    tokio::net::TcpListener::bind(addresses.as_slice()).await.map_err(failed)
}
