//! The manners that all routes of the API share: request ids, security headers, CORS, the time
//! limit, the rate limit, the size of bodies and preconditions. Every route gets them here, from
//! one place.

mod description;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state, map_response},
};

pub(crate) use self::description::describe;
use crate::{
    content,
    cors::{self, Cors},
    deadline, guard, precondition,
    rate::{self, Class, Limiter, Limits},
    request_id,
    requests::{self, Metrics},
    traces::Networks,
};

/// The settings of the manners. Clones share what can be replaced: the rate limits and the origins.
#[derive(Debug, Clone)]
pub struct Manners {
    /// Counts requests; a route of another class than [`Class::Api`] adds a layer of its own.
    pub limiter: Arc<Limiter>,
    /// The origins whose pages may use the API.
    pub cors: Cors,
    /// The time limit of a request.
    pub deadline: Duration,
    /// The maximum size of a body, unless the route sets its own.
    pub max_body_bytes: usize,
    /// Metrics of the requests; `None`: they are not counted.
    pub metrics: Option<Metrics>,
    /// The peers whose traces requests continue.
    pub trusted: Networks,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            limiter: Arc::new(Limiter::new(Limits::default())),
            cors: Cors::default(),
            deadline: deadline::DEFAULT,
            max_body_bytes: content::DEFAULT_BYTES,
            metrics: None,
            trusted: Networks::default(),
        }
    }
}

impl Manners {
    /// Adds the manners to all routes of `router` and to its fallbacks.
    pub(crate) fn on<S: Clone + Send + Sync + 'static>(self, router: Router<S>) -> Router<S> {
        let api = self.limiter.by_address(Class::Api);
        let router = router
            // The first layer is the innermost. The precondition is evaluated on the route's own
            // response.
            .layer(from_fn(precondition::conditional))
            .layer(content::limit(self.max_body_bytes))
            .layer(from_fn_with_state(self.deadline, deadline::limit))
            // A preflight is not counted, because it has no effect and browsers send many.
            .layer(from_fn_with_state(api, rate::limit))
            .layer(from_fn_with_state(self.cors, cors::share))
            // The headers of these two are on every response, also on refusals.
            .layer(map_response(guard::guard))
            .layer(from_fn_with_state(self.trusted, request_id::identify));
        match self.metrics {
            // The outermost, so that refusals of the others are counted.
            Some(metrics) => router.layer(from_fn_with_state(metrics, requests::count)),
            None => router,
        }
    }
}
