//! What driver and executors share, and how they prove it: nothing is believed that does not carry its seal.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use millstream_core::{Error, ErrorKind, Result};
use sha2::Sha256;

/// How many bytes a seal has.
pub(crate) const SEAL: usize = 32;

/// The environment variable that holds a cluster's secret.
pub(crate) const VARIABLE: &str = "MILLSTREAM_SECRET";

/// The secret of a cluster.
#[derive(Clone)]
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    /// Makes a secret that nobody can guess.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the system gives no random numbers.
    pub(crate) fn fresh() -> Result<Secret> {
        random::<32>().map(|bytes| Secret(bytes.to_vec()))
    }

    /// Takes the secret that the environment holds.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: there is none, or it is too short to be one.
    pub(crate) fn of_environment() -> Result<Secret> {
        let secret = std::env::var(VARIABLE).unwrap_or_default();
        Secret::of_text(&secret)
    }

    fn of_text(text: &str) -> Result<Secret> {
        if text.len() < 16 {
            let what = if text.is_empty() { "is not set" } else { "is shorter than 16 characters" };
            let text = format!(
                "{VARIABLE} {what}: driver and executors of a cluster share a secret, the same in each of their environments"
            );
            return Err(Error::new(ErrorKind::Config, text));
        }
        Ok(Secret(text.as_bytes().to_vec()))
    }

    pub(crate) fn of_bytes(bytes: Vec<u8>) -> Secret {
        Secret(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn mac(&self, parts: &[&[u8]]) -> Result<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0)
            .map_err(|error| millstream_core::bug!("a secret makes no seal: {error}"))?;
        for part in parts {
            // With its length in front, so that no two rows of parts are sealed alike.
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        Ok(mac)
    }

    /// Returns the seal of `parts`.
    ///
    /// # Errors
    ///
    /// None that can happen.
    pub(crate) fn seal(&self, parts: &[&[u8]]) -> Result<[u8; SEAL]> {
        let seal = self.mac(parts)?.finalize().into_bytes();
        <[u8; SEAL]>::try_from(&seal[..]).map_err(|_| millstream_core::bug!("a seal has another length"))
    }

    /// Says whether `seal` is the seal of `parts`. How long that takes tells nothing.
    pub(crate) fn holds(&self, seal: &[u8], parts: &[&[u8]]) -> bool {
        self.mac(parts).is_ok_and(|mac| mac.verify_slice(seal).is_ok())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Returns bytes that nobody can guess.
///
/// # Errors
///
/// The kind is `Unavailable`: the system gives none.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(ErrorKind::Unavailable, format!("the system gives no random numbers: {error}")))?;
    Ok(bytes)
}

/// Makes sure that ports which ask nobody for a secret are reached from this machine only.
///
/// # Errors
///
/// The kind is `Internal`: others could reach them.
pub(crate) fn only_here(at: std::net::IpAddr) -> Result<()> {
    if at.is_loopback() {
        return Ok(());
    }
    Err(millstream_core::bug!("ports without a secret would be open to whoever reaches {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_without_a_secret_are_open_to_this_machine_only() {
        for (at, may) in
            [("127.0.0.1", true), ("127.8.9.10", true), ("::1", true), ("10.0.0.1", false), ("0.0.0.0", false)]
        {
            assert_eq!(only_here(at.parse().unwrap()).is_ok(), may, "{at}");
        }
    }

    #[test]
    fn a_seal_holds_for_its_secret_and_its_parts_only() {
        let (ours, theirs) = (Secret::fresh().unwrap(), Secret::fresh().unwrap());
        let seal = ours.seal(&[b"ab", b"c"]).unwrap();
        assert!(ours.holds(&seal, &[b"ab", b"c"]));
        assert!(!theirs.holds(&seal, &[b"ab", b"c"]));
        assert!(!ours.holds(&seal, &[b"a", b"bc"]));
        assert!(!ours.holds(&seal[..31], &[b"ab", b"c"]));
    }

    #[test]
    fn a_secret_that_is_none_is_refused_by_the_name_of_its_variable() {
        for text in ["", "short"] {
            let error = Secret::of_text(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(VARIABLE), "{error}");
        }
        assert!(Secret::of_text("sixteen letters.").is_ok());
    }
}
