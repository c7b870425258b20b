//! The key of a cluster, made of its secret, and how TLS is to use it: both sides have the same one.

use std::fmt;
use std::sync::Arc;

use millstream_core::{Error, ErrorKind, Result};
use ring::hkdf::{HKDF_SHA256, Salt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::ring as provider;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme, version,
};

use crate::frame::PROTOCOL;

/// The name that clients give in the handshake. Nobody asks for it.
pub(crate) const NAME: &str = "millstream";

/// What the key is for: other uses of the same secret give other keys.
const USE: &[u8] = b"millstream tunnel 1";

/// A private Ed25519 key as PKCS#8 writes it (RFC 8410), up to its 32 bytes.
const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// What proves that a host belongs to a cluster.
#[derive(Clone)]
pub struct Keys {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

fn unusable(error: impl fmt::Display) -> Error {
    millstream_core::bug!("a secret makes no key: {error}")
}

impl Keys {
    /// Makes the key of a secret. The same secret makes the same key.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: the secret has less than 16 bytes.
    pub fn of_secret(secret: &[u8]) -> Result<Keys> {
        if secret.len() < 16 {
            let text = format!("a secret of {} bytes is too easy to guess: it must have at least 16", secret.len());
            return Err(Error::new(ErrorKind::Config, text));
        }
        let mut key = [0; 32];
        let made = Salt::new(HKDF_SHA256, USE).extract(secret);
        made.expand(&[b"key"], HKDF_SHA256).and_then(|okm| okm.fill(&mut key)).map_err(unusable)?;
        let written = PrivatePkcs8KeyDer::from([&PKCS8[..], &key].concat());
        let private = provider::sign::any_eddsa_type(&written).map_err(unusable)?;
        let public = private.public_key().ok_or_else(|| unusable("it has no public half"))?.to_vec();
        let ours = CertificateDer::from(public);
        let certified = Arc::new(CertifiedKey::new(vec![ours.clone()], private));
        let crypto = Arc::new(provider::default_provider());
        let same = Arc::new(Same { ours, algorithms: crypto.signature_verification_algorithms });
        let only = [&version::TLS13];

        let mut client = ClientConfig::builder_with_provider(Arc::clone(&crypto))
            .with_protocol_versions(&only)
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&same) as _)
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&certified))));
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        // Each connection proves itself: nothing of an earlier one is worth anything.
        client.resumption = Resumption::disabled();
        client.enable_early_data = false;

        let mut server = ServerConfig::builder_with_provider(crypto)
            .with_protocol_versions(&only)
            .map_err(unusable)?
            .with_client_cert_verifier(same)
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified)));
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        server.send_tls13_tickets = 0;
        server.max_early_data_size = 0;
        Ok(Keys { client: Arc::new(client), server: Arc::new(server) })
    }
}

/// Believes whoever proves to have the same key.
#[derive(Debug)]
struct Same {
    ours: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Same {
    fn known(&self, theirs: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        if *theirs == self.ours { Ok(()) } else { Err(CertificateError::ApplicationVerificationFailure.into()) }
    }

    fn proved(
        &self,
        message: &[u8],
        theirs: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(theirs.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }
}

fn too_old() -> rustls::Error {
    rustls::Error::General("only TLS 1.3 is spoken here".to_owned())
}

impl ServerCertVerifier for Same {
    fn verify_server_cert(
        &self,
        theirs: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.known(theirs).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        theirs: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.proved(message, theirs, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Same {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        theirs: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.known(theirs).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        theirs: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.proved(message, theirs, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_too_short_is_refused() {
        assert_eq!(Keys::of_secret(b"fifteen letters").unwrap_err().kind(), ErrorKind::Config);
        assert!(Keys::of_secret(b"sixteen letters.").is_ok());
    }
}
