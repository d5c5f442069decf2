//! Metrics of playback tokens.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::Refused;

/// Counters of one [`super::Playback`].
#[derive(Debug)]
pub(super) struct Metrics {
    refusals: Family<Labels, Counter>,
    verifications: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    reason: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let refusals = Family::<Labels, Counter>::default();
        // All labels exist from the start, so that a rate can be computed from the first refusal.
        for refused in Refused::ALL {
            drop(refusals.get_or_create(&Labels { reason: refused.label() }));
        }
        Self { refusals, verifications: Counter::default() }
    }
}

impl Metrics {
    /// Adds them to a registry whose prefix is the product's name.
    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("playback");
        registry.register(
            "refusals",
            "Requests for private presentations without a token that opens them, by reason",
            self.refusals.clone(),
        );
        registry.register(
            "verifications",
            "Signatures of playback tokens that were verified; a token is verified once, and \
             again after a reload",
            self.verifications.clone(),
        );
    }

    /// Counts a refusal.
    pub(super) fn refuse(&self, refused: Refused) {
        self.refusals.get_or_create(&Labels { reason: refused.label() }).inc();
    }

    /// Counts the verification of a signature.
    pub(super) fn verify(&self) {
        self.verifications.inc();
    }

    #[cfg(test)]
    pub(super) fn verifications(&self) -> u64 {
        self.verifications.get()
    }
}
