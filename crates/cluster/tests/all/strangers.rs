//! Who may not join, and what strangers can do: nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use millstream_cluster::Cluster;
use millstream_core::backend::Backend as _;
use millstream_core::conf::EngineConf;
use millstream_core::{Context, ErrorKind};

fn at_any_port() -> EngineConf {
    EngineConf::new("cluster://127.0.0.1:0", "strangers").unwrap()
}

#[test]
fn garbage_at_the_desk_is_turned_away_and_hurts_nobody() {
    let conf = EngineConf::new("local-cluster[1,1]", "strangers").unwrap();
    let cluster = std::sync::Arc::new(Cluster::start(&conf).unwrap());
    let desk = cluster.address().unwrap();
    for garbage in [&b""[..], b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", &[0xff; 5000], &[0; 5000]] {
        let mut stranger = TcpStream::connect(desk).unwrap();
        // It may close before all has been said.
        let _ = stranger.write_all(garbage);
        let _ = stranger.shutdown(Shutdown::Write);
        let mut said = Vec::new();
        let _ = stranger.read_to_end(&mut said);
        assert!(said.len() < 100, "a stranger is told a number, and nothing else: {}", said.len());
    }
    let context = Context::builder(conf).with_backend(cluster as _).build().unwrap();
    assert_eq!(context.range(0, 10, 1, 2).count().unwrap(), 10);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let conf = EngineConf::new(&format!("cluster://127.0.0.1:{port}"), "strangers").unwrap();
    // Without the secret that is told first.
    let error = Cluster::start(&conf).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error.to_string().contains("MILLSTREAM_SECRET") || error.to_string().contains(&port.to_string()),
        "{error}"
    );
}

#[test]
fn a_master_that_is_no_cluster_and_a_cluster_without_a_secret_are_refused() {
    let error = Cluster::start(&EngineConf::new("local[2]", "t").unwrap()).unwrap_err();
    assert!(error.to_string().contains("local[2] is no cluster"), "{error}");
    if std::env::var_os("MILLSTREAM_SECRET").is_none() {
        let error = Cluster::start(&at_any_port()).unwrap_err();
        assert!(error.to_string().contains("MILLSTREAM_SECRET is not set"), "{error}");
    }
}

#[test]
fn a_context_that_is_stopped_ends_its_executors_and_a_cluster_that_was_lent_ends_when_it_is_told() {
    let alive = |process: u32| std::path::Path::new(&format!("/proc/{process}")).exists();
    let own = std::process::id();
    let process = |context: &Context| {
        let here = context.range(0, 1, 1, 1).map(|_| std::process::id()).collect();
        here.unwrap().first().copied().filter(|process| *process != own).unwrap()
    };
    let conf = EngineConf::new("local-cluster[1,1]", "stopped").unwrap();
    let context = Context::builder(conf.clone()).build().unwrap();
    let executor = process(&context);
    assert!(alive(executor));
    context.stop();
    assert!(!alive(executor), "it has ended when the stop returns, although the context is still there");

    let cluster = std::sync::Arc::new(Cluster::start(&conf).unwrap());
    let lent = |cluster: &std::sync::Arc<Cluster>| {
        Context::builder(conf.clone()).with_backend(std::sync::Arc::clone(cluster) as _).build().unwrap()
    };
    let context = lent(&cluster);
    let executor = process(&context);
    context.stop();
    assert_eq!(process(&lent(&cluster)), executor, "others may have it");
    let late = lent(&cluster);
    cluster.stop();
    cluster.stop();
    assert!(!alive(executor));
    let error = late.range(0, 1, 1, 1).count().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stopped);
    assert!(error.to_string().contains("the cluster has been stopped"), "{error}");
}
