//! The same against a server that speaks S3, at `MILLSTREAM_S3`, with the feature `server-tests`: `.ci/with-s3` starts one.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::sync::Arc;

use common::World;
use millstream_object_store::object_store::aws::AmazonS3Builder;

/// A prefix of the bucket `millstream`, which the server must have.
fn world(prefix: &str) -> World {
    let endpoint = std::env::var("MILLSTREAM_S3").expect("MILLSTREAM_S3 says where the server is");
    let store = AmazonS3Builder::new()
        .with_bucket_name("millstream")
        .with_endpoint(endpoint)
        .with_region("us-east-1")
        .with_access_key_id("test")
        .with_secret_access_key("test")
        .with_allow_http(true)
        .build()
        .unwrap();
    World::new(Arc::new(store), prefix)
}

#[test]
fn a_program_on_a_new_machine_goes_on_from_the_bucket_alone() {
    common::goes_on_from_the_bucket_alone(&world("goes/on"));
}

#[test]
fn a_driver_that_wakes_late_is_refused_and_nothing_is_lost_or_doubled() {
    common::a_late_driver_is_refused(&world("late"));
}

#[test]
fn the_receiver_of_a_late_driver_acknowledges_nothing_and_nothing_acknowledged_is_lost_or_doubled() {
    common::received::a_late_receiver_acknowledges_nothing(&world("receiver"));
}

#[test]
fn who_begins_anew_is_not_disturbed_by_who_was_there() {
    common::who_begins_anew_is_not_disturbed(&world("anew"));
}

#[test]
fn a_checkpoint_in_a_bucket_is_inspected_planned_replayed_and_upgraded() {
    common::commands_look_into_the_bucket(world("commands"));
}

#[test]
fn objects_are_what_a_disk_promises() {
    common::objects_are_what_a_disk_promises(&world("disk"));
}
