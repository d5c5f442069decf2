//! The claims of a verified token, and what they permit. Pure; the time is an argument.
//!
//! RFC 7519 4.1: `exp` (required) and `nbf`; `sub` and unknown claims are ignored. Ours: `channel`,
//! `video` and `broadcast`, of which a token names at least one and opens each; `ip`, the address
//! of the only client that may use it.

use std::{fmt, net::IpAddr};

use media_core::{BroadcastId, ChannelName};
use serde::{Deserialize, Deserializer, de};

use super::Refused;

/// Largest name of a video in bytes.
const MAX_VIDEO_BYTES: usize = 64;

/// The claims of a token whose signature is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claims {
    /// Unix time in seconds from which on it is invalid.
    expires_s: u64,
    /// Unix time in seconds before which it is invalid.
    begins_s: u64,
    channel: Option<ChannelName>,
    broadcast: Option<BroadcastId>,
    /// A video on demand. Opens nothing live.
    video: Option<Box<str>>,
    /// The only address that may use it.
    address: Option<IpAddr>,
}

/// The claims as they are written (RFC 7519 4: unknown ones are ignored).
#[derive(Debug, Deserialize)]
pub(super) struct Written {
    exp: NumericDate,
    nbf: Option<NumericDate>,
    channel: Option<String>,
    broadcast: Option<String>,
    video: Option<Box<str>>,
    ip: Option<IpAddr>,
}

impl TryFrom<Written> for Claims {
    type Error = Refused;

    /// # Errors
    /// [`Refused::Malformed`]: a claim is invalid, or the token opens nothing. A claim that cannot
    /// be understood is never ignored, because it might limit the token.
    fn try_from(written: Written) -> Result<Self, Refused> {
        let channel = written.channel.map(|name| name.parse().map_err(|_| Refused::Malformed));
        let broadcast = written.broadcast.map(|id| id.parse().map_err(|_| Refused::Malformed));
        let video = written.video;
        if video.as_ref().is_some_and(|video| video.is_empty() || video.len() > MAX_VIDEO_BYTES) {
            return Err(Refused::Malformed);
        }
        let claims = Self {
            expires_s: written.exp.0,
            begins_s: written.nbf.map_or(0, |nbf| nbf.0),
            channel: channel.transpose()?,
            broadcast: broadcast.transpose()?,
            video,
            address: written.ip.map(|address| address.to_canonical()),
        };
        let opens = claims.channel.is_some() || claims.broadcast.is_some();
        match opens || claims.video.is_some() {
            true => Ok(claims),
            false => Err(Refused::Malformed),
        }
    }
}

/// The presentation of a resource, which claims open or not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) channel: &'a ChannelName,
    /// The broadcast, if it is known: for a channel, the one that it shows now.
    pub(crate) broadcast: Option<BroadcastId>,
}

impl Claims {
    /// Checks that it is valid at `now_s`, a Unix time, if clocks differ by up to `leeway_s`.
    ///
    /// Source: RFC 7519 4.1.4, 4.1.5.
    pub(super) fn check_time(&self, now_s: u64, leeway_s: u64) -> Result<(), Refused> {
        if now_s >= self.expires_s.saturating_add(leeway_s) {
            return Err(Refused::Expired);
        }
        match now_s.saturating_add(leeway_s) < self.begins_s {
            true => Err(Refused::Early),
            false => Ok(()),
        }
    }

    /// Checks that a client at `address`, in canonical form, may use it.
    pub(super) fn check_address(&self, address: IpAddr) -> Result<(), Refused> {
        match self.address.is_none_or(|own| own == address) {
            true => Ok(()),
            false => Err(Refused::Address),
        }
    }

    /// Checks that it opens a presentation.
    pub(super) fn check_presentation(&self, named: Named<'_>) -> Result<(), Refused> {
        let channel = self.channel.as_ref() == Some(named.channel);
        let broadcast = self.broadcast.is_some() && self.broadcast == named.broadcast;
        match channel || broadcast {
            true => Ok(()),
            false => Err(Refused::Presentation),
        }
    }

    /// Whether it may open something under the channel, of which no more is known.
    pub(super) fn may_open(&self, channel: &ChannelName) -> bool {
        self.broadcast.is_some() || self.channel.as_ref() == Some(channel)
    }
}

/// A NumericDate (RFC 7519 2): seconds of Unix time, possibly with a fraction, which is cut off.
#[derive(Debug, Clone, Copy)]
struct NumericDate(u64);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DateVisitor)
    }
}

struct DateVisitor;

impl de::Visitor<'_> for DateVisitor {
    type Value = NumericDate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("seconds since 1970")
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<NumericDate, E> {
        Ok(NumericDate(seconds))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the fraction is cut off, and the range is checked"
    )]
    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<NumericDate, E> {
        // 2^53: beyond it a double has no whole seconds.
        match (0.0..9_007_199_254_740_992.0).contains(&seconds) {
            true => Ok(NumericDate(seconds as u64)),
            false => Err(E::custom("a time out of range")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::playback::testing::claims;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn named<'a>(channel: &'a ChannelName, broadcast: Option<&str>) -> Named<'a> {
        Named { channel, broadcast: broadcast.map(|id| id.parse().unwrap()) }
    }

    #[test]
    fn a_token_is_valid_from_nbf_until_exp_give_or_take_the_leeway() {
        let claims = claims(r#"{"exp":1000,"nbf":900.9,"channel":"demo"}"#).unwrap();
        for (now, leeway, result) in [
            (899, 0, Err(Refused::Early)),
            (899, 1, Ok(())),
            (900, 0, Ok(())),
            (999, 0, Ok(())),
            (1000, 0, Err(Refused::Expired)),
            (1000, 1, Ok(())),
            (1001, 1, Err(Refused::Expired)),
            (u64::MAX, 300, Err(Refused::Expired)),
        ] {
            assert_eq!(claims.check_time(now, leeway), result, "{now} {leeway}");
        }
    }

    #[test]
    fn a_token_opens_the_channel_and_the_broadcast_that_it_names_and_no_other() {
        let (demo, other) = ("demo".parse().unwrap(), "other".parse().unwrap());
        let another = "01890a5d-ac96-774b-bcce-b302099a8058";
        let of_channel = claims(r#"{"exp":1,"channel":"demo"}"#).unwrap();
        let of_broadcast = claims(&format!(r#"{{"exp":1,"broadcast":"{ID}"}}"#)).unwrap();
        let of_video = claims(r#"{"exp":1,"video":"demo"}"#).unwrap();
        for (claims, named, opens) in [
            (&of_channel, named(&demo, None), true),
            (&of_channel, named(&demo, Some(ID)), true),
            (&of_channel, named(&other, Some(ID)), false),
            (&of_broadcast, named(&demo, None), false),
            (&of_broadcast, named(&demo, Some(ID)), true),
            (&of_broadcast, named(&demo, Some(another)), false),
            (&of_video, named(&demo, None), false),
        ] {
            assert_eq!(claims.check_presentation(named).is_ok(), opens, "{claims:?} {named:?}");
        }
        assert!(of_broadcast.may_open(&demo) && !of_channel.may_open(&other));
    }

    #[test]
    fn a_token_for_an_address_is_refused_elsewhere() {
        let bound = claims(r#"{"exp":1,"channel":"demo","ip":"::ffff:192.0.2.1"}"#).unwrap();
        assert_eq!(bound.check_address([192, 0, 2, 1].into()), Ok(()));
        assert_eq!(bound.check_address([192, 0, 2, 2].into()), Err(Refused::Address));
        let free = claims(r#"{"exp":1,"channel":"demo"}"#).unwrap();
        assert_eq!(free.check_address([192, 0, 2, 2].into()), Ok(()));
    }

    #[test]
    fn incomplete_and_invalid_claims_are_refused() {
        for text in [
            r#"{"channel":"demo"}"#,
            r#"{"exp":1}"#,
            r#"{"exp":1,"sub":"demo"}"#,
            r#"{"exp":"1","channel":"demo"}"#,
            r#"{"exp":-1,"channel":"demo"}"#,
            r#"{"exp":1e300,"channel":"demo"}"#,
            r#"{"exp":null,"channel":"demo"}"#,
            r#"{"exp":1,"exp":2,"channel":"demo"}"#,
            r#"{"exp":1,"channel":"demo","channel":"demo"}"#,
            r#"{"exp":1,"channel":"../demo"}"#,
            r#"{"exp":1,"channel":["demo"]}"#,
            r#"{"exp":1,"channel":"demo","broadcast":"x"}"#,
            r#"{"exp":1,"channel":"demo","ip":"localhost"}"#,
            r#"{"exp":1,"video":""}"#,
            r#"["demo"]"#,
        ] {
            assert_eq!(claims(text).err(), Some(Refused::Malformed), "{text}");
        }
        assert!(claims(r#"{"exp":1,"sub":"x","roles":[1],"channel":"demo"}"#).is_ok());
    }
}
