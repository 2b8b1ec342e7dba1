//! An S3 server of a test's own: `s3s-fs`, with a folder behind it, which checks signatures and lists a thousand keys at a time. And a way
//! to it that is not always good.

use crate::support::program::Place;
use bytes::Bytes;
use futures_util::StreamExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStore, ObjectStoreExt};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::runtime::Runtime;

const KEY: &str = "retally-test";
const SECRET: &str = "a secret of a test";

/// A server with the bucket `fleet`, gone when the test is.
pub struct S3Server {
    pub address: SocketAddr,
    place: Place,
    runtime: Runtime,
}

impl S3Server {
    pub fn start() -> S3Server {
        let place = Place::new();
        std::fs::create_dir_all(place.path("data/fleet")).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(place.path("data")).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = builder.build();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true).unwrap();
                let connection = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service.clone()).into_owned();
                tokio::spawn(connection);
            }
        });
        S3Server { address, place, runtime }
    }

    /// Puts an object, as others would.
    pub fn put(&self, objects: impl IntoIterator<Item = (String, Vec<u8>)>) {
        let store = AmazonS3Builder::new()
            .with_endpoint(format!("http://{}", self.address))
            .with_allow_http(true)
            .with_bucket_name("fleet")
            .with_access_key_id(KEY)
            .with_secret_access_key(SECRET);
        let _within = self.runtime.enter();
        rustls::crypto::ring::default_provider().install_default().ok();
        let store: Arc<dyn ObjectStore> = Arc::new(store.build().unwrap());
        let puts = objects.into_iter().map(|(key, bytes)| {
            let store = Arc::clone(&store);
            async move { store.put(&key.into(), Bytes::from(bytes).into()).await.unwrap() }
        });
        self.runtime.block_on(futures_util::stream::iter(puts).buffer_unordered(16).for_each(|_| async {}));
    }

    /// Puts all files of a folder, below a prefix.
    pub fn put_folder(&self, place: &Place, folder: &str, prefix: &str) {
        self.put(place.files(folder).into_iter().map(|(name, bytes)| (format!("{prefix}/{name}"), bytes)));
    }

    /// Lays a file into the bucket's folder, behind the server's back.
    pub fn lay(&self, key: &str, bytes: impl AsRef<[u8]>) {
        self.place.write(&format!("data/fleet/{key}"), bytes);
    }

    /// Where an object of the bucket is.
    pub fn path(&self, key: &str) -> std::path::PathBuf {
        self.place.path(&format!("data/fleet/{key}"))
    }

    /// The names of what is right below a prefix, in order.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        if self.path(prefix).is_dir() { self.place.names(&format!("data/fleet/{prefix}")) } else { Vec::new() }
    }

    /// A command that knows who it is and where the server is.
    pub fn lend(&self, mut command: Command) -> Command {
        lend(&mut command, self.address, SECRET);
        command
    }
}

/// Tells a command where a server is, and how to speak to it.
pub fn lend(command: &mut Command, address: SocketAddr, secret: &str) {
    command.env("AWS_ENDPOINT_URL", format!("http://{address}"));
    command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", secret).env("AWS_REGION", "eu-central-1");
}

/// The secret that the server knows.
pub fn secret() -> &'static str {
    SECRET
}

/// A way to a server on which connections are cut.
pub struct Proxy {
    pub address: SocketAddr,
    /// How many have been cut.
    pub cut: Arc<AtomicU64>,
    /// Requests for ranges that went by.
    pub ranges: Arc<AtomicU64>,
}

impl Proxy {
    /// Cuts the first `cuts` connections on which the server has said `bytes` in all.
    pub fn start(server: SocketAddr, cuts: u64, bytes: usize) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Proxy { address, cut: Arc::default(), ranges: Arc::default() };
        let (cut, ranges) = (Arc::clone(&proxy.cut), Arc::clone(&proxy.ranges));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (cut, ranges) = (Arc::clone(&cut), Arc::clone(&ranges));
                let Ok(upstream) = TcpStream::connect(server) else { return };
                let (mut from, mut to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
                std::thread::spawn(move || {
                    let mut block = vec![0; 16 << 10];
                    while let Ok(length @ 1..) = from.read(&mut block) {
                        let said = String::from_utf8_lossy(&block[..length]).to_ascii_lowercase();
                        ranges.fetch_add(said.matches("\r\nrange: bytes=").count() as u64, Ordering::Relaxed);
                        if to.write_all(&block[..length]).is_err() {
                            break;
                        }
                    }
                    to.shutdown(Shutdown::Both).ok();
                });
                let (mut from, mut to) = (upstream, client);
                std::thread::spawn(move || {
                    let (mut block, mut said) = (vec![0; 16 << 10], 0);
                    while let Ok(length @ 1..) = from.read(&mut block) {
                        said += length;
                        let cutting = said >= bytes
                            && cut.fetch_update(Ordering::AcqRel, Ordering::Acquire, |cut| (cut < cuts).then_some(cut + 1)).is_ok();
                        if cutting || to.write_all(&block[..length]).is_err() {
                            break;
                        }
                    }
                    to.shutdown(Shutdown::Both).ok();
                    from.shutdown(Shutdown::Both).ok();
                });
            }
        });
        proxy
    }
}
