//! Who somebody is: accounts sign in with a password and get a session, whose tokens are checked at
//! each request.
//!
//! - [`password`]: argon2id. [`access_token`]: JSON Web Tokens of ten minutes, and the keys.
//!   [`refresh_token`]: tokens that are used once. [`cookie`]: both as cookies, for browsers.
//! - `authority`: the whole. `sign_in`: the beginning, continuation and end of sessions.
//!   `credentials`: the account of a request. `first`: the first administrator.

pub mod access_token;
mod authority;
pub mod cookie;
mod credentials;
mod first;
pub mod password;
pub mod refresh_token;
mod sign_in;

pub use self::{
    authority::{Error, ISSUER, Identity},
    credentials::{API_KEY_PREFIX, Credentials, Introspection},
    first::FirstAdministrator,
    sign_in::{Access, Attempt, SignedIn},
};
