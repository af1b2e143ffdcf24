//! What a bundle has of a system that brings its own kernel: what `mvm build` has read in its folder, and
//! the tree of its store.
//!
//! The one thing to know: such a system's stage 1 mounts a share of the host, so its store is served as
//! one. The tree is data, like that of an image, and its files are ranges of the part `store`.

use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use devices::virtio::fs::catalog::{Body, Catalog, Extent, NODES_MAX, Node};
use serde::{Deserialize, Serialize};

use crate::boot::modules::Module;

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Modes of what is in a store, and the time of all of it, in seconds since 1970.
const READABLE: u32 = 0o444;
const EXECUTABLE: u32 = 0o555;
const LINK_MODE: u32 = 0o777;
const TIME: i64 = 1;

/// What is known of a system.
#[derive(Debug, PartialEq, Eq)]
pub struct SystemPart {
    /// What its folder says of its boot.
    pub facts: Facts,
    /// Its store, the folder `/nix/store` first.
    pub nodes: Vec<StoreNode>,
}

/// What a system's folder says of its boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// What the kernel is told: the system's own words, and where stage 2 is.
    pub cmdline: String,
    /// Tag and mount point of the virtio-fs devices in its fstab.
    pub tags: Vec<(String, PathBuf)>,
    /// What mvm's init loads, in this order.
    pub modules: Vec<Module>,
}

/// A file of a store.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreNode {
    /// Names, sorted, and where in the list each leads to.
    Folder(Vec<(Vec<u8>, u32)>),
    /// A regular file.
    File {
        /// Whether it may be executed.
        is_program: bool,
        /// Where in the part `store` it begins, in bytes.
        offset: u64,
        /// Its length in bytes.
        bytes: u64,
    },
    /// A symbolic link to this.
    Link(Vec<u8>),
}

impl SystemPart {
    /// The bytes of the part.
    ///
    /// # Errors
    /// They are too many.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = postcard::to_stdvec(&self.facts)?;
        for node in &self.nodes {
            bytes.extend(postcard::to_stdvec(node)?);
        }
        let most = super::SYSTEM_BYTES_MAX;
        ensure!(
            self.nodes.len() <= NODES_MAX && bytes.len() as u64 <= most,
            "the system has more files than a bundle takes: {}, whose names have {} MiB",
            self.nodes.len(),
            bytes.len() >> 20
        );
        Ok(bytes)
    }

    /// Reads the part, whose author may be anybody.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let (facts, mut rest) = postcard::take_from_bytes(bytes)?;
        let mut nodes = Vec::new();
        // One by one, since each of few bytes takes many.
        while !rest.is_empty() {
            ensure!(
                nodes.len() < NODES_MAX,
                "it has more than {NODES_MAX} files"
            );
            let node;
            (node, rest) = postcard::take_from_bytes(rest)?;
            nodes.push(node);
        }
        Ok(Self { facts, nodes })
    }

    /// The tree of its store, which is at `range` of `file`.
    pub(super) fn tree(&self, file: File, range: Range<u64>) -> Result<Catalog> {
        let nodes = self.nodes.iter().map(|node| node.in_store(&range));
        Catalog::new(nodes.collect::<Result<_>>()?, vec![file.into()])
    }
}

impl StoreNode {
    fn in_store(&self, range: &Range<u64>) -> Result<Node> {
        let (mode, body) = match self {
            Self::Folder(names) => {
                let names = names.iter();
                let names = names.map(|(name, node)| (name.as_slice().into(), *node));
                (FOLDER | EXECUTABLE, Body::Directory(names.collect()))
            }
            Self::Link(target) => (LINK | LINK_MODE, Body::Link(target.as_slice().into())),
            Self::File {
                is_program,
                offset,
                bytes,
            } => {
                let mode = if *is_program { EXECUTABLE } else { READABLE };
                let offset = range.start.checked_add(*offset);
                let end = offset.and_then(|offset| offset.checked_add(*bytes));
                let offset = offset.filter(|_| end.is_some_and(|end| end <= range.end));
                let extent = Extent {
                    content: 0,
                    offset: offset.context("a file of its store is outside of that")?,
                    bytes: *bytes,
                };
                (FILE | mode, Body::File(extent))
            }
        };
        Ok(Node {
            mode,
            uid: 0,
            gid: 0,
            rdev: 0,
            modified: (TIME, 0),
            attributes: Vec::new(),
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part() -> SystemPart {
        SystemPart {
            facts: Facts {
                cmdline: "init=/nix/store/x/init".into(),
                tags: vec![("ro-store".into(), "/nix/.ro-store".into())],
                modules: vec![Module {
                    file_name: "virtiofs.ko".into(),
                    content: vec![1; 300],
                }],
            },
            nodes: vec![
                StoreNode::Folder(vec![(b"a".into(), 1), (b"b".into(), 2)]),
                StoreNode::File {
                    is_program: true,
                    offset: 10,
                    bytes: 20,
                },
                StoreNode::Link(b"a".into()),
            ],
        }
    }

    fn tree(part: &SystemPart) -> Result<Catalog> {
        part.tree(tempfile::tempfile()?, 4096..4126)
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let bytes = part().encode().unwrap();
        assert_eq!(SystemPart::decode(&bytes).unwrap(), part());
        assert!(SystemPart::decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(SystemPart::decode(&[]).is_err());
    }

    #[test]
    fn its_files_are_ranges_of_the_store() {
        let tree = tree(&part()).unwrap();
        let modes: Vec<_> = tree.nodes().iter().map(|node| node.mode).collect();
        assert_eq!(modes, [0o040_555, 0o100_555, 0o120_777]);
        let extent = Extent {
            content: 0,
            offset: 4106,
            bytes: 20,
        };
        assert_eq!(tree.nodes()[1].body, Body::File(extent));
    }

    #[test]
    fn what_leads_out_of_the_store_is_refused() {
        for (first, length) in [(10, 21), (31, 0), (u64::MAX, 0), (1, u64::MAX)] {
            let mut part = part();
            part.nodes[1] = StoreNode::File {
                is_program: false,
                offset: first,
                bytes: length,
            };
            let error = tree(&part).unwrap_err();
            assert_eq!(error.to_string(), "a file of its store is outside of that");
        }
        let mut part = part();
        part.nodes[0] = StoreNode::Folder(vec![(b"a".into(), 3)]);
        assert!(tree(&part).is_err());
        part.nodes.clear();
        assert!(tree(&part).is_err());
    }
}
