//! What of the host's files a machine sees, as its file servers' configurations.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use devices::virtio::fs::{self, Content, Filter, Owners, UNIT_BYTES, WINDOW_BYTES_MAX};
use devices::virtio::region::Region;

use crate::app::{App, STORE_TAG, Share, StoreData};
use crate::closure::{STORE_DIR, StorePath, StoreView};
use crate::toplevel::Toplevel;

/// What the machine's file servers serve: the store, and its shares.
///
/// # Errors
/// A share can be none.
pub(crate) fn file_systems(
    app: &App,
    own: Option<&Toplevel>,
    vcpus: u16,
    store: &StoreView,
    owners: Owners,
) -> anyhow::Result<Vec<fs::Config>> {
    let content = store_content(store, app.system.is_some())?;
    let store = content.map(|content| {
        anyhow::Ok(fs::Config {
            tag: own.map_or(STORE_TAG.into(), Toplevel::store_tag),
            root: PathBuf::from(STORE_DIR),
            content,
            vcpus,
            window: window(app).context("store.data")?,
        })
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
    Ok(store.transpose()?.into_iter().chain(shares).collect())
}

/// Of the guest's memory, what there is of the store's window. Linux takes a 64th of a window for what it knows of its
/// pages, and as much as here a 32nd of the memory; with less, few files have a unit of it.
const WINDOW_TO_MEMORY: u64 = 2;

/// The window through which the store's files are read, if they are.
fn window(app: &App) -> anyhow::Result<Option<Arc<Region>>> {
    if app.store.data != StoreData::Dax {
        return Ok(None);
    }
    let bytes = app.memory_bytes().saturating_mul(WINDOW_TO_MEMORY);
    let bytes = bytes.min(WINDOW_BYTES_MAX).next_multiple_of(UNIT_BYTES);
    Region::reserve(bytes).map(|region| Some(Arc::new(region)))
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
