//! Proving that one knows a password without saying it: SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side. Pure.
//!
//! ```text
//!   client   n,,n=user,r=NONCE ───────────────►  first()   what is begun
//!            ◄────────────── r=NONCE+OURS,s=SALT,i=ROUNDS
//!            c=…,r=NONCE+OURS,p=PROOF ────────►  last()    the proof, or Wrong
//!            ◄─────────────────────────── v=OUR PROOF
//! ```

use std::borrow::Cow;
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// What is proven with the password alone.
pub(crate) const PLAIN: &str = "SCRAM-SHA-256";
/// What is proven together with the certificate of the connection: who stands between the two has another one.
pub(crate) const BOUND: &str = "SCRAM-SHA-256-PLUS";

/// How a connection is told apart from others by its certificate (RFC 5929).
const BINDING: &str = "tls-server-end-point";

/// How often a password is hashed: as often as Postgres does it. Clients do the same at each connection.
const ROUNDS: NonZeroU32 = NonZeroU32::new(4096).expect("it is not zero");

/// A hash of SHA-256.
const HASH: usize = 32;

/// What is known of a password: enough to see that another knows it, too little to be let in elsewhere with it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Verifier {
    salt: Vec<u8>,
    stored: [u8; HASH],
    server: [u8; HASH],
}

impl Verifier {
    /// Hashes a password. It takes some milliseconds, on purpose.
    pub(crate) fn new(password: &str, salt: &[u8]) -> Verifier {
        // One that cannot be normalised is taken as it is, by clients as well.
        let normal = stringprep::saslprep(password).unwrap_or(Cow::Borrowed(password));
        let mut salted = [0; HASH];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt, normal.as_bytes(), &mut salted);
        let client = mac(&salted, b"Client Key");
        let verifier = Verifier { salt: salt.to_vec(), stored: sha256(&client), server: mac(&salted, b"Server Key") };
        salted.zeroize();
        verifier
    }
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wrong {
    /// It is not what the protocol allows.
    Malformed(&'static str),
    /// The password is another, or nobody has this name.
    Password,
}

/// An exchange of which the first message has come.
#[derive(Debug)]
pub(crate) struct Begun {
    /// What the client must repeat of its header and of the certificate, in base64.
    repeated: String,
    nonce: String,
    client_first: String,
    server_first: String,
}

/// Reads a client's first message, and says what is answered. `certificate` is what the client may bind itself to, if the server offers
/// that; `bound` says that the client has chosen to; `random` is ours of the nonce.
pub(crate) fn first(
    verifier: &Verifier,
    message: &[u8],
    bound: bool,
    certificate: Option<&[u8]>,
    random: &str,
) -> Result<(String, Begun), Wrong> {
    let text = std::str::from_utf8(message).map_err(|_| Wrong::Malformed("the first message is no text"))?;
    let (flag, rest) = text.split_once(',').ok_or(Wrong::Malformed("the first message has no header"))?;
    let (identity, bare) = rest.split_once(',').ok_or(Wrong::Malformed("the first message has no header"))?;
    let named = flag.strip_prefix("p=");
    match (named, bound, certificate) {
        (Some(name), true, Some(_)) if name == BINDING => {}
        (Some(_), true, Some(_)) => return Err(Wrong::Malformed("of bindings there is tls-server-end-point alone")),
        (_, true, None) => return Err(Wrong::Malformed("a binding is asked for that was not offered")),
        (Some(_), false, _) => return Err(Wrong::Malformed("a binding is said with a mechanism that has none")),
        (None, true, Some(_)) => return Err(Wrong::Malformed("the mechanism has a binding, and none is said")),
        // It can bind itself and believes that we cannot: somebody between us has taken that out of our offer.
        (None, false, Some(_)) if flag == "y" => {
            return Err(Wrong::Malformed("the client was not told that it can bind itself, and it was offered"));
        }
        (None, false, _) if flag == "y" || flag == "n" => {}
        (None, false, _) => return Err(Wrong::Malformed("the header begins with none of n, y and p=")),
    }
    if !identity.is_empty() {
        return Err(Wrong::Malformed("nobody can be somebody else here"));
    }
    // The name in it is not looked at, as in Postgres: who it is was said when the connection began.
    let mut parts = bare.split(',');
    match parts.next() {
        Some(name) if name.starts_with("n=") => {}
        Some(name) if name.starts_with("m=") => {
            return Err(Wrong::Malformed("an extension is demanded, and there are none"));
        }
        _ => return Err(Wrong::Malformed("the first message has no name")),
    }
    let theirs = parts.next().and_then(|part| part.strip_prefix("r=")).unwrap_or_default();
    if theirs.is_empty() || !theirs.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Wrong::Malformed("the first message has no nonce of printable characters"));
    }
    let nonce = format!("{theirs}{random}");
    let server_first = format!("r={nonce},s={},i={ROUNDS}", BASE64.encode(&verifier.salt));
    let mut repeated = format!("{flag},{identity},").into_bytes();
    if bound {
        repeated.extend_from_slice(certificate.unwrap_or_default());
    }
    let begun = Begun {
        repeated: BASE64.encode(repeated),
        nonce,
        client_first: bare.to_owned(),
        server_first: server_first.clone(),
    };
    Ok((server_first, begun))
}

impl Begun {
    /// Reads a client's last message: its proof. Returns ours. `known` says whether there is somebody of this name: who there is not
    /// takes as long as who has another password.
    pub(crate) fn last(&self, verifier: &Verifier, known: bool, message: &[u8]) -> Result<String, Wrong> {
        let text = std::str::from_utf8(message).map_err(|_| Wrong::Malformed("the last message is no text"))?;
        let (unproven, proof) = text.rsplit_once(",p=").ok_or(Wrong::Malformed("the last message has no proof"))?;
        let mut parts = unproven.split(',');
        let repeated = parts.next().and_then(|part| part.strip_prefix("c="));
        if repeated != Some(self.repeated.as_str()) {
            return Err(Wrong::Malformed("the channel of the last message is not this one"));
        }
        if parts.next().and_then(|part| part.strip_prefix("r=")) != Some(self.nonce.as_str()) {
            return Err(Wrong::Malformed("the nonce of the last message is another"));
        }
        let mut key: [u8; HASH] = BASE64
            .decode(proof)
            .ok()
            .and_then(|proof| proof.try_into().ok())
            .ok_or(Wrong::Malformed("the proof is not that of a hash"))?;
        let said = format!("{},{},{unproven}", self.client_first, self.server_first);
        let signature = mac(&verifier.stored, said.as_bytes());
        key.iter_mut().zip(signature).for_each(|(byte, by)| *byte ^= by);
        // How far the two are the same is not told by the time that it takes.
        let right = sha256(&key).ct_eq(&verifier.stored) & Choice::from(u8::from(known));
        key.zeroize();
        match bool::from(right) {
            true => Ok(format!("v={}", BASE64.encode(mac(&verifier.server, said.as_bytes())))),
            false => Err(Wrong::Password),
        }
    }
}

fn mac(key: &[u8], of: &[u8]) -> [u8; HASH] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), of);
    tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn sha256(of: &[u8]) -> [u8; HASH] {
    digest::digest(&digest::SHA256, of).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client answers who believes that this is the password.
    fn proof(password: &str, salt: &[u8], begun: &Begun, channel: &[u8]) -> String {
        let mut salted = [0; HASH];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt, password.as_bytes(), &mut salted);
        let key = mac(&salted, b"Client Key");
        let unproven = format!("c={},r={}", BASE64.encode(channel), begun.nonce);
        let said = format!("{},{},{unproven}", begun.client_first, begun.server_first);
        let signature = mac(&sha256(&key), said.as_bytes());
        let proof: Vec<u8> = key.iter().zip(signature).map(|(one, other)| one ^ other).collect();
        format!("{unproven},p={}", BASE64.encode(proof))
    }

    #[test]
    fn the_exchange_of_the_rfc_is_answered_as_it_says() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let pencil = Verifier::new("pencil", &salt);
        let hello = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
        let (answer, begun) = first(&pencil, hello, false, None, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0").unwrap();
        let nonce = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        assert_eq!(answer, format!("{nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"));
        let proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let last = format!("c=biws,{nonce},p={proof}");
        let ours = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(begun.last(&pencil, true, last.as_bytes()), Ok(ours.to_owned()));
        assert_eq!(begun.last(&pencil, false, last.as_bytes()), Err(Wrong::Password), "nobody has this name");
        assert_eq!(begun.last(&Verifier::new("pencils", &salt), true, last.as_bytes()), Err(Wrong::Password));
        // Each bit of the proof matters, and each byte of what it is of.
        for bit in 0..HASH * 8 {
            let mut bytes = BASE64.decode(proof).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let last = format!("c=biws,{nonce},p={}", BASE64.encode(bytes));
            assert_eq!(begun.last(&pencil, true, last.as_bytes()), Err(Wrong::Password), "bit {bit}");
        }
        for at in 0..last.len() {
            let mut bytes = last.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(begun.last(&pencil, true, &bytes).is_err(), "byte {at}");
        }
        for (last, why) in [
            ("".to_owned(), "the last message has no proof"),
            (format!("c=biws,{nonce}"), "the last message has no proof"),
            (format!("c=eSws,{nonce},p={proof}"), "the channel of the last message is not this one"),
            (format!("{nonce},p={proof}"), "the channel of the last message is not this one"),
            (format!("c=biws,r=rOprNGfwEbeRWgbNEkqO,p={proof}"), "the nonce of the last message is another"),
            (format!("c=biws,{nonce},p=AAAA"), "the proof is not that of a hash"),
            (format!("c=biws,{nonce},p=!"), "the proof is not that of a hash"),
        ] {
            assert_eq!(begun.last(&pencil, true, last.as_bytes()), Err(Wrong::Malformed(why)), "{last}");
        }
    }

    #[test]
    fn what_a_client_says_first_is_believed_only_if_it_is_said_well() {
        let verifier = Verifier::new("x", b"salt");
        let certificate = [7u8; 32];
        for (message, bound, offered, why) in [
            ("n,,n=,r=abc", false, false, None),
            ("n,,n=ann,r=abc,x=later", false, true, None),
            ("y,,n=,r=abc", false, false, None),
            ("p=tls-server-end-point,,n=,r=abc", true, true, None),
            ("y,,n=,r=abc", false, true, Some("the client was not told that it can bind itself, and it was offered")),
            ("p=tls-server-end-point,,n=,r=abc", true, false, Some("a binding is asked for that was not offered")),
            ("p=tls-server-end-point,,n=,r=abc", false, true, Some("a binding is said with a mechanism that has none")),
            (
                "p=tls-server-end-point,,n=,r=abc",
                false,
                false,
                Some("a binding is said with a mechanism that has none"),
            ),
            ("p=tls-unique,,n=,r=abc", true, true, Some("of bindings there is tls-server-end-point alone")),
            ("n,,n=,r=abc", true, true, Some("the mechanism has a binding, and none is said")),
            ("", false, false, Some("the first message has no header")),
            ("n,", false, false, Some("the first message has no header")),
            ("x,,n=,r=abc", false, false, Some("the header begins with none of n, y and p=")),
            ("n,a=bob,n=,r=abc", false, false, Some("nobody can be somebody else here")),
            ("n,,m=x,n=,r=abc", false, false, Some("an extension is demanded, and there are none")),
            ("n,,r=abc", false, false, Some("the first message has no name")),
            ("n,,n=", false, false, Some("the first message has no nonce of printable characters")),
            ("n,,n=,r=", false, false, Some("the first message has no nonce of printable characters")),
            ("n,,n=,r=a b", false, false, Some("the first message has no nonce of printable characters")),
            ("n,,n=,r=é", false, false, Some("the first message has no nonce of printable characters")),
        ] {
            let offered = offered.then_some(&certificate[..]);
            let got = first(&verifier, message.as_bytes(), bound, offered, "ours").err();
            assert_eq!(got, why.map(Wrong::Malformed), "{message} {bound}");
        }
        let got = first(&verifier, &[0xff, b',', b','], false, None, "ours").err();
        assert_eq!(got, Some(Wrong::Malformed("the first message is no text")));
    }

    #[test]
    fn who_binds_itself_to_a_certificate_is_let_in_by_the_server_that_has_it_and_by_no_other() {
        let verifier = Verifier::new("pencil", b"salt");
        let (ours, another) = ([7u8; 32], [8u8; 32]);
        let header = b"p=tls-server-end-point,,";
        let hello = [&header[..], b"n=,r=abc"].concat();
        let (_, begun) = first(&verifier, &hello, true, Some(&ours), "ours").unwrap();
        let bound_to = |certificate: &[u8]| proof("pencil", b"salt", &begun, &[&header[..], certificate].concat());
        assert!(begun.last(&verifier, true, bound_to(&ours).as_bytes()).is_ok());
        let elsewhere = begun.last(&verifier, true, bound_to(&another).as_bytes());
        assert_eq!(elsewhere, Err(Wrong::Malformed("the channel of the last message is not this one")));
        assert!(begun.last(&verifier, true, bound_to(b"").as_bytes()).is_err());
    }

    #[test]
    fn a_password_is_hashed_as_clients_prepare_it() {
        // Width and composition do not matter; case does.
        let keys = |password: &str| Verifier::new(password, b"salt").stored;
        assert_eq!(keys("\u{2168}"), keys("IX"));
        assert_eq!(keys("I\u{ad}X"), keys("IX"));
        assert_ne!(keys("ix"), keys("IX"));
        // What may not be in one is taken as it is.
        assert_ne!(keys("a\u{7}"), keys("a"));
    }
}
