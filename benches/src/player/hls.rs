//! A player of low-latency HLS: blocking reload, one playlist and its new parts at a time, each
//! track separately. RFC 8216bis 6.2.5, 6.3.7.

use std::{
    io::Read,
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use tokio::time::sleep;

use super::{Fault, STALL, client::Client};
use crate::playlist::PartId;

/// The entries of a playlist that are new to a player.
#[derive(Debug, Default, PartialEq)]
struct News {
    /// Parts and their addresses, oldest first; those that are gaps are left out.
    parts: Vec<(PartId, String)>,
    /// The part of EXT-X-PRELOAD-HINT, for the next blocking request.
    hint: Option<PartId>,
    /// The newest part, gap or not.
    newest: Option<PartId>,
    /// Path of the newest init segment.
    init: Option<String>,
    /// EXT-X-ENDLIST: the broadcast is over.
    ended: bool,
}

/// Follows a channel until the broadcast ends. Drop it to stop earlier.
///
/// # Errors
/// A response is wrong, or nothing new has appeared for [`STALL`].
pub async fn watch(client: Client, channel: &str) -> Result<(), Fault> {
    let mut client = client;
    let (status, _) =
        client.get("multivariant playlist", &format!("/live/{channel}/master.m3u8")).await?;
    if status != 200 {
        return Err(Fault(format!("multivariant playlist: {status}")));
    }
    let other = client.another().await?;
    let (video, audio) = tokio::join!(track(client, channel, "v0"), track(other, channel, "a0"));
    video.and(audio)
}

/// Follows one media playlist until its end.
///
/// # Errors
/// See [`watch`].
async fn track(mut client: Client, channel: &str, track: &str) -> Result<(), Fault> {
    let path = format!("/live/{channel}/{track}.m3u8");
    let (mut seen, mut query): (Option<PartId>, _) = (None, String::new());
    let mut moved = Instant::now();
    loop {
        let (status, body) = client.get("playlist", &format!("{path}{query}")).await?;
        if status != 200 {
            return Err(Fault(format!("playlist: {status}")));
        }
        let mut text = String::new();
        let read = GzDecoder::new(&body[..]).read_to_string(&mut text);
        read.map_err(|_| Fault("playlist: not gzip".to_owned()))?;
        let mut news = news(&text, seen);
        if seen.is_none() {
            // A player that joins begins with the newest part.
            news.parts = news.parts.split_off(news.parts.len().saturating_sub(1));
            if let Some(init) = &news.init {
                expect(&mut client, "init", init).await?;
            }
        }
        for (_, address) in &news.parts {
            expect(&mut client, "part", address).await?;
        }
        if !news.parts.is_empty() {
            moved = Instant::now();
        }
        seen = news.newest.or(seen);
        if news.ended {
            return Ok(());
        }
        if moved.elapsed() > STALL {
            return Err(Fault("stall".to_owned()));
        }
        match news.hint {
            // A blocking request for the next part, with a delta update (RFC 8216bis 6.2.5.1,
            // 6.2.5.2).
            Some(hint) => {
                query = format!("?_HLS_msn={}&_HLS_part={}&_HLS_skip=YES", hint.msn, hint.part)
            }
            // Without a hint there is nothing to wait for, for example while the publisher is away.
            None => {
                query.clear();
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

/// Requests a resource, and checks that it begins like MP4.
///
/// # Errors
/// The response is not 200, or is not MP4.
async fn expect(client: &mut Client, what: &str, path: &str) -> Result<(), Fault> {
    let (status, body) = client.get(what, path).await?;
    match status {
        // The type of the first box, after its size of 4 bytes (ISO/IEC 14496-12 4.2).
        200 if body.get(4..8).is_some_and(|kind| {
            [b"ftyp", b"styp", b"moof", b"prft"].contains(&kind.try_into().unwrap_or(b"    "))
        }) =>
        {
            Ok(())
        }
        200 => Err(Fault(format!("{what}: not media"))),
        status => Err(Fault(format!("{what}: {status}"))),
    }
}

/// Parsed from its end, because only the end of a long playlist is new.
fn news(text: &str, seen: Option<PartId>) -> News {
    let mut news = News::default();
    for line in text.lines().rev() {
        if line == "#EXT-X-ENDLIST" {
            news.ended = true;
        } else if let Some(attributes) = line.strip_prefix("#EXT-X-PRELOAD-HINT:TYPE=PART,") {
            news.hint = address(attributes).and_then(|address| PartId::parse(&address));
        } else if let Some(attributes) = line.strip_prefix("#EXT-X-PART:") {
            let Some(address) = address(attributes) else { continue };
            let Some(id) = PartId::parse(&address) else { continue };
            news.newest = news.newest.max(Some(id));
            // Everything before it was seen as well.
            if seen.is_some_and(|seen| id <= seen) {
                break;
            }
            if !attributes.contains("GAP=YES") {
                news.parts.push((id, address));
            }
        } else if let Some(attributes) = line.strip_prefix("#EXT-X-MAP:") {
            news.init = news.init.or_else(|| address(attributes));
        }
    }
    news.parts.reverse();
    news
}

/// `URI="../../media/..."` as a path.
fn address(attributes: &str) -> Option<String> {
    let uri = attributes.split("URI=\"").nth(1)?.split('"').next()?;
    Some(format!("/{}", &uri[uri.find("media/")?..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_parts_are_those_after_the_last_known_part_without_gaps() {
        let text = "#EXT-X-MAP:URI=\"../../media/x/v0/init.0.mp4\"\n\
            #EXT-X-PART:DURATION=0.2,URI=\"../../media/x/v0/7.8.m4s\"\n\
            #EXT-X-PART:DURATION=0.2,URI=\"../../media/x/v0/7.9.m4s\"\n#EXTINF:2.0,\n\
            ../../media/x/v0/7.m4s\n\
            #EXT-X-PART:DURATION=0.2,URI=\"../../media/x/v0/8.0.m4s\",GAP=YES\n\
            #EXT-X-PART:DURATION=0.2,URI=\"../../media/x/v0/8.1.m4s\"\n\
            #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"../../media/x/v0/8.2.m4s\"\n";
        let id = |msn, part| PartId { msn, part };
        let news = news(text, Some(id(7, 8)));
        assert_eq!(
            news.parts,
            [
                (id(7, 9), "/media/x/v0/7.9.m4s".to_owned()),
                (id(8, 1), "/media/x/v0/8.1.m4s".to_owned())
            ]
        );
        assert_eq!((news.newest, news.hint, news.ended), (Some(id(8, 1)), Some(id(8, 2)), false));
        assert_eq!(super::news(text, None).init.as_deref(), Some("/media/x/v0/init.0.mp4"));
    }
}
