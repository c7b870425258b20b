//! What a user may not do is told at once, with what it was and where: to see, to read, to write, a group, a transactional id.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use bytes::{BufMut as _, BytesMut};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::{ApiKey, CreateAclsRequest, CreateAclsResponse, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, StrBytes};
use millstream_core::clock::monotonic;
use millstream_core::{Error, ErrorKind, Result, secs};
use millstream_kafka::{Brokers, KafkaSink, SaveToKafka as _, Start, direct};
use millstream_testkit::{StreamTest, batches};

use crate::bad_input::{start, user};
use crate::common::{brokers, fresh, topic, write};

/// What a rule is about, and what it allows, by the numbers that Kafka has for them.
const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const TRANSACTIONS: i8 = 5;
const READ: i8 = 3;
const WRITE: i8 = 4;
const DESCRIBE: i8 = 8;

/// Allows something to bob, who may do nothing else.
fn allow(kind: i8, name: &str, what: i8) {
    const VERSION: i16 = 2;
    const LITERALLY: i8 = 3;
    const ALLOWED: i8 = 3;
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let rule = AclCreation::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_resource_pattern_type(LITERALLY)
        .with_principal(text("User:bob"))
        .with_host(text("*"))
        .with_operation(what)
        .with_permission_type(ALLOWED);
    let header = RequestHeader::default()
        .with_request_api_key(ApiKey::CreateAcls as i16)
        .with_request_api_version(VERSION)
        .with_correlation_id(1);
    let mut body = BytesMut::new();
    header.encode(&mut body, ApiKey::CreateAcls.request_header_version(VERSION)).unwrap();
    CreateAclsRequest::default().with_creations(vec![rule]).encode(&mut body, VERSION).unwrap();
    let mut frame = BytesMut::new();
    frame.put_u32(body.len() as u32);
    frame.extend_from_slice(&body);
    let mut wire = TcpStream::connect(brokers().named()).unwrap();
    wire.set_read_timeout(Some(secs(20))).unwrap();
    wire.write_all(&frame).unwrap();
    let mut len = [0; 4];
    wire.read_exact(&mut len).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(len) as usize];
    wire.read_exact(&mut answer).unwrap();
    let mut answer = bytes::Bytes::from(answer);
    ResponseHeader::decode(&mut answer, ApiKey::CreateAcls.response_header_version(VERSION)).unwrap();
    let answer = CreateAclsResponse::decode(&mut answer, VERSION).unwrap();
    assert!(answer.results.iter().all(|one| one.error_code == 0), "{answer:?}");
}

fn bob() -> Brokers {
    user("bob", "nothing-allowed")
}

/// An error that names the brokers and what it is about, says that rules forbid it, and no password.
fn assert_told(error: &Error, what: &str) {
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Config, "{text}");
    assert!(text.contains(what) && text.contains(bob().named()) && text.contains("access rules"), "{what}: {text}");
    assert!(!text.contains("nothing-allowed"), "{text}");
}

#[test]
fn a_user_who_may_see_a_topic_and_not_read_it_is_told_so() {
    let a = topic("seen", 1);
    write(&a, 0, ["x"]);
    allow(TOPIC, &a, DESCRIBE);
    assert_told(&start(direct(bob()).subscribe([&a]).start(Start::Earliest)), &a);
}

#[test]
fn a_user_who_may_read_and_not_use_the_group_is_told_which_group() {
    let (a, group) = (topic("read", 1), fresh("private"));
    write(&a, 0, ["x"]);
    allow(TOPIC, &a, READ);
    let error = start(direct(bob()).subscribe([&a]).group(&group).start(Start::Earliest));
    assert_told(&error, &group);
    // Without a group he reads.
    let mut test = StreamTest::new();
    let stream = test.ssc().input(direct(bob()).subscribe([&a]).start(Start::Earliest));
    let counts = test.collect(&stream.count());
    test.run(1).unwrap();
    assert_eq!(counts.table().to_string().trim(), "1s 1");
}

fn save(to: &str, uid: &str, exactly_once: bool) -> Result<()> {
    let mut test = StreamTest::new();
    let sink = KafkaSink::to(bob(), to);
    let sink = if exactly_once { sink } else { sink.at_least_once() };
    test.input(batches![[1]]).map(|n: i32| n.to_string()).save_to_kafka(sink).uid(uid);
    let began = monotonic();
    let done = test.run(1);
    let took = monotonic() - began;
    assert!(took < secs(20), "{took:?}: {done:?}");
    done
}

#[test]
fn a_user_who_may_not_write_is_told_to_which_topic_and_one_who_may_not_use_the_transactional_id_which() {
    let (a, uid) = (topic("written", 1), fresh("output"));
    allow(TOPIC, &a, DESCRIBE);
    assert_told(&save(&a, &uid, false).unwrap_err(), &a);
    allow(TOPIC, &a, WRITE);
    assert_told(&save(&a, &uid, true).unwrap_err(), &uid);
    let name = format!("millstream-test/{uid}");
    allow(TRANSACTIONS, &name, WRITE);
    assert_told(&save(&a, &uid, true).unwrap_err(), &uid);
    // Whoever reads and writes marks is a member of the group, as Kafka sees it, and reads the topic that they name.
    allow(GROUP, &name, READ);
    allow(TOPIC, &a, READ);
    save(&a, &uid, true).unwrap();
    save(&a, &uid, false).unwrap();
}
