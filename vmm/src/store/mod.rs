//! How the bytes of a machine's store come to it, where it does not ask for all of them: files of the
//! host as its memory, a piece at a time (`window`) or as a whole file system (`image`), and which of
//! these is best for it (`auto`).

mod auto;
mod book;
mod cache;
mod choice;
mod costs;
pub mod erofs;
mod image;
mod key;
mod limits;
mod plan;
#[cfg(test)]
mod tests;
mod tree;
mod unfinished;
mod window;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use devices::virtio::region::Region;

use crate::app::{App, StoreData};
use crate::closure::StoreView;
pub use auto::{Auto, Meter};
pub use choice::Choice;

/// Removes all images that are kept, and what starts have cost. Machines that have an image mapped keep it
/// until they end.
///
/// # Errors
/// A file cannot be removed.
pub fn prune() -> Result<()> {
    unfinished::clear(&image::folder()?)?;
    unfinished::clear(&auto::folder()?)
}

/// How the bytes of a store come to a machine.
#[derive(Debug)]
pub enum Way {
    /// It asks for them.
    Plain,
    /// It asks for small files; large ones are in this window.
    Dax(Arc<Region>),
    /// They are this memory, and it has the store by no other way.
    Image(Arc<Region>),
}

/// How a machine's store comes to it, and why.
#[derive(Debug)]
pub struct Given {
    /// How.
    pub way: Way,
    /// Why, unless its file says so.
    pub reason: Option<String>,
}

impl Way {
    /// The way of that name, for a machine of `app` that sees `view` and boots `kernel`. Before an image
    /// is made, which takes long, `making` is called.
    ///
    /// # Errors
    /// It cannot be; the machine can have its store in another way.
    pub fn of(
        data: StoreData,
        app: &App,
        view: &StoreView,
        kernel: &Path,
        making: &dyn Fn(),
    ) -> Result<Self> {
        match (data, view) {
            (StoreData::Dax, StoreView::All | StoreView::Closure(_)) => {
                window::open(app).map(Self::Dax)
            }
            (StoreData::Image, StoreView::Closure(closure)) => {
                let image = image::Image::of(app, closure, kernel, making)?;
                Ok(Self::Image(image.region))
            }
            (StoreData::Auto, _) => bail!("it is to be chosen"),
            _ => Ok(Self::Plain),
        }
    }

    /// Its name.
    pub const fn data(&self) -> StoreData {
        match self {
            Self::Plain => StoreData::Plain,
            Self::Dax(_) => StoreData::Dax,
            Self::Image(_) => StoreData::Image,
        }
    }
}
