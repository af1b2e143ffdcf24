//! Networks between machines of this user: each is a process, `mvm network serve NAME`, to which their
//! monitors connect.
//!
//! The one thing to know: nobody owns it. The first machine that needs it starts it, it ends when the
//! last one has left, and when it was killed the machines that it connected start another one.

mod folder;
mod out;
mod place;
mod process;

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use switch::hello;

use folder::Folder;
pub use out::lead_out;
pub use place::Places;
pub use process::{detach, serve};

/// The networks that there are, by their names. One that ends meanwhile is not told.
///
/// # Errors
/// One does not answer.
pub fn all() -> Result<Vec<hello::Network>> {
    let mut networks = Vec::new();
    for name in Folder::names() {
        let Some(stream) = connect(&Folder::of(&name))? else {
            continue;
        };
        match hello::list(&stream) {
            Ok(network) => networks.push(network),
            Err(error) if error.is::<hello::Ended>() => {}
            Err(error) => return Err(error.context(format!("network {name}"))),
        }
    }
    Ok(networks)
}

/// The names of networks, also of those whose process was killed.
pub fn names() -> Vec<String> {
    Folder::names()
}

/// Removes what networks have left whose process was killed.
///
/// # Errors
/// The host's locks fail.
pub fn sweep() -> Result<()> {
    for name in Folder::names() {
        let folder = Folder::of(&name);
        if let Some(turn) = folder.try_turn()?
            && connect(&folder)?.is_none()
        {
            folder.remove(turn);
        }
    }
    Ok(())
}

/// Connects to the network whose folder that is, if it is there.
fn connect(folder: &Folder) -> Result<Option<UnixStream>> {
    match UnixStream::connect(folder.socket()) {
        Ok(stream) => Ok(Some(stream)),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot reach {folder}")),
    }
}
