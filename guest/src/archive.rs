//! A file or a tree of them as a tar stream, and back: what `mvm cp` sends between host and guest.
//!
//! Compiled by both sides. An archive made here begins with the copied file or folder itself, under
//! its own name, or `.` for the contents of a folder alone.
//!
//! The one thing to know: whoever unpacks takes the archive for hostile. Names are checked; each is
//! then opened beneath the destination's folder without following a link; what is neither a file
//! nor a folder nor a link is refused. Leaves out devices, pipes, sockets, extended attributes.
#![expect(
    clippy::unnecessary_debug_formatting,
    reason = "names are a sender's: what would act on a terminal is escaped"
)]

mod destination;
mod entries;
mod pack;
#[cfg(test)]
mod tests;
mod unpack;

pub use destination::{Destination, Form};
pub use entries::Cut;
pub use pack::Source;
pub use unpack::{Rules, unpack};
