//! What is asked is read, and what is answered is written, by another implementation of the protocol.

use super::*;
use bytes::BytesMut;
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::{
    BrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse, ProducerId,
    TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

const ID: TopicId = [7; 16];

/// What was asked, as a broker reads it.
fn read<R: Decodable>(asked: &Writer, version: i16) -> R {
    let mut bytes = Bytes::copy_from_slice(asked.bytes());
    let request = R::decode(&mut bytes, version).unwrap();
    assert!(bytes.is_empty(), "all of it is read");
    request
}

/// An answer, as a broker writes it; and whether its version is flexible.
fn written(response: &impl Encodable, version: i16, is_flexible: bool) -> Fields {
    let mut bytes = BytesMut::new();
    response.encode(&mut bytes, version).unwrap();
    Fields::new(bytes.freeze(), is_flexible)
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.into()))
}

#[test]
fn topics() {
    for (version, is_flexible) in [(METADATA, false), (METADATA_WITH_IDS, true)] {
        let request: MetadataRequest = read(&ask_topic("events", version), version);
        assert_eq!((request.topics.unwrap()[0].name.clone(), request.allow_auto_topic_creation), (Some(name("events")), false));
        let broker = |node, host: &str| {
            let host = StrBytes::from_string(host.into());
            MetadataResponseBroker::default().with_node_id(BrokerId(node)).with_host(host).with_port(9_092 + node)
        };
        let partition = |number, leader| {
            let partition = MetadataResponsePartition::default().with_partition_index(number).with_leader_id(BrokerId(leader));
            partition.with_replica_nodes(vec![BrokerId(1), BrokerId(2)]).with_isr_nodes(vec![BrokerId(1)])
        };
        let topic_id = if is_flexible { uuid::Uuid::from_bytes(ID) } else { uuid::Uuid::nil() };
        let topic = MetadataResponseTopic::default().with_name(Some(name("events"))).with_topic_id(topic_id);
        let response = MetadataResponse::default()
            .with_brokers(vec![broker(1, "one"), broker(2, "two")])
            .with_cluster_id(Some(StrBytes::from_static_str("fleet")))
            .with_topics(vec![topic.with_partitions(vec![partition(0, 2), partition(1, -1)])]);
        let expected = Topic {
            code: code::NONE,
            id: is_flexible.then_some(ID),
            cluster: "fleet".into(),
            leaders: [(0, 2), (1, -1)].into(),
            brokers: [(1, ("one".into(), 9_093)), (2, ("two".into(), 9_094))].into(),
        };
        assert_eq!(topic_of(&response, version, is_flexible), Ok(expected), "{version}");
        let gone = MetadataResponseTopic::default().with_name(Some(name("events"))).with_error_code(code::UNKNOWN_TOPIC);
        let response = MetadataResponse::default().with_topics(vec![gone]);
        assert_eq!(topic_of(&response, version, is_flexible).map(|topic| topic.code), Ok(code::UNKNOWN_TOPIC));
    }
}

fn topic_of(response: &MetadataResponse, version: i16, is_flexible: bool) -> Result<Topic, Malformed> {
    topic(&mut written(response, version, is_flexible), version)
}

#[test]
fn offsets_of_times() {
    for (at, time) in [(At::Earliest, -2), (At::Latest, -1), (At::Millis(5), 5), (At::Millis(-5), 0)] {
        let request: ListOffsetsRequest = read(&ask_offsets("events", &[3, 4], at), OFFSETS);
        let asked = &request.topics[0];
        assert_eq!((&asked.name, request.isolation_level, asked.partitions.len()), (&name("events"), 1, 2));
        assert_eq!((asked.partitions[1].partition_index, asked.partitions[1].timestamp), (4, time));
    }
    let partition = |number, code, offset| {
        ListOffsetsPartitionResponse::default().with_partition_index(number).with_error_code(code).with_offset(offset)
    };
    let topic =
        ListOffsetsTopicResponse::default().with_name(name("events")).with_partitions(vec![partition(3, 0, 9), partition(4, 6, -1)]);
    let response = ListOffsetsResponse::default().with_topics(vec![topic]);
    assert_eq!(offsets(&mut written(&response, OFFSETS, false)), Ok(vec![(3, 0, 9), (4, 6, -1)]));
}

#[test]
fn messages_by_name_and_by_id() {
    for (version, is_flexible) in [(FETCH, false), (FETCH_BY_ID, true)] {
        let wish = Wish { topic: "events", id: Some(ID), from: vec![(0, 5), (2, 1 << 40)], wait_ms: 500, bytes: (16, 4) };
        let request: FetchRequest = read(&ask_messages(&wish, version), version);
        assert_eq!((request.max_wait_ms, request.min_bytes, request.max_bytes, request.isolation_level), (500, 1, 16, 1));
        let asked = &request.topics[0];
        let topic = if is_flexible { asked.topic_id.into_bytes() == ID } else { asked.topic == name("events") };
        assert!(topic && asked.partitions.len() == 2, "{asked:?}");
        assert_eq!(
            (asked.partitions[1].partition, asked.partitions[1].fetch_offset, asked.partitions[1].partition_max_bytes),
            (2, 1 << 40, 4)
        );
        let aborted = AbortedTransaction::default().with_producer_id(ProducerId(8)).with_first_offset(6);
        let partition = PartitionData::default().with_partition_index(2).with_high_watermark(12).with_last_stable_offset(11);
        let partition = partition.with_aborted_transactions(Some(vec![aborted])).with_records(Some(Bytes::from_static(b"batches")));
        let refused = PartitionData::default().with_partition_index(0).with_error_code(code::OUT_OF_RANGE).with_aborted_transactions(None);
        let topic = if is_flexible {
            FetchableTopicResponse::default().with_topic_id(uuid::Uuid::from_bytes(ID))
        } else {
            FetchableTopicResponse::default().with_topic(name("events"))
        };
        let response = FetchResponse::default().with_responses(vec![topic.with_partitions(vec![partition, refused])]);
        let found = messages(&mut written(&response, version, is_flexible), version).unwrap();
        let codes: Vec<(i32, i16)> = found.iter().map(|fetched| (fetched.partition, fetched.code)).collect();
        assert_eq!(codes, [(2, code::NONE), (0, code::OUT_OF_RANGE)]);
        assert_eq!((found[0].end, &found[0].aborted[..], &found[0].batches[..]), (11, &[(8, 6)][..], &b"batches"[..]));
    }
}
