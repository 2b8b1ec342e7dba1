//! Makes and fills topics of a Kafka broker, from outside, by a crate that the program does not read with.

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::add_partitions_to_txn_request::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic};
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use kafka_protocol::messages::end_txn_request::EndTxnRequest;
use kafka_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_protocol::messages::{RequestHeader, ResponseHeader, TopicName, TransactionalId};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request, StrBytes, encode_request_header_into_buffer};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// A message to be published.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// Now, where none is given.
    pub time_ms: Option<i64>,
}

impl Sent {
    pub fn of(value: impl Into<Vec<u8>>) -> Sent {
        Sent { value: Some(Bytes::from(value.into())), ..Sent::default() }
    }

    pub fn with_key(self, key: impl Into<Vec<u8>>) -> Sent {
        Sent { key: Some(Bytes::from(key.into())), ..self }
    }

    pub fn at(self, time_ms: i64) -> Sent {
        Sent { time_ms: Some(time_ms), ..self }
    }
}

/// A connection to a broker.
pub struct KafkaClient {
    stream: TcpStream,
}

pub fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.into()))
}

impl KafkaClient {
    pub fn new(port: u16) -> KafkaClient {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
        stream.set_nodelay(true).unwrap();
        KafkaClient { stream }
    }

    fn ask<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_client_id(Some(StrBytes::from_static_str("test")));
        let mut bytes = BytesMut::new();
        encode_request_header_into_buffer(&mut bytes, &header).unwrap();
        request.encode(&mut bytes, version).unwrap();
        self.stream.write_all(&u32::try_from(bytes.len()).unwrap().to_be_bytes()).unwrap();
        self.stream.write_all(&bytes).unwrap();
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut answer).unwrap();
        let mut answer = Bytes::from(answer);
        ResponseHeader::decode(&mut answer, R::Response::header_version(version)).unwrap();
        let response = R::Response::decode(&mut answer, version).unwrap();
        assert!(!answer.has_remaining());
        response
    }

    /// Makes a topic that takes long messages.
    pub fn create(&mut self, topic: &str, partitions: i32) {
        let long = CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str("max.message.bytes"))
            .with_value(Some(StrBytes::from_static_str("50000000")));
        let topic = CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(vec![long]);
        let made = self.ask(&CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000), 4);
        assert_eq!(made.topics[0].error_code, 0, "{made:?}");
    }

    /// Gives a topic so many partitions.
    pub fn grow(&mut self, topic: &str, partitions: i32) {
        let topic = CreatePartitionsTopic::default().with_name(name(topic)).with_count(partitions).with_assignments(None);
        let made = self.ask(&CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000), 1);
        assert_eq!(made.results[0].error_code, 0, "{made:?}");
    }

    /// Removes a topic.
    pub fn remove(&mut self, topic: &str) {
        let gone = self.ask(&DeleteTopicsRequest::default().with_topic_names(vec![name(topic)]).with_timeout_ms(10_000), 3);
        assert_eq!(gone.responses[0].error_code, 0, "{gone:?}");
    }

    /// Removes the messages of a partition before an offset, as a limit of age would.
    pub fn forget(&mut self, topic: &str, partition: i32, offset: i64) {
        let of = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(vec![of]);
        let gone = self.ask(&DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000), 1);
        assert_eq!(gone.topics[0].partitions[0].error_code, 0, "{gone:?}");
    }

    /// Publishes messages as one batch. Returns the offset of the first.
    pub fn publish(&mut self, topic: &str, partition: i32, messages: &[Sent], compression: Compression) -> i64 {
        self.produce(topic, partition, messages, compression, None)
    }

    /// Publishes messages as a transaction that counts, or comes to nothing.
    pub fn transact(&mut self, topic: &str, partition: i32, messages: &[Sent], counts: bool) {
        let id = TransactionalId(StrBytes::from_static_str("test"));
        let init = InitProducerIdRequest::default().with_transactional_id(Some(id.clone())).with_transaction_timeout_ms(60_000);
        let producer = self.ask(&init, 1);
        assert_eq!(producer.error_code, 0, "{producer:?}");
        let (producer, epoch) = (producer.producer_id, producer.producer_epoch);
        let add = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(id.clone())
            .with_v3_and_below_producer_id(producer)
            .with_v3_and_below_producer_epoch(epoch)
            .with_v3_and_below_topics(vec![AddPartitionsToTxnTopic::default().with_name(name(topic)).with_partitions(vec![partition])]);
        self.ask(&add, 1);
        self.produce(topic, partition, messages, Compression::None, Some((producer.0, epoch, id.clone())));
        let end =
            EndTxnRequest::default().with_transactional_id(id).with_producer_id(producer).with_producer_epoch(epoch).with_committed(counts);
        let ended = self.ask(&end, 1);
        assert_eq!(ended.error_code, 0, "{ended:?}");
    }

    fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        messages: &[Sent],
        compression: Compression,
        transaction: Option<(i64, i16, TransactionalId)>,
    ) -> i64 {
        let (producer_id, producer_epoch) = transaction.as_ref().map_or((-1, -1), |(producer, epoch, _)| (*producer, *epoch));
        let now = now_ms();
        let record = |(offset, sent): (i32, &Sent)| Record {
            transactional: transaction.is_some(),
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id,
            producer_epoch,
            timestamp_type: TimestampType::Creation,
            offset: i64::from(offset),
            sequence: if transaction.is_some() { offset } else { offset - 1 },
            timestamp: sent.time_ms.unwrap_or(now),
            key: sent.key.clone(),
            value: sent.value.clone(),
            headers: Default::default(),
        };
        let records: Vec<Record> = (0..).zip(messages).map(record).collect();
        let (mut bytes, options) = (BytesMut::new(), RecordEncodeOptions { version: 2, compression });
        if compression == Compression::Zstd {
            let pack = |records: &mut BytesMut, to: &mut BytesMut, _| {
                to.extend_from_slice(&zstd::encode_all(&records[..], 1)?);
                Ok(())
            };
            RecordBatchEncoder::encode_with_custom_compression(&mut bytes, &records, &options, Some(pack)).unwrap();
        } else {
            RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
        }
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(bytes.freeze()));
        let request = ProduceRequest::default()
            .with_transactional_id(transaction.map(|(_, _, id)| id))
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data])]);
        let produced = self.ask(&request, 7);
        let part = &produced.responses[0].partition_responses[0];
        assert_eq!(part.error_code, 0, "{part:?}");
        part.base_offset
    }
}
