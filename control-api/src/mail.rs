//! Mail to the owners of accounts: verify an address, reset a password, and notices.
//!
//! - [`Mailer`]: the port to a mail server. [`smtp`]: SMTP (RFC 5321). [`Mail`]: a message.
//! - [`Outbox`]: a queue of bounded length. [`Postman`] takes orders from it, writes each mail when
//!   it is sent, and tries again with growing delays. An order holds no secret; the token in a mail
//!   is made for each attempt.
//!
//! No mail contains a text that somebody has chosen, such as a name: whoever registers with a
//! foreign address must not be able to write to it.

mod letter;
mod mailer;
mod outbox;
pub mod smtp;

pub use self::{
    letter::{Letter, Link},
    mailer::{Mail, Mailer, SendError, Sending},
    outbox::{Full, Order, Outbox, Postman},
};
