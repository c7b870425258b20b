//! Over TLS: with a certificate that the client verifies, by clients that verify it, and without one.

use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use millstream::ErrorKind;
use millstream::sql_live::ServeSpec;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, NoTls};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring as provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::hostile::{hello, raw, read_all};
use crate::house::{House, RUNTIME, ask, house, house_with, of};

/// An authority, and a certificate for this machine that it has signed.
pub(crate) struct Certificates {
    folder: TempDir,
    authority: CertificateDer<'static>,
}

impl Certificates {
    pub(crate) fn new() -> Certificates {
        let folder = TempDir::new().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        // Not the name that the server's has: one that signs itself is looked for elsewhere.
        authority.distinguished_name.push(DnType::CommonName, "authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let signer = KeyPair::generate().unwrap();
        let signed = authority.self_signed(&signer).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let ours = CertificateParams::new(names).unwrap().signed_by(&key, &Issuer::new(authority, signer)).unwrap();
        for (name, text) in
            [("authority.pem", signed.pem()), ("server.pem", ours.pem()), ("server.key", key.serialize_pem())]
        {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Certificates { folder, authority: signed.der().clone() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn spec(&self) -> ServeSpec {
        ServeSpec::at("127.0.0.1:0").tls(self.path("server.pem"), self.path("server.key"))
    }

    /// How a client speaks that trusts this authority alone.
    fn trusted(&self, protocols: &[&[u8]]) -> Connector {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Connector(TlsConnector::from(Arc::new(config)), None)
    }
}

/// TLS for the client's library.
#[derive(Clone)]
struct Connector(TlsConnector, Option<ServerName<'static>>);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Connector {
    type Stream = Stream<S>;
    type TlsConnect = Connector;
    type Error = io::Error;

    fn make_tls_connect(&mut self, name: &str) -> io::Result<Connector> {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        Ok(Connector(self.0.clone(), Some(name)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Connector {
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { self.0.connect(self.1.unwrap(), stream).await.map(Stream) })
    }
}

struct Stream<S>(TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> tokio_postgres::tls::TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        // The certificate is signed with ECDSA and SHA-256.
        let certificate = &self.0.get_ref().1.peer_certificates().unwrap()[0];
        let hash = ring::digest::digest(&ring::digest::SHA256, certificate);
        ChannelBinding::tls_server_end_point(hash.as_ref().to_vec())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

fn connect(house: &House, how: &str, with: Connector) -> Result<Client, tokio_postgres::Error> {
    let address = house.server.address();
    let how = format!("host={} port={} dbname=millstream {how}", address.ip(), address.port());
    RUNTIME.block_on(async {
        let (client, connection) = tokio_postgres::connect(&how, with).await?;
        RUNTIME.spawn(connection);
        Ok(client)
    })
}

fn batches() -> millstream_testkit::Batches<(String, f64)> {
    of(vec![vec![("a".to_owned(), 20.0)]])
}

#[test]
fn a_client_that_verifies_the_certificate_asks_over_tls_and_binds_its_password_to_it() {
    let certificates = Certificates::new();
    let mut house = house_with(batches(), certificates.spec().password("ann", "correct horse"));
    house.test.run(1).unwrap();
    let trusted = certificates.trusted(&[b"postgresql"]);
    for how in [
        "sslmode=require user=ann password='correct horse' channel_binding=require",
        "sslmode=require user=ann password='correct horse' channel_binding=disable",
        "sslmode=require sslnegotiation=direct user=ann password='correct horse' channel_binding=require",
    ] {
        let client = connect(&house, how, trusted.clone()).unwrap_or_else(|e| panic!("{how}: {e:?}"));
        assert_eq!(ask(&client, "SELECT key, times FROM seen"), "a|1");
        // What is longer than a record of TLS.
        assert_eq!(ask(&client, "SELECT repeat('x', 100000)").len(), 100_000);
    }
    for wrong in ["user=ann password=wrong", "user=bob password='correct horse'"] {
        let error = connect(&house, &format!("sslmode=require {wrong}"), trusted.clone()).err().unwrap();
        assert_eq!(error.as_db_error().map(|e| e.code().code()), Some("28P01"), "{error:?}");
    }
    // In the clear the password is proven as well, and there is nothing to bind it to.
    let client = house.connect_as("user=ann password='correct horse'").unwrap();
    assert_eq!(ask(&client, "SELECT times FROM seen"), "1");
    let bound = house.connect_as("user=ann password='correct horse' channel_binding=require");
    assert!(bound.is_err(), "it binds itself to nothing");
    // Who trusts another authority does not go on, nor does who begins with TLS for something else.
    let stranger = Certificates::new().trusted(&[b"postgresql"]);
    assert!(connect(&house, "sslmode=require user=ann password='correct horse'", stranger).is_err());
    let web = certificates.trusted(&[]);
    assert!(connect(&house, "sslmode=require sslnegotiation=direct user=ann password='correct horse'", web).is_err());
}

#[test]
fn what_runs_for_a_client_over_tls_is_cancelled_over_tls() {
    let certificates = Certificates::new();
    let house = house_with(batches(), certificates.spec().tls_only());
    let trusted = certificates.trusted(&[b"postgresql"]);
    let client = connect(&house, "sslmode=require user=ann", trusted.clone()).unwrap();
    let cancel = client.cancel_token();
    RUNTIME.block_on(async {
        let endless = client.simple_query("SELECT count(*) FROM generate_series(1, 1000000000000) AS t(n) WHERE n < 0");
        let cancelling = async {
            // It may come before the statement begins: then it cancels nothing.
            loop {
                cancel.cancel_query(trusted.clone()).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let failed = tokio::select! {
            done = endless => done.unwrap_err(),
            () = cancelling => unreachable!(),
        };
        assert_eq!(failed.as_db_error().unwrap().code().code(), "57014");
    });
}

#[test]
fn a_program_that_speaks_tls_alone_sends_others_away_before_they_prove_anything() {
    let certificates = Certificates::new();
    let house = house_with(batches(), certificates.spec().password("ann", "x").tls_only());
    let error = house.connect_as("user=ann password=x").err().unwrap();
    let error = error.as_db_error().unwrap();
    assert_eq!((error.severity(), error.code().code()), ("FATAL", "28000"));
    assert!(error.message().contains("sslmode=require"), "{error:?}");
    assert!(connect(&house, "sslmode=require user=ann password=x", certificates.trusted(&[])).is_ok());
    let sql = millstream::sql::SqlContext::new(house.test.ssc()).unwrap();
    let error = millstream::sql_live::ServeSql::serve_with(&sql, ServeSpec::at("127.0.0.1:0").tls_only()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("ServeSpec::tls"), "{error}");
}

/// What asks for TLS, and for Kerberos.
const TLS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const KERBEROS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

#[test]
fn a_program_without_a_certificate_says_so_and_goes_on_in_the_clear() {
    let house = house(batches());
    for wishes in [vec![TLS], vec![KERBEROS], vec![TLS, KERBEROS], vec![KERBEROS, TLS]] {
        let mut socket = raw(&house);
        for wish in &wishes {
            socket.write_all(wish).unwrap();
            let mut answer = [0];
            socket.read_exact(&mut answer).unwrap();
            assert_eq!(answer, *b"N");
        }
        socket.write_all(&hello()).unwrap();
        socket.write_all(b"Q\0\0\0\x0dSELECT 7\0X\0\0\0\x04").unwrap();
        let said = read_all(&socket);
        assert!(said.windows(5).any(|bytes| bytes == b"\0\0\0\x017"), "{said:?}");
    }
    // Who asks for the same again is not answered for ever.
    let mut socket = raw(&house);
    (0..3).for_each(|_| socket.write_all(&TLS).unwrap());
    let _ = socket.shutdown(Shutdown::Write);
    let said = read_all(&socket);
    assert!(said.starts_with(b"N") && String::from_utf8_lossy(&said).contains("FATAL"), "{said:?}");
    let error = tokio_postgres_without_tls(&house, "sslmode=require");
    assert!(error.contains("TLS"), "{error}");
    // Begun at once, without a question.
    let mut socket = raw(&house);
    socket.write_all(&[0x16, 3, 1, 0, 200, 1, 0, 0]).unwrap();
    assert_eq!(read_all(&socket), b"");
}

/// How a connection fails.
fn tokio_postgres_without_tls(house: &House, how: &str) -> String {
    let certificates = Certificates::new();
    format!("{:?}", connect(house, &format!("user=x {how}"), certificates.trusted(&[])).err().unwrap())
}

#[test]
fn what_somebody_puts_behind_the_question_for_tls_is_not_taken_for_the_clients() {
    let certificates = Certificates::new();
    let mut house = house_with(batches(), certificates.spec());
    house.test.run(1).unwrap();
    let mut socket: TcpStream = raw(&house);
    let mut sent = TLS.to_vec();
    sent.extend(hello());
    sent.extend_from_slice(b"Q\0\0\0\x0dSELECT 7\0");
    socket.write_all(&sent).unwrap();
    let _ = socket.shutdown(Shutdown::Write);
    let said = read_all(&socket);
    // The answer that TLS is spoken, an alert at the most, and then nothing.
    assert!(said.starts_with(b"S") && said.len() < 16, "{said:?}");
    // A client without TLS is answered in the clear, as nothing else is asked for.
    let client = house.connect_as("sslmode=disable user=x").unwrap();
    assert_eq!(ask(&client, "SELECT times FROM seen"), "1");
    drop(client);
    let cancelled = RUNTIME.block_on(house.connect().cancel_token().cancel_query(NoTls));
    assert!(cancelled.is_ok(), "{cancelled:?}");
}
