//! Who somebody is: passwords, access tokens, refresh tokens and cookies.

pub mod access_token;
pub mod cookie;
pub mod password;
pub mod refresh_token;
