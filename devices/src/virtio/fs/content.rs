//! What a share promises about its files, and for how long the guest may believe it.

use std::time::Duration;

use super::filter::Filter;
use super::name::Name;
use super::owners::Owners;
use super::wire::{Flags, ROOT_ID};

/// Longer than any machine runs. Linux caps it (`MAX_SEC_IN_JIFFIES`) without harm.
pub const FOREVER: Duration = Duration::from_secs(1 << 40);

/// For the one directory of an unfiltered immutable share that does change: its root.
const ROOT_TIMEOUT: Duration = Duration::from_secs(1);

/// What may happen to the files of a share while a machine sees them.
#[derive(Clone, Debug)]
pub enum Content {
    /// Nothing below the root's names ever changes, as in /nix/store: the guest asks for each
    /// thing once.
    Immutable {
        /// The names that exist below the root. With one, nothing changes there either, but that
        /// one which grows gets new names; without, all of the directory's names exist, and new
        /// ones appear within a second.
        filter: Option<Filter>,
    },
    /// Anything may change, as in any folder of the host.
    Changing {
        /// How old a name or an attribute may be in the guest. Content is never older than the
        /// last time that the file was opened.
        timeout: Duration,
        /// The names that exist below the root, if not all do: of a share that is single files. The
        /// folder they are in is nothing to the guest then, nor are its permissions.
        filter: Option<Filter>,
    },
    /// Anything may change, and the guest may change it.
    Writable {
        /// As for what is only read. What the guest itself changes it knows at once.
        timeout: Duration,
        /// Whose files are whose.
        owners: Owners,
        /// Device number of a file system mounted below the root that stays closed: what holds it is
        /// shown, and nothing in it.
        closed: Option<u64>,
    },
}

impl Content {
    /// The usual age limit of a folder that changes: an edit is seen within a second.
    pub const CHANGING_TIMEOUT: Duration = Duration::from_secs(1);

    /// The names below the root, if there may be more of them later.
    pub fn growing(&self) -> Option<&Filter> {
        self.root_filter(ROOT_ID).filter(|filter| filter.grows())
    }

    /// Whether a node's file stays what it is.
    pub(super) fn immutable(&self) -> bool {
        matches!(self, Self::Immutable { .. })
    }

    /// The permissions that directory `node` has in any case.
    pub(super) fn granted(&self, node: u64) -> u32 {
        let is_single_files = !self.immutable() && self.root_filter(node).is_some();
        if is_single_files { 0o555 } else { 0 }
    }

    /// Whether the guest may change it.
    pub(super) fn writable(&self) -> bool {
        matches!(self, Self::Writable { .. })
    }

    /// Whose files the guest sees and makes. In what it only reads, numbers are the host's.
    pub(super) fn owners(&self) -> Owners {
        match self {
            Self::Writable { owners, .. } => *owners,
            _ => Owners::Same,
        }
    }

    /// The file system below the root that stays closed.
    pub(super) fn closed(&self) -> Option<u64> {
        match self {
            Self::Writable { closed, .. } => *closed,
            _ => None,
        }
    }

    /// Whether `name` may exist in `parent`, as far as can be said without a system call.
    pub(super) fn shows(&self, parent: u64, name: Name<'_>) -> bool {
        self.root_filter(parent)
            .is_none_or(|filter| filter.shows(name))
    }

    /// The filter that says what is in directory `node`, if one does.
    pub(super) fn root_filter(&self, node: u64) -> Option<&Filter> {
        match self {
            Self::Immutable { filter } | Self::Changing { filter, .. } if node == ROOT_ID => {
                filter.as_ref()
            }
            _ => None,
        }
    }

    /// For how long a name in `parent` is the node that it is.
    pub(super) fn name_valid(&self, parent: u64) -> Duration {
        self.valid(parent)
    }

    /// For how long a node's attributes are what they are.
    pub(super) fn attributes_valid(&self, node: u64) -> Duration {
        self.valid(node)
    }

    /// For how long a name that is not in `parent` stays absent. Where names may appear this is
    /// no time at all: who waits for a file, or was told of one, looks at once.
    pub(super) fn absence_valid(&self, parent: u64) -> Duration {
        let grows = parent == ROOT_ID && self.growing().is_some();
        match self {
            Self::Immutable { .. } if self.valid(parent) == FOREVER && !grows => FOREVER,
            _ => Duration::ZERO,
        }
    }

    /// The flags to answer INIT with, of those that the guest knows.
    pub(super) fn flags(&self) -> Flags {
        let always = Flags::ASYNC_READ
            | Flags::ASYNC_DIO
            | Flags::DO_READDIRPLUS
            | Flags::PARALLEL_DIROPS
            | Flags::MAX_PAGES
            | Flags::INIT_EXT;
        let unasked = Flags::NO_OPEN_SUPPORT | Flags::NO_OPENDIR_SUPPORT | Flags::CACHE_SYMLINKS;
        let (large, inval) = (Flags::READDIRPLUS_AUTO, Flags::AUTO_INVAL_DATA);
        match self {
            // Without READDIRPLUS_AUTO every listing brings the nodes along: what is listed is
            // asked for no more. A directory of a closure has few entries that no one needs.
            Self::Immutable { filter: Some(_) } => always | unasked,
            // AUTO_INVAL_DATA lets the guest look at the root's time of change before it shows
            // the listing that it has cached (fuse_readdir_cached).
            Self::Immutable { filter: None } => always | unasked | large | inval,
            Self::Changing { .. } => always | large | inval,
            // Without HANDLE_KILLPRIV_V2 Linux would ask for `security.capability` before each
            // WRITE. No WRITEBACK_CACHE: the guest would hold data, sizes and times back that
            // the host's programs are to see, and believe its own over theirs.
            Self::Writable { .. } => {
                let write = Flags::BIG_WRITES | Flags::ATOMIC_O_TRUNC | Flags::HANDLE_KILLPRIV_V2;
                always | large | inval | write
            }
        }
    }

    /// For names, `directory_or_node` is where they are; for attributes, what they are of.
    fn valid(&self, directory_or_node: u64) -> Duration {
        match self {
            Self::Changing { timeout, .. } | Self::Writable { timeout, .. } => *timeout,
            Self::Immutable { filter: None } if directory_or_node == ROOT_ID => ROOT_TIMEOUT,
            Self::Immutable { .. } => FOREVER,
        }
    }
}
