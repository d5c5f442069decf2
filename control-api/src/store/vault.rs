//! The keys of personal data: one for each person, in a file of its own, which is small and is
//! rewritten when a key is erased. Each is stored encrypted under the master key.
//!
//! Values are sealed with ChaCha20-Poly1305 (RFC 8439) under the person's key and a random nonce.
//! The person is authenticated with them, so that a value cannot be moved to another person.

use std::{
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use control_domain::{Fault, Sealed, Vault, id::AccountId};
use redb::{Database, ReadableDatabase as _, TableDefinition};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};

use super::database::{self, OpenError, fault, is_of_disk};

/// The file of the keys of personal data.
pub(super) const KEYS_FILE: &str = "keys.redb";
/// The file of the key that protects those keys.
pub(super) const MASTER_KEY: &str = "master.key";

/// Each person's key, encrypted. An erased person has an empty one, so that none is made again.
const KEYS: TableDefinition<[u8; 16], &[u8]> = TableDefinition::new("keys");

/// Bytes of a key.
const KEY_LEN: usize = 32;

/// The keys of personal data.
pub struct KeyVault {
    /// Locked for single reads and writes, and for the rewriting of the file. `None` after an error
    /// of the disk, until the next access opens it.
    keys: Mutex<Option<Database>>,
    path: PathBuf,
    master: LessSafeKey,
    digests: hmac::Key,
    random: SystemRandom,
}

impl fmt::Debug for KeyVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyVault(***)")
    }
}

/// Why a value cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
enum VaultError {
    #[error("the system has no random numbers")]
    Random,
    #[error("a value or key is damaged, or the master key is another")]
    Damaged,
    #[error("the person's key has been erased")]
    Erased,
}

impl From<VaultError> for Fault {
    fn from(error: VaultError) -> Self {
        Self::Vault(Box::new(error))
    }
}

impl KeyVault {
    /// Opens the keys, or makes them with a new master key.
    pub(super) fn open(keys: &Path, master: &Path) -> Result<Self, OpenError> {
        let random = SystemRandom::new();
        let secret = master_key(master, &random)?;
        let database = database::open(keys)?;
        let transaction = database.begin_write().map_err(fault)?;
        transaction.open_table(KEYS).map_err(fault)?;
        transaction.commit().map_err(fault)?;
        // The master key encrypts; digests use a key that is derived from it.
        let derive = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let digests = hmac::sign(&derive, b"streamforge digests");
        Ok(Self {
            keys: Mutex::new(Some(database)),
            path: keys.to_owned(),
            master: aead_key(&secret)?,
            digests: hmac::Key::new(hmac::HMAC_SHA256, digests.as_ref()),
            random,
        })
    }

    /// Deletes the key of a person, and rewrites the file without it. Erasing again is no error.
    ///
    /// # Errors
    /// [`Fault::Storage`].
    pub fn erase(&self, person: AccountId) -> Result<(), Fault> {
        self.with(|keys| {
            let transaction = keys.begin_write().map_err(fault)?;
            let mut table = transaction.open_table(KEYS).map_err(fault)?;
            table.insert(person.uuid().into_bytes(), &[][..]).map_err(fault)?;
            drop(table);
            transaction.commit().map_err(fault)?;
            // Pages that are free keep their bytes until the file is rewritten.
            keys.compact().map(drop).map_err(fault)
        })
    }

    /// Copies all keys, encrypted as they are, into another file.
    pub(super) fn copy(&self, path: &Path) -> Result<(), Fault> {
        self.with(|keys| {
            let copy = Database::create(path).map_err(fault)?;
            let transaction = copy.begin_write().map_err(fault)?;
            let mut to = transaction.open_table(KEYS).map_err(fault)?;
            let reading = keys.begin_read().map_err(fault)?;
            let from = reading.open_table(KEYS).map_err(fault)?;
            for row in redb::ReadableTable::iter(&from).map_err(fault)? {
                let (person, key) = row.map_err(fault)?;
                to.insert(person.value(), key.value()).map_err(fault)?;
            }
            drop(to);
            transaction.commit().map_err(fault)
        })
    }

    /// Reads or writes the file, and opens it first if the last access has failed.
    fn with<T>(&self, act: impl FnOnce(&mut Database) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match &mut *keys {
            Some(database) => database,
            closed => closed.insert(Database::create(&self.path).map_err(fault)?),
        };
        let result = act(database);
        if result.as_ref().is_err_and(is_of_disk) {
            *keys = None;
        }
        // Another fault than that of the log and the tables, whose file is not to be opened again.
        result.map_err(|fault| match fault {
            Fault::Storage(error) => Fault::Vault(error),
            other => other,
        })
    }

    /// The key of a person; `None` if there is none yet.
    fn key(&self, person: AccountId) -> Result<Option<Key>, Fault> {
        let id = person.uuid().into_bytes();
        let stored = self.with(|keys| {
            let transaction = keys.begin_read().map_err(fault)?;
            let table = transaction.open_table(KEYS).map_err(fault)?;
            Ok(table.get(id).map_err(fault)?.map(|key| key.value().to_vec()))
        })?;
        match stored {
            None => Ok(None),
            Some(stored) if stored.is_empty() => Ok(Some(Key::Erased)),
            Some(stored) => {
                let secret = open(&self.master, &id, stored)?;
                Ok(Some(Key::Present(Box::new(aead_key(&secret)?))))
            }
        }
    }

    /// Makes the key of a person. It is durable before anything is sealed with it.
    fn make_key(&self, person: AccountId) -> Result<LessSafeKey, Fault> {
        let id = person.uuid().into_bytes();
        let mut secret = [0; KEY_LEN];
        self.random.fill(&mut secret).map_err(|_| VaultError::Random)?;
        let stored = self.encrypt(&self.master, &id, &secret)?;
        self.with(|keys| {
            let transaction = keys.begin_write().map_err(fault)?;
            let mut table = transaction.open_table(KEYS).map_err(fault)?;
            table.insert(id, stored.as_slice()).map_err(fault)?;
            drop(table);
            transaction.commit().map_err(fault)
        })?;
        aead_key(&secret)
    }

    /// The nonce, and the ciphertext with its tag.
    fn encrypt(&self, key: &LessSafeKey, person: &[u8], plain: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| VaultError::Random)?;
        let mut text = plain.to_vec();
        let (aad, unique) = (Aad::from(person), Nonce::assume_unique_for_key(nonce));
        key.seal_in_place_append_tag(unique, aad, &mut text).map_err(|_| VaultError::Damaged)?;
        Ok([&nonce[..], &text].concat())
    }
}

/// The state of a person's key.
enum Key {
    Present(Box<LessSafeKey>),
    Erased,
}

impl Vault for KeyVault {
    fn seal(&self, person: AccountId, plain: &str) -> Result<Sealed, Fault> {
        let key = match self.key(person)? {
            Some(Key::Present(key)) => key,
            Some(Key::Erased) => return Err(VaultError::Erased.into()),
            None => Box::new(self.make_key(person)?),
        };
        let sealed = self.encrypt(&key, person.uuid().as_bytes(), plain.as_bytes())?;
        Ok(Sealed { person, sealed: URL_SAFE_NO_PAD.encode(sealed) })
    }

    fn open(&self, sealed: &Sealed) -> Result<Option<String>, Fault> {
        let Some(Key::Present(key)) = self.key(sealed.person)? else { return Ok(None) };
        let bytes = URL_SAFE_NO_PAD.decode(&sealed.sealed).map_err(|_| VaultError::Damaged)?;
        let plain = open(&key, sealed.person.uuid().as_bytes(), bytes)?;
        Ok(Some(String::from_utf8(plain).map_err(|_| VaultError::Damaged)?))
    }

    fn digest(&self, value: &str) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(hmac::sign(&self.digests, value.as_bytes()).as_ref());
        digest
    }
}

/// Decrypts a nonce and a ciphertext with its tag.
fn open(key: &LessSafeKey, person: &[u8], sealed: Vec<u8>) -> Result<Vec<u8>, Fault> {
    let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(VaultError::Damaged)?;
    let mut text = text.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let plain = key.open_in_place(nonce, Aad::from(person), &mut text);
    Ok(plain.map_err(|_| VaultError::Damaged)?.to_vec())
}

fn aead_key(secret: &[u8]) -> Result<LessSafeKey, Fault> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, secret).map_err(|_| VaultError::Damaged)?;
    Ok(LessSafeKey::new(key))
}

/// Reads the master key, or makes it in a file that only its owner can read.
fn master_key(path: &Path, random: &SystemRandom) -> Result<Vec<u8>, OpenError> {
    let file = |error| OpenError::File { path: path.to_owned(), error };
    match fs::read(path) {
        Ok(secret) if secret.len() == KEY_LEN => return Ok(secret),
        Ok(_) => return Err(OpenError::MasterKey { path: path.to_owned(), expected: KEY_LEN }),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file(error)),
        Err(_) => {}
    }
    let mut secret = vec![0; KEY_LEN];
    random.fill(&mut secret).map_err(|_| file(io::Error::other("no random numbers")))?;
    // Complete or not there: a key that is cut off would lock out all that it protects.
    let temporary = path.with_extension("new");
    let write = || {
        let _ = fs::remove_file(&temporary);
        let mut options = fs::OpenOptions::new();
        let mut new = options.write(true).create_new(true).mode(0o600).open(&temporary)?;
        new.write_all(&secret)?;
        new.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(file)?;
    Ok(secret)
}
