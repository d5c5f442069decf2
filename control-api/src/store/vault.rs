//! The keys of personal data: one for each person, in a file of its own. Each is stored encrypted
//! under the master key.
//!
//! A value is sealed under its person's key, and the person is authenticated with it, so that it
//! cannot be moved to another person. Erasing a person deletes their key.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use control_domain::{Fault, Sealed, Vault, id::AccountId};
use quick_cache::unsync::Cache;
use redb::{ReadOnlyDatabase, ReadableDatabase as _};
use ring::{hmac, rand::SystemRandom};

use super::{database::fault, open_error::OpenError};

mod keys;
mod master;
mod secret;

use keys::{Keys, PersonId};
use secret::{Secret, VaultError};

/// The file of the keys of personal data, in the platform's folder.
pub(super) const KEYS_FILE: &str = "keys.redb";
/// The file of the key that protects those keys.
pub(super) const MASTER_KEY: &str = "master.key";

/// Keys that are kept decrypted, about 100 bytes each.
const CACHED: usize = 16_384;

/// The row by which the master key is recognized: no person has this identifier.
const CHECK: PersonId = [0; 16];

/// The keys of personal data.
pub struct KeyVault {
    state: Mutex<State>,
    master: Secret,
    digests: hmac::Key,
    random: SystemRandom,
}

/// The file and the keys in memory. Both are changed under one lock, so that no erased key can
/// return to memory.
struct State {
    keys: Keys,
    cache: Cache<AccountId, Key>,
}

impl fmt::Debug for KeyVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyVault(***)")
    }
}

/// A person's key as it is stored, and as it goes to other nodes with the same master key.
#[derive(Clone, PartialEq, Eq)]
pub enum StoredKey {
    /// The key, encrypted under the master key.
    Present(Vec<u8>),
    /// The person was erased.
    Erased,
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Present(_) => "Present(***)",
            Self::Erased => "Erased",
        })
    }
}

/// The state of a person's key.
#[derive(Debug, Clone)]
enum Key {
    Present(Secret),
    Erased,
}

impl KeyVault {
    /// Opens the keys, or makes them with a new master key.
    pub(super) fn open(folder: &Path) -> Result<Self, OpenError> {
        let random = SystemRandom::new();
        let secret = master::read_or_make(&folder.join(MASTER_KEY), &random)?;
        let mut keys = Keys::open(&folder.join(KEYS_FILE))?;
        // The master key encrypts; digests use a key that is derived from it.
        let derive = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let digests = hmac::sign(&derive, b"streamforge digests");
        let master = Secret::new(&secret).map_err(Fault::from)?;
        match keys.get(CHECK)? {
            Some(stored) => {
                let opened = master.decrypt(&CHECK, &stored);
                opened.map_err(|_| wrong(&folder.join(MASTER_KEY)))?;
            }
            None => {
                let stored = master.encrypt(&random, &CHECK, &CHECK).map_err(Fault::from)?;
                keys.insert(&[(CHECK, stored)])?;
            }
        }
        Ok(Self {
            state: Mutex::new(State { keys, cache: Cache::new(CACHED) }),
            master,
            digests: hmac::Key::new(hmac::HMAC_SHA256, digests.as_ref()),
            random,
        })
    }

    /// Deletes the key of a person. Erasing again is no error. The key's bytes leave the file when
    /// it is written anew, a few seconds later.
    ///
    /// # Errors
    /// [`Fault::Vault`].
    pub fn erase(&self, person: AccountId) -> Result<(), Fault> {
        self.erase_all(&[person])
    }

    /// Deletes the keys of persons in one commit.
    pub(super) fn erase_all(&self, persons: &[AccountId]) -> Result<(), Fault> {
        let state = &mut *self.state();
        for person in persons {
            state.cache.remove(person);
        }
        let persons = persons.iter().map(|person| person.uuid().into_bytes());
        state.keys.erase(&persons.collect::<Vec<_>>())
    }

    /// Writes the file anew, if erased keys may be in its free pages. Other threads use the keys
    /// meanwhile.
    pub(super) fn renew(&self) -> Result<(), Fault> {
        let Some((snapshot, path)) = self.state().keys.begin_renewal()? else { return Ok(()) };
        let copy = keys::copy(&snapshot, &path, &BTreeSet::new());
        drop(snapshot);
        self.state().keys.end_renewal(copy)
    }

    /// Copies all keys, encrypted as they are, into another file. Those of some persons become
    /// erased in it.
    pub(super) fn copy(&self, path: &Path, without: &BTreeSet<AccountId>) -> Result<(), Fault> {
        let snapshot = self.state().keys.snapshot()?;
        keys::copy(&snapshot, path, &ids(without)).map(drop)
    }

    /// Copies the keys of a backup, after a look whether this master key is theirs. Those of some
    /// persons become erased in the copy: returns the persons among them of whom the backup knows.
    pub(super) fn restore(
        backup: &ReadOnlyDatabase,
        master: &Path,
        path: &Path,
        without: &BTreeSet<AccountId>,
    ) -> Result<Vec<AccountId>, OpenError> {
        let secret = master::read_or_make(master, &SystemRandom::new())?;
        let secret = Secret::new(&secret).map_err(Fault::from)?;
        let snapshot = backup.begin_read().map_err(fault)?;
        if let Some(stored) = keys::get(&snapshot, CHECK)? {
            secret.decrypt(&CHECK, &stored).map_err(|_| wrong(master))?;
        }
        let mut known = Vec::new();
        for person in without {
            known.extend(keys::get(&snapshot, person.uuid().into_bytes())?.map(|_| *person));
        }
        keys::copy(&snapshot, path, &ids(without))?;
        Ok(known)
    }

    /// The key of a person as it is stored.
    #[cfg(test)]
    pub(super) fn stored(&self, person: AccountId) -> Option<Vec<u8>> {
        self.state().keys.get(person.uuid().into_bytes()).ok().flatten()
    }

    /// The key of a person for another node; `None` if there is none.
    ///
    /// # Errors
    /// [`Fault::Vault`].
    pub fn stored_key(&self, person: AccountId) -> Result<Option<StoredKey>, Fault> {
        let stored = self.state().keys.get(person.uuid().into_bytes())?;
        Ok(stored.map(|key| match key.is_empty() {
            true => StoredKey::Erased,
            false => StoredKey::Present(key),
        }))
    }

    /// Stores keys of another node, durable, but for those of persons of whom there is one here.
    ///
    /// # Errors
    /// [`Fault::Vault`], also for a key that was encrypted under another master key; then none is
    /// stored.
    pub fn copy_keys(&self, keys: Vec<(AccountId, StoredKey)>) -> Result<(), Fault> {
        let mut rows = Vec::with_capacity(keys.len());
        for (person, key) in keys {
            let id = person.uuid().into_bytes();
            let row = match key {
                StoredKey::Present(key) => {
                    Secret::new(&self.master.decrypt(&id, &key)?)?;
                    key
                }
                StoredKey::Erased => Vec::new(),
            };
            rows.push((id, row));
        }
        self.state().keys.insert_missing(&rows)
    }

    /// Encrypts a text for other nodes with the same master key. `name` says what it is, and is
    /// authenticated with it.
    ///
    /// # Errors
    /// [`Fault::Vault`].
    pub fn encrypt(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, Fault> {
        Ok(self.master.encrypt(&self.random, name.as_bytes(), plain)?)
    }

    /// Decrypts a text of [`KeyVault::encrypt`]. `None` if it was not encrypted under this master
    /// key and with this name.
    pub fn decrypt(&self, name: &str, encrypted: &[u8]) -> Option<Vec<u8>> {
        self.master.decrypt(name.as_bytes(), encrypted).ok()
    }

    /// A vault for a group of commands.
    pub(super) fn group(&self) -> Group<'_> {
        Group { vault: self, made: RefCell::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of a person; `None` if there is none yet.
    fn key(&self, person: AccountId) -> Result<Option<Key>, Fault> {
        let state = &mut *self.state();
        if let Some(key) = state.cache.get(&person) {
            return Ok(Some(key.clone()));
        }
        let id = person.uuid().into_bytes();
        let key = match state.keys.get(id)? {
            None => return Ok(None),
            Some(stored) if stored.is_empty() => Key::Erased,
            Some(stored) => Key::Present(Secret::new(&self.master.decrypt(&id, &stored)?)?),
        };
        state.cache.insert(person, key.clone());
        Ok(Some(key))
    }

    /// Stores new keys. They are durable before anything that was sealed with them.
    fn store(&self, made: &BTreeMap<AccountId, Secret>) -> Result<(), Fault> {
        let mut rows = Vec::with_capacity(made.len());
        for (person, secret) in made {
            let id = person.uuid().into_bytes();
            rows.push((id, self.master.encrypt(&self.random, &id, secret.bytes())?));
        }
        match self.state().keys.insert(&rows)? {
            true => Ok(()),
            false => Err(VaultError::MadeMeanwhile.into()),
        }
    }

    fn seal_with(&self, key: &Secret, person: AccountId, plain: &str) -> Result<Sealed, Fault> {
        let id = person.uuid().into_bytes();
        let sealed = key.encrypt(&self.random, &id, plain.as_bytes())?;
        Ok(Sealed { person, sealed: URL_SAFE_NO_PAD.encode(sealed) })
    }
}

fn ids(persons: &BTreeSet<AccountId>) -> BTreeSet<PersonId> {
    persons.iter().map(|person| person.uuid().into_bytes()).collect()
}

fn wrong(path: &Path) -> OpenError {
    OpenError::WrongMasterKey { path: path.to_owned() }
}

fn open_with(key: &Secret, sealed: &Sealed) -> Result<Option<String>, Fault> {
    let bytes = URL_SAFE_NO_PAD.decode(&sealed.sealed).map_err(|_| VaultError::Damaged)?;
    let plain = key.decrypt(sealed.person.uuid().as_bytes(), &bytes)?;
    Ok(Some(String::from_utf8(plain).map_err(|_| VaultError::Damaged)?))
}

impl Vault for KeyVault {
    fn seal(&self, person: AccountId, plain: &str) -> Result<Sealed, Fault> {
        let group = self.group();
        let sealed = group.seal(person, plain)?;
        group.commit()?;
        Ok(sealed)
    }

    fn open(&self, sealed: &Sealed) -> Result<Option<String>, Fault> {
        match self.key(sealed.person)? {
            Some(Key::Present(key)) => open_with(&key, sealed),
            Some(Key::Erased) | None => Ok(None),
        }
    }

    fn digest(&self, value: &str) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(hmac::sign(&self.digests, value.as_bytes()).as_ref());
        digest
    }
}

/// The vault for a group of commands: the keys that it makes become durable together, because each
/// commit costs as much as a commit of the group itself.
pub(super) struct Group<'a> {
    vault: &'a KeyVault,
    made: RefCell<BTreeMap<AccountId, Secret>>,
}

impl Group<'_> {
    /// Makes the new keys durable. It must precede everything that was sealed with them.
    pub(super) fn commit(self) -> Result<(), Fault> {
        let made = self.made.into_inner();
        match made.is_empty() {
            true => Ok(()),
            false => self.vault.store(&made),
        }
    }
}

impl Vault for Group<'_> {
    fn seal(&self, person: AccountId, plain: &str) -> Result<Sealed, Fault> {
        if let Some(key) = self.made.borrow().get(&person) {
            return self.vault.seal_with(key, person, plain);
        }
        match self.vault.key(person)? {
            Some(Key::Present(key)) => self.vault.seal_with(&key, person, plain),
            Some(Key::Erased) => Err(VaultError::Erased.into()),
            None => {
                let key = Secret::make(&self.vault.random)?;
                let sealed = self.vault.seal_with(&key, person, plain)?;
                self.made.borrow_mut().insert(person, key);
                Ok(sealed)
            }
        }
    }

    fn open(&self, sealed: &Sealed) -> Result<Option<String>, Fault> {
        match self.made.borrow().get(&sealed.person) {
            Some(key) => open_with(key, sealed),
            None => self.vault.open(sealed),
        }
    }

    fn digest(&self, value: &str) -> [u8; 32] {
        self.vault.digest(value)
    }
}
