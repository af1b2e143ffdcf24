//! What of the host's files a machine sees, as its file servers' configurations.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use devices::virtio::fs::{self, Content, Filter, Owners};
use devices::virtio::region::Region;

use crate::app::{App, STORE_TAG, Share};
use crate::closure::{STORE_DIR, StorePath, StoreView};
use crate::toplevel::Toplevel;

/// What the machine's file servers serve: the store, through `window` if it has one, and its shares.
///
/// # Errors
/// A share can be none.
pub(crate) fn file_systems(
    app: &App,
    own: Option<&Toplevel>,
    vcpus: u16,
    (store, window): (&StoreView, Option<&Arc<Region>>),
    owners: Owners,
) -> anyhow::Result<Vec<fs::Config>> {
    let content = store_content(store, app.system.is_some())?;
    let store = content.map(|content| fs::Config {
        tag: own.map_or(STORE_TAG.into(), Toplevel::store_tag),
        root: PathBuf::from(STORE_DIR),
        content,
        vcpus,
        window: window.cloned(),
    });
    let tags = own.map_or_else(|| app.share_tags(), |own| own.share_tags(app));
    let shares = app.shares.iter().zip(tags).enumerate();
    let shares = shares.map(|(nth, (share, tag))| {
        let opened = share_content(share, owners);
        let (root, content) = opened.with_context(|| format!("shares[{nth}].source"))?;
        Ok(fs::Config {
            tag,
            root,
            content,
            vcpus,
            window: None,
        })
    });
    let shares = shares.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(store.into_iter().chain(shares).collect())
}

/// The folder of the host that a share is of, and what of it is shown.
fn share_content(share: &Share, owners: Owners) -> anyhow::Result<(PathBuf, Content)> {
    share.ensure_can_be()?;
    let timeout = Content::CHANGING_TIMEOUT;
    let folder = share.source.parent();
    if let Some(folder) = folder.filter(|_| share.file_name().is_some()) {
        let filter = Some(Filter::of_paths(folder, [&share.source])?);
        return Ok((folder.into(), Content::Changing { timeout, filter }));
    }
    let content = if share.read_only {
        Content::Changing {
            timeout,
            filter: None,
        }
    } else {
        Content::Writable {
            timeout,
            owners,
            closed: None,
        }
    };
    Ok((share.source.clone(), content))
}

/// What the store's file server shows, which may grow while the machine runs; none where the guest has
/// no store.
fn store_content(view: &StoreView, grows: bool) -> anyhow::Result<Option<Content>> {
    Ok(match view {
        StoreView::None | StoreView::Bundle(_) => None,
        StoreView::All => Some(Content::Immutable { filter: None }),
        StoreView::Closure(closure) => {
            let paths = closure.paths().iter().map(StorePath::as_str);
            let filter = Filter::of_paths(Path::new(STORE_DIR), paths)?;
            Some(Content::Immutable {
                filter: Some(if grows { filter.growing() } else { filter }),
            })
        }
    })
}
