//! What the tests share: the program, known records, servers to test against.

pub mod broker;
pub mod browser;
pub mod certificates;
pub mod injected;
pub mod kafka_broker;
pub mod kafka_client;
pub mod kafka_front;
pub mod known;
pub mod mosquitto;
pub mod nats_server;
pub mod packed;
pub mod parquet;
pub mod postgres_server;
pub mod program;
pub mod proxy;
pub mod receiver;
pub mod s3_faults;
pub mod s3_server;
pub mod service;
pub mod sources;
pub mod sqlite_file;
pub mod ssh_server;
pub mod steps;
pub mod whole_file;
pub mod wire;
