//! Container images, as a machine's root file system.
//!
//! An image is a list of layers and a configuration. Its file is read once, from its beginning to
//! its end: each layer is unpacked into the cache, and from then on the image is known by its id,
//! the digest of its configuration.
//!
//! The one thing to know: **no name of an image ever becomes a path of the host.** A layer in the
//! cache ([`layer`]) is two files, whose names are ours: an *index*, which says what its archive's
//! headers said (names, owners, modes, device numbers, extended attributes, links, whiteouts), and
//! its *content*, the bytes of its regular files one behind the other. The layers' indexes are
//! applied to each other in memory ([`merge`]); links are followed there, and nowhere else; what
//! comes of it, a [`devices::virtio::fs::catalog::Catalog`], is served as it is. So nothing is
//! unpacked as root, an ordinary user has images whole, and `..`, absolute links, a linked `/etc`
//! and device nodes meet no file of the host that they could be about.
//!
//! ```text
//!  docker-archive ┐               ┌ layer ── index ┐
//!  OCI archive    ├─ source ─────▶┤ layer ── index ├─ merge ──▶ Catalog ──▶ file server
//!  OCI layout     ┘   digests   ┌▶└ layer ─ content┘
//!                     checked   │
//!  image.json ─ store paths ─────┘
//! ```
//!
//! What applies to what is as the OCI image specification 1.1 says, and where it is silent as
//! `umoci unpack` does it. Digests are checked while bytes are read: of blobs by their descriptors,
//! of layers by the configuration's `diff_ids`.
//!
//! Left out: registries (what is not on this host is somebody else's errand), signatures,
//! platforms other than linux/amd64.

mod archive;
mod cache;
mod choice;
mod config;
mod contained;
mod digest;
mod entries;
pub mod find;
mod layer;
mod look;
mod manifest;
mod merge;
mod nix;
mod packing;
mod pax;
mod source;
mod sparse;
#[cfg(test)]
mod testing;
mod tree;
mod walk;

pub use cache::{Cache, Image};
pub use choice::Choice;
pub use config::{Config, HealthCheck};
pub use devices::virtio::fs::catalog::Catalog;
pub use digest::{Digest, Written};
pub use look::look;
pub use source::{is_archive, is_image, is_layout};
