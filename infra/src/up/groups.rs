//! The groups whose members share the partitions of a stream: several processes of one role, on the same store and views.

use std::sync::Arc;

use tidemark_shared::log::{GroupName, Log, Share, Topic};

use super::UpError;
use crate::config::Role;

/// How groups are called, and who needs one.
#[derive(Debug)]
pub(super) struct Groups {
    /// Of store and views: processes that share neither are no members of one group, for each works for an output of its own.
    installation: String,
    /// True if the views are this process's alone, and so is the work on them.
    own_views: bool,
}

impl Groups {
    /// Those of processes on this store with these views; `live_url` is as people may see it, and so holds no password.
    pub(super) fn new(store_url: &str, live_url: &str, own_views: bool) -> Self {
        let installation = format!("{:016x}", fnv(&[store_url, live_url]));
        Self { installation, own_views }
    }

    /// A place in the group of archivers of a stream.
    pub(super) async fn archivers(&self, log: &Arc<dyn Log>, topic: &Topic, dataset: &str) -> Result<Share, UpError> {
        self.join(log, topic, &[Role::Archiver.name(), dataset]).await
    }

    /// A place in the group of indexers of a generation's view. One in memory is kept up whole by the process that has it.
    pub(super) async fn indexers(
        &self,
        log: &Arc<dyn Log>,
        topic: &Topic,
        dataset: &str,
        generation: &str,
    ) -> Result<Share, UpError> {
        if self.own_views {
            return Ok(Share::default());
        }
        self.join(log, topic, &[Role::Indexer.name(), dataset, generation]).await
    }

    /// A place in the group of those who run the batch layer: who has partition 0 does.
    pub(super) async fn runners(&self, log: &Arc<dyn Log>, topic: &Topic, dataset: &str) -> Result<Share, UpError> {
        self.join(log, topic, &[Role::Batch.name(), dataset]).await
    }

    async fn join(&self, log: &Arc<dyn Log>, topic: &Topic, parts: &[&str]) -> Result<Share, UpError> {
        let name = GroupName::new(&format!("tidemark.{}.{}", parts.join("."), self.installation))?;
        Ok(Share::of(log.join(topic, &name).await?))
    }
}

/// Tells texts apart, the same in every process and release (FNV-1a).
fn fnv(texts: &[&str]) -> u64 {
    let bytes = texts.iter().flat_map(|text| text.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installations_have_groups_of_their_own() {
        let of = |store: &str, live: &str| Groups::new(store, live, false).installation;
        let one = of("s3://a/b", "opensearch+http://o:1");
        assert_eq!(one, of("s3://a/b", "opensearch+http://o:1"));
        assert_eq!(one.len(), 16);
        for (store, live) in [("s3://a/c", "opensearch+http://o:1"), ("s3://a/b", "opensearch+http://o:1/other")] {
            assert_ne!(one, of(store, live));
        }
        assert_ne!(of("ab", "c"), of("a", "bc"));
    }

    /// Members of one group may be of several releases: what stands for the views' address in its name must not change.
    #[test]
    fn an_installation_keeps_its_groups() {
        for (url, shown) in [
            ("memory:", "memory:"),
            ("opensearch+http://o:1", "opensearch+http://o:1"),
            ("opensearch+https://u:p@o:1/lake-2", "opensearch+https://u:***@o:1/lake-2"),
            ("opensearch+http://u@o", "opensearch+http://u@o"),
        ] {
            assert_eq!(tidemark_shared::secrets::shown_url(url), shown);
        }
    }
}
