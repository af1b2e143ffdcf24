//! What a guest may believe of a file's content when it opens it again.
//!
//! It may keep what it has cached if nothing happened to the file since it was opened last. The
//! file's times say so, but only when they were not fresh then: two changes within one tick of
//! the host's clock leave the same time behind, and the guest may have read between them.
//!
//! It reads no further than the size that it was told last. An open file of another size is
//! therefore called stale once, upon which Linux looks the name up again, learns the size and
//! opens once more (`LOOKUP_REVAL` in `do_filp_open`). A second time would be an error to the
//! program, so that a file that grows all the while is let through.

use std::time::{Duration, Instant, SystemTime};

use rustix::fs::Stat;

use super::cache::Cache;

/// Files of which the state at their last opening is remembered. Others are read anew.
const FILES_MAX: usize = 4096;

/// Older than this, a time of change is no longer shared by a change to come: twice the coarsest
/// tick of a file system (FAT, 2 s).
const SETTLED_AFTER: Duration = Duration::from_secs(4);

/// For how long after a file was called stale it is let through: ample time for a guest to open
/// it once more.
const LET_THROUGH: Duration = Duration::from_secs(10);

/// What is known of the files that a guest has seen.
pub struct Freshness {
    /// Their state when they were opened last.
    opened: Cache<State>,
    /// What the guest was told.
    told: Cache<Told>,
}

#[derive(Clone, Copy)]
struct Told {
    size: i64,
    /// When its opening was refused last.
    refused: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
    settled: bool,
}

impl Freshness {
    /// No file was seen yet.
    pub fn new() -> Self {
        Self {
            opened: Cache::new(FILES_MAX),
            told: Cache::new(FILES_MAX),
        }
    }

    /// Notes that the guest is told that `node` is `stat`.
    pub fn tell(&mut self, node: u64, stat: &Stat) {
        let refused = self.told.get(node).and_then(|told| told.refused);
        let size = stat.st_size;
        self.told.put(node, Told { size, refused });
    }

    /// Notes that the guest has itself written to `node` up to byte `end`: it has reckoned the new
    /// size by itself.
    pub fn wrote(&mut self, node: u64, end: u64) {
        if let Some(told) = self.told.get(node) {
            let end = i64::try_from(end).unwrap_or(i64::MAX);
            let size = told.size.max(end);
            self.told.put(node, Told { size, ..told });
        }
    }

    /// Whether the guest, which opens `node` at `now`, believes in another size than that in
    /// `stat`, and is to be told so.
    pub fn outdated(&mut self, node: u64, stat: &Stat, now: Instant) -> bool {
        let Some(told) = self.told.get(node) else {
            return false;
        };
        let refused_lately = told
            .refused
            .is_some_and(|refused| now.duration_since(refused) < LET_THROUGH);
        if told.size == stat.st_size || refused_lately {
            return false;
        }
        let refused = Some(now);
        self.told.put(node, Told { refused, ..told });
        true
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
        self.told.clear();
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

    #[test]
    fn another_size_than_was_told_is_refused_once() {
        let (mut stat, _) = stat_and_time();
        let now = Instant::now();
        let mut freshness = Freshness::new();
        assert!(!freshness.outdated(NODE, &stat, now), "nothing was told");
        freshness.tell(NODE, &stat);
        assert!(!freshness.outdated(NODE, &stat, now));
        stat.st_size += 1;
        assert!(freshness.outdated(NODE, &stat, now));
        // The guest looks again, and the file grows again.
        freshness.tell(NODE, &stat);
        stat.st_size += 1;
        assert!(!freshness.outdated(NODE, &stat, now + LET_THROUGH / 2));
        assert!(freshness.outdated(NODE, &stat, now + LET_THROUGH));
    }
}
