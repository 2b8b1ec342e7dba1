//! Live sources: brokers whose messages become batches of a service.
//!
//! A source has two sides. A *connector* ([`kafka`], [`mqtt`], [`nats`]) speaks to a broker, and hands over messages through an [`inlet`].
//! A thread of each source *gathers* ([`gather`]) what came into batches: texts of lines ([`text`]), made of [`payload`]s in the way its
//! [`url`] says, with what stands in a [`topic`]. Batches go to whoever keeps them. Only when the journal has one are its messages
//! acknowledged.
//!
//! What waits is bounded in bytes: a connector that finds no room stops reading, and the broker keeps the rest. A broker that is away is
//! waited for ([`lost`]), and [`status`] says so.
//!
//! # Limits
//! A message of more than [`payload::MESSAGE_BYTES_MAX`] bytes, packed or not, is refused, as are an empty one and one that is no text.

pub mod gather;
pub mod inlet;
pub mod kafka;
pub mod kind;
pub mod lost;
pub mod mqtt;
pub mod nats;
pub mod payload;
pub mod sasl;
pub mod start;
pub mod status;
pub mod text;
pub mod tls;
pub mod topic;
pub mod url;
