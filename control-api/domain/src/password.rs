//! Hashes of passwords. They are made outside of the rules, because they take long.

/// A password's hash in PHC format. The password itself never reaches a command.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(pub String);

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
