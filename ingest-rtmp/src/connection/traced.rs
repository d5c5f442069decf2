//! The exported span of a publisher: from its request to its end, with the reason. It has the name
//! of the channel and of the broadcast, and neither the stream key nor the peer's address.

use media_core::{BroadcastId, ChannelName};
use net_core::TRACES;
use tracing::{Span, field::Empty, info_span};

/// The end of a publisher that has left by itself.
const LEFT: &str = "left";

/// The span of the present publisher, if there is one. It is never entered, because a publisher is
/// served for hours, and each of its frames would pay for it.
#[derive(Debug)]
pub(super) struct Traced {
    span: Span,
    /// The reason of the end, once there is one.
    end: Option<&'static str>,
}

impl Default for Traced {
    fn default() -> Self {
        Self { span: Span::none(), end: None }
    }
}

impl Traced {
    /// The peer has requested to publish. Returns the span of the decision.
    pub(super) fn begin(&mut self) -> Span {
        let span = info_span!(
            target: TRACES,
            parent: None,
            "rtmp publish",
            otel.kind = "server",
            network.protocol.name = "rtmp",
            channel = Empty,
            broadcast = Empty,
            end = Empty,
        );
        *self = Self { span, end: None };
        info_span!(target: TRACES, parent: &self.span, "rtmp authorize")
    }

    /// It has the right to publish a channel.
    pub(super) fn permitted(&self, channel: &ChannelName) {
        self.span.record("channel", channel.as_str());
    }

    /// It is to end, for this reason. Only the first one counts.
    pub(super) fn ending(&mut self, reason: &'static str) {
        self.end.get_or_insert(reason);
    }

    /// It has ended.
    pub(super) fn finish(&mut self, broadcast: Option<BroadcastId>) {
        let Self { span, end } = std::mem::take(self);
        if !span.is_disabled() {
            if let Some(broadcast) = broadcast {
                span.record("broadcast", broadcast.to_string());
            }
            span.record("end", end.unwrap_or(LEFT));
        }
    }
}
