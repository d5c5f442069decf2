//! `/api/v1/accounts/me/export`: all that belongs to an account. Each feature declares its part
//! (`control_domain::export`), so that this file does not know them.
//!
//! The parts are read and sent in portions, because an account may have any number of things.
//! Things that change meanwhile are there as they were or as they are.

use std::{collections::VecDeque, fmt::Write as _, io};

use axum::{
    body::{Body, Bytes},
    extract::State,
    response::{IntoResponse, Response},
};
use control_domain::{
    Export, Fault, Feature,
    export::{ExportOf, Portion},
    features,
    features::accounts::queries::{self, EXPORT},
    id::AccountId,
};
use futures_util::stream;
use http::{HeaderValue, header};
use tracing::warn;
use utoipa::ToSchema;

use crate::{
    api::sessions::own,
    authentication::Sender,
    identity::Identity,
    platform::InUse,
    problem::{Problem, problems},
};

problems!(
    /// Problems of [`export_account`].
    ExportProblems: Unauthenticated, InvalidToken, Forbidden, InsufficientScope, NotFound,
    PreconditionFailed
);

/// All that belongs to an account. Each feature of the platform has a member of its own, such as
/// `account`, `sessions`, `channels`, `videos` and `follows`.
#[derive(ToSchema)]
#[schema(as = Export, value_type = Object)]
pub(super) struct Exported(());

/// Export the own account
///
/// All that belongs to it, as JSON.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/me/export",
    responses(
        (status = OK, description = "All that belongs to the account", body = Exported,
            content_type = "application/json"),
        ExportProblems
    ),
    security(("account" = []))
)]
pub(super) async fn export_account(
    State(identity): State<Identity>,
    Sender(actor): Sender,
) -> Result<Response, Problem> {
    let person = own(&actor)?;
    let permitted = |rows: &dyn control_domain::Rows| {
        queries::present(rows, person)?;
        EXPORT.check(&actor, Some(person), true)
    };
    identity.platform().read(permitted).await?;
    let store = identity.platform().store().await?;
    let parts = features::ALL.iter().copied().collect();
    let writer = Writer { store, person, parts, stage: Stage::Begin };
    let body = stream::unfold(Some(writer), |writer| async {
        let mut writer = writer?;
        match writer.next() {
            Ok(Some(text)) => Some((Ok(Bytes::from(text)), Some(writer))),
            Ok(None) => None,
            Err(fault) => {
                // The response has begun: its end is missing, so that nobody takes it for whole.
                warn!(%fault, "an export has ended early");
                Some((Err(io::Error::other("the export failed")), None))
            }
        }
    });
    let name = HeaderValue::from_static("attachment; filename=\"account.json\"");
    let fields = [
        (header::CONTENT_DISPOSITION, name),
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
    ];
    Ok((fields, Body::from_stream(body)).into_response())
}

/// The position in the text.
enum Stage {
    Begin,
    /// Before a part.
    Between,
    /// Within a list, behind a key.
    Within(Vec<u8>),
    End,
}

/// Writes the parts, one portion after the other.
struct Writer {
    store: InUse,
    person: AccountId,
    /// The features that are left; the first is in progress.
    parts: VecDeque<&'static Feature>,
    stage: Stage,
}

impl Writer {
    /// The next piece of the text; `None` at its end.
    fn next(&mut self) -> Result<Option<String>, Fault> {
        let mut text = String::new();
        match std::mem::replace(&mut self.stage, Stage::Between) {
            Stage::End => return Ok(None),
            Stage::Begin => text.push('{'),
            Stage::Between => text.push(','),
            Stage::Within(key) => {
                if let Some(Export::Many(_, read)) = self.parts.front().map(|it| it.export) {
                    let portion = self.read(|of| read(of, Some(&key)))?;
                    self.append(&mut text, portion, true);
                }
                return Ok(Some(text));
            }
        }
        while let Some(Export::Nothing(_)) = self.parts.front().map(|feature| feature.export) {
            self.parts.pop_front();
        }
        match self.parts.front().map(|feature| feature.export) {
            Some(Export::One(member, read)) => {
                let value = self.read(read)?;
                let _ = write!(text, "\"{member}\":{value}");
                self.parts.pop_front();
                self.conclude(&mut text);
            }
            Some(Export::Many(member, read)) => {
                let portion = self.read(|of| read(of, None))?;
                let _ = write!(text, "\"{member}\":[");
                self.append(&mut text, portion, false);
            }
            Some(Export::Nothing(_)) | None => self.conclude(&mut text),
        }
        Ok(Some(text))
    }

    /// Reads a part.
    fn read<T>(&self, read: impl FnOnce(&ExportOf<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        let (vault, id) = (self.store.vault(), self.person);
        self.store.read(|rows| read(&ExportOf { rows, vault, id }))?
    }

    /// Appends a portion of a list; `is_further` if one with entries precedes it.
    fn append(&mut self, text: &mut String, portion: Portion, is_further: bool) {
        for (index, item) in portion.items.iter().enumerate() {
            let comma = if is_further || index > 0 { "," } else { "" };
            let _ = write!(text, "{comma}{item}");
        }
        match portion.next {
            Some(key) => self.stage = Stage::Within(key),
            None => {
                text.push(']');
                self.parts.pop_front();
                self.conclude(text);
            }
        }
    }

    /// Ends the text behind the last part.
    fn conclude(&mut self, text: &mut String) {
        let has_more = |feature: &&Feature| feature.export.member().is_some();
        if !self.parts.iter().any(has_more) {
            text.push('}');
            self.stage = Stage::End;
        }
    }
}
