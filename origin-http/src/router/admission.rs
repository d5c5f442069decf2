//! Whether a request may read a resource of a private channel: the check of its playback token.
//! `playback` decides about the token; an edge checks resources of other processes itself.

use http::{Method, Response, request::Parts};
use http_server::{Body, Client};

use super::Router;
use crate::{
    pending::RequestContext,
    playback::{self, Mark, Seal},
    resource::{Resource, Subject},
    site,
};

impl Router {
    /// Checks that the request may read the resource, if that belongs to a private channel of this
    /// process. Returns the refusal. An edge checks other resources when it has their responses.
    pub(super) fn admit(
        &self,
        head: &Parts,
        resource: Option<&Resource>,
        client: Client,
        context: &mut RequestContext,
    ) -> Option<Response<Body>> {
        // The only cost for a server whose channels are all public.
        if !self.playback.is_guarded() {
            return None;
        }
        // Preflight requests have no token (Fetch, "CORS-preflight fetch").
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return None;
        }
        let mark = self.private(resource?)?;
        // A process of ours has checked the token of its own client, or will do so.
        let address = client.peer.ip();
        // The broadcast of a channel that is elsewhere is known when its response is here: the edge
        // then checks a token for a broadcast.
        let later = self.edge.is_some()
            && mark.broadcast.is_none()
            && self.playback.forwardable(head, address, Some(&mark.channel)).is_some();
        if !client.ours
            && !later
            && let Err(refused) = self.playback.check(head, address, mark.named())
        {
            return Some(playback::refusal(head, refused));
        }
        let edge = client.ours || site::is_of_edge(&head.headers);
        context.seal(Seal::new(self.playback.is_shareable(head), &mark, edge));
        None
    }

    /// The presentation of a resource, if it belongs to a private channel. The channel need not
    /// exist: whether it does is not revealed.
    fn private(&self, resource: &Resource) -> Option<Mark> {
        resource.kind().edge?;
        match resource.subject() {
            Subject::Channel(channel) => self.playback.is_private(channel).then(|| Mark {
                channel: channel.clone(),
                broadcast: self.presentations.channel(channel).map(|live| live.broadcast()),
            }),
            Subject::Broadcast(broadcast) => {
                let live = self.presentations.broadcast(broadcast)?;
                let private = self.playback.is_private(live.channel());
                let channel = live.channel().clone();
                private.then_some(Mark { channel, broadcast: Some(broadcast) })
            }
            Subject::Daemon => None,
        }
    }
}
