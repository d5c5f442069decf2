//! The key of this server's playback tokens: Ed25519, made at random, in a file that only the
//! daemon can read. To replace it, delete the file and restart; all tokens that it has signed end.

use std::{
    fmt,
    fs::{self, DirBuilder},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use control_api::{PlaybackTokens, playback::Admission};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use origin_http::playback::Key;
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::json;

/// The file, in the platform's folder.
const FILE: &str = "playback-key.pem";
/// The beginning of the `kid`.
const ID: &str = "streamforge-";

/// The key.
pub(crate) struct PlaybackKey {
    id: String,
    public_pem: String,
    signing: EncodingKey,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is no private key of Ed25519 in PEM.
    #[error("{}: no private key of Ed25519: delete it, and a new one is made", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Debug for PlaybackKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaybackKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl PlaybackKey {
    /// Reads the key in a folder, or makes it. Blocks.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| Error::File { path: folder.to_owned(), source })?;
        let file = |source| Error::File { path: path.clone(), source };
        let pem = match fs::read_to_string(&path) {
            Ok(pem) => pem,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                let pair = KeyPair::generate_for(&PKCS_ED25519).map_err(io::Error::other);
                let pem = pair.map_err(file)?.serialize_pem();
                store(&path, &pem).map_err(file)?;
                pem
            }
            Err(err) => return Err(file(err)),
        };
        Self::parse(&pem).ok_or(Error::NotAKey { path })
    }

    fn parse(pem: &str) -> Option<Self> {
        let pair = KeyPair::from_pem(pem).ok()?;
        let signing = EncodingKey::from_ed_pem(pem.as_bytes()).ok()?;
        // Another key has another identifier, so that a verifier never tries the wrong one.
        let digits = pair.public_key_raw().iter().take(4).map(|byte| format!("{byte:02x}"));
        let id = format!("{ID}{}", digits.collect::<String>());
        Some(Self { id, public_pem: pair.public_key_pem(), signing })
    }

    /// The key with which this server verifies its tokens. `None` is impossible for a key that was
    /// read.
    pub(crate) fn verifying(&self) -> Option<Key> {
        Key::public(self.id.clone(), self.public_pem.clone()).ok()
    }
}

impl PlaybackTokens for PlaybackKey {
    fn issue(&self, admission: &Admission) -> Option<String> {
        let Admission { channel, address, expires_s } = admission;
        let mut claims = json!({ "channel": channel.as_str(), "exp": expires_s });
        if let Some(address) = address {
            claims["ip"] = address.to_string().into();
        }
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, &claims, &self.signing).ok()
    }

    fn key(&self) -> (String, String) {
        (self.id.clone(), self.public_pem.clone())
    }
}

/// Writes the file whole or not at all, readable for its owner alone.
fn store(path: &Path, pem: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, os::unix::fs::PermissionsExt, time::SystemTime};

    use origin_http::{
        Playback,
        playback::{Config, Refused},
    };

    use super::*;

    #[test]
    fn a_token_opens_its_channel_for_its_client_and_the_key_survives_a_restart() {
        let folder = std::env::temp_dir();
        let folder = folder.join(format!("streamforge-playback-key-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let key = PlaybackKey::open(&folder).unwrap();
        let mode = fs::metadata(folder.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = PlaybackKey::open(&folder).unwrap();
        assert_eq!(again.key(), key.key());

        let config = Config::default();
        let playback = Playback::new(&config).with_key(again.verifying().unwrap(), &config);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let (viewer, other): (IpAddr, IpAddr) = ([192, 0, 2, 7].into(), [192, 0, 2, 8].into());
        let admission = |expires_s| Admission {
            channel: "show".parse().unwrap(),
            address: Some(viewer),
            expires_s,
        };
        let token = key.issue(&admission(now + 60)).unwrap();
        let check = |token: &str, address, channel: &str| {
            playback.check_token(Some(token), address, &channel.parse().unwrap(), None)
        };
        assert_eq!(check(&token, viewer, "show"), Ok(()));
        assert_eq!(check(&token, other, "show"), Err(Refused::Address));
        assert!(check(&token, viewer, "other").is_err());
        let expired = key.issue(&admission(now - 60)).unwrap();
        assert_eq!(check(&expired, viewer, "show"), Err(Refused::Expired));
        // A reload keeps it.
        playback.reload(&config);
        assert_eq!(check(&token, viewer, "show"), Ok(()));

        fs::write(folder.join(FILE), "no key").unwrap();
        assert!(matches!(PlaybackKey::open(&folder), Err(Error::NotAKey { .. })));
        fs::remove_dir_all(&folder).unwrap();
    }
}
