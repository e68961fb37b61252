//! What cuts are taken of, and what all who take them share.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use tidemark_shared::ambient::Ambient;
use tidemark_shared::curated::CurrentGeneration;
use tidemark_shared::dataset::KnownDefinitions;
use tidemark_shared::error::{ErrorKind, Kind};
use tidemark_shared::live::{LiveError, LiveView, ViewId};
use tidemark_shared::sql::CutError;
use tidemark_shared::store::Store;

use super::generation::LastAnswer;
use super::speed::SpeedStatus;
use super::versions::Versions;

/// What cuts are taken of.
pub(super) struct Sources {
    pub(super) store: Store,
    pub(super) versions: Arc<dyn Versions>,
    pub(super) live: Arc<dyn LiveView>,
    pub(super) speed: Arc<dyn SpeedStatus>,
    pub(super) ambient: Arc<dyn Ambient>,
    pub(super) definitions: KnownDefinitions,
    /// By dataset, which generation this process answers from.
    pub(super) switches: Mutex<BTreeMap<String, Switch>>,
}

/// What this process knows of a dataset's switch.
#[derive(Debug, Default)]
pub(super) struct Switch {
    pub(super) last: Option<LastAnswer>,
    /// When a note could not be written.
    pub(super) unnoted: Option<DateTime<Utc>>,
}

pub(super) fn failed(error: impl ErrorKind) -> CutError {
    CutError::failed(error)
}

/// A failure of a real-time view, told apart from all others: what is curated can be asked for meanwhile.
#[derive(Debug, thiserror::Error)]
#[error("its real-time part can't be read")]
struct ViewFailed(#[source] LiveError);

impl ErrorKind for ViewFailed {
    fn kind(&self) -> Kind {
        self.0.kind()
    }

    fn hint(&self) -> Option<String> {
        self.0.hint()
    }
}

/// A cut fails, for a view does.
pub(crate) fn view_failed(error: LiveError) -> CutError {
    CutError::failed(ViewFailed(error))
}

/// What a view said, where a cut failed for that.
pub(crate) fn failure_of_view(error: &CutError) -> Option<&LiveError> {
    let CutError::Failed(failed) = error else { return None };
    failed.source()?.downcast_ref()
}

pub(super) fn view_id(dataset: &str, generation: &CurrentGeneration) -> ViewId {
    ViewId { dataset: dataset.to_owned(), generation: generation.generation.clone() }
}
