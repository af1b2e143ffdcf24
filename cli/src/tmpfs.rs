//! Options of a folder in memory, as container engines have them behind its path.

use vmm::app::TmpfsSize;

/// What such a folder is in any case, or need not be told.
const GIVEN: [&str; 5] = ["rw", "exec", "nosuid", "nodev", "mode=1777"];

/// What it is not, and what it is.
const OTHERS: [(&str, &str); 4] = [
    ("ro", "such a folder can be written to"),
    ("noexec", "programs in such a folder can be executed"),
    ("suid", "such a folder is nosuid"),
    ("dev", "such a folder is nodev"),
];

/// The size that `options` ask for, if they do. What mvm does not do goes to `refuse`, and why.
pub fn size(options: &str, mut refuse: impl FnMut(&str, &str)) -> Option<TmpfsSize> {
    let mut size = None;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.strip_prefix("size=").map(size_of) {
            Some(Ok(read)) => size = Some(read),
            Some(Err(why)) => refuse(option, &why),
            None if GIVEN.contains(&option) => {}
            None => refuse(option, reason(option)),
        }
    }
    size
}

/// As app.json has it, or so many bytes.
fn size_of(text: &str) -> Result<TmpfsSize, String> {
    let number = text.parse::<u64>();
    number.map_or_else(
        |_| text.parse(),
        |bytes| format!("{}K", bytes.div_ceil(1024)).parse(),
    )
}

/// Why it is not done.
fn reason(option: &str) -> &'static str {
    if option.starts_with("mode=") {
        return "all may write to such a folder, or who may to the image's";
    }
    let other = OTHERS.iter().find(|(other, _)| *other == option);
    other.map_or("mvm has nothing like it", |(_, reason)| reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size as app.json has it, and what is refused.
    fn read(options: &str) -> (Option<String>, Vec<String>) {
        let mut refused = Vec::new();
        let size = size(options, |option, why| {
            refused.push(format!("{option}: {why}"));
        });
        (size.map(|size| size.to_string()), refused)
    }

    #[test]
    fn sizes_are_those_of_engines_and_of_the_file() {
        for (options, size) in [
            ("rw,nosuid,nodev,exec,mode=1777,size=65536k", Some("64M")),
            ("size=1g,", Some("1G")),
            ("size=1000000", Some("977K")),
            ("size=1M,size=10%", Some("10%")),
            ("rw", None),
            ("", None),
        ] {
            assert_eq!(read(options), (size.map(Into::into), vec![]), "{options}");
        }
    }

    #[test]
    fn what_is_done_otherwise_is_refused_and_told() {
        for (option, why) in [
            ("noexec", "programs in such a folder can be executed"),
            ("ro", "such a folder can be written to"),
            ("mode=700", "all may write to such a folder"),
            ("uid=7", "mvm has nothing like it"),
            ("size=0", "must be more than nothing"),
            ("size=many", "must be a"),
        ] {
            let (size, refused) = read(option);
            let told = format!("{option}: {why}");
            assert!(refused[0].starts_with(&told), "{refused:?}");
            assert_eq!((size, refused.len()), (None, 1));
        }
        let (size, refused) = read("noexec,size=1M,suid");
        assert_eq!((size.as_deref(), refused.len()), (Some("1M"), 2));
    }
}
