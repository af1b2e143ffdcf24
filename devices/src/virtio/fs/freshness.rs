//! Whether a guest may keep what it has cached of a file's content when it opens it again.
//!
//! It may if nothing happened to the file since it was opened last. The file's times say so, but
//! only when they were not fresh then: two changes within one tick of the host's clock leave the
//! same time behind, and the guest may have read between them.

use std::time::{Duration, SystemTime};

use rustix::fs::Stat;

use super::cache::Cache;

/// Files of which the state at their last opening is remembered. Others are read anew.
const FILES_MAX: usize = 4096;

/// Older than this, a time of change is no longer shared by a change to come: twice the coarsest
/// tick of a file system (FAT, 2 s).
const SETTLED_AFTER: Duration = Duration::from_secs(4);

/// The state of files at their last opening.
pub struct Freshness {
    opened: Cache<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
    settled: bool,
}

impl Freshness {
    /// No file was opened yet.
    pub fn new() -> Self {
        Self {
            opened: Cache::new(FILES_MAX),
        }
    }

    /// Notes that `node` is opened at `now` and found to be `stat`; whether its content is what
    /// it was when it was opened last.
    pub fn same_as_last_time(&mut self, node: u64, stat: &Stat, now: SystemTime) -> bool {
        let state = State {
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
            settled: settled(stat.st_ctime, now),
        };
        let before = self.opened.get(node);
        self.opened.put(node, state);
        before == Some(state) && state.settled
    }

    /// Forgets every file.
    pub fn clear(&mut self) {
        self.opened.clear();
    }
}

/// A time in the future, from another machine's clock, is not settled.
fn settled(seconds: i64, now: SystemTime) -> bool {
    u64::try_from(seconds)
        .ok()
        .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
        .and_then(|changed| now.duration_since(changed).ok())
        .is_some_and(|age| age > SETTLED_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: u64 = 7;

    fn stat_and_time() -> (Stat, SystemTime) {
        let file = tempfile::tempfile().unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(stat.st_ctime.cast_unsigned());
        (stat, changed)
    }

    #[test]
    fn an_old_unchanged_file_is_the_same() {
        let (stat, changed) = stat_and_time();
        let later = changed + Duration::from_secs(60);
        let mut freshness = Freshness::new();
        assert!(!freshness.same_as_last_time(NODE, &stat, later));
        assert!(freshness.same_as_last_time(NODE, &stat, later));
        assert!(!freshness.same_as_last_time(NODE + 1, &stat, later));
    }

    #[test]
    fn a_change_shows() {
        let (stat, changed) = stat_and_time();
        let later = changed + Duration::from_secs(60);
        let edits: [fn(&mut Stat); 3] = [
            |stat| stat.st_size += 1,
            |stat| stat.st_mtime_nsec ^= 1,
            |stat| stat.st_ctime -= 1,
        ];
        for edit in edits {
            let mut freshness = Freshness::new();
            let mut edited = stat;
            edit(&mut edited);
            freshness.same_as_last_time(NODE, &stat, later);
            assert!(!freshness.same_as_last_time(NODE, &edited, later));
            assert!(freshness.same_as_last_time(NODE, &edited, later));
        }
    }

    #[test]
    fn a_file_changed_just_before_it_was_opened_may_change_unseen() {
        let (stat, changed) = stat_and_time();
        let mut freshness = Freshness::new();
        freshness.same_as_last_time(NODE, &stat, changed + Duration::from_secs(1));
        let later = changed + Duration::from_secs(60);
        assert!(!freshness.same_as_last_time(NODE, &stat, later));
        assert!(freshness.same_as_last_time(NODE, &stat, later));
    }

    #[test]
    fn a_time_in_the_future_is_never_settled() {
        let (stat, changed) = stat_and_time();
        let earlier = changed - Duration::from_secs(60);
        let mut freshness = Freshness::new();
        freshness.same_as_last_time(NODE, &stat, earlier);
        assert!(!freshness.same_as_last_time(NODE, &stat, earlier));
    }
}
