//! "Did you mean": the allowed word nearest to a misspelt one.

use super::quote::quoted;

/// Longer words get no suggestion: the distance costs the product of both lengths.
const MAX_WORD_LEN: usize = 64;

/// Edits that still pass for a slip, for a word of `len` characters.
const fn max_edits(len: usize) -> usize {
    match len {
        0..=3 => 1,
        4..=6 => 2,
        _ => 3,
    }
}

/// The one of `allowed` that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, allowed: &[&'a str]) -> Option<&'a str> {
    if word.len() > MAX_WORD_LEN {
        return None;
    }
    let word = folded(word);
    allowed
        .iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&word, &folded(candidate)),
                *candidate,
            )
        })
        .filter(|(edits, candidate)| *edits <= max_edits(candidate.len().min(word.len())))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// What to write after a word that is not known: the suggestion, if any, and all that is allowed.
pub fn instead_of(word: &str, allowed: &[&str]) -> String {
    let all = allowed.join(", ");
    match nearest(word, allowed) {
        Some(meant) => format!("; did you mean {}? allowed: {all}", quoted(meant)),
        None => format!("; allowed: {all}"),
    }
}

/// `mount_point`, `mount-point` and `mountpoint` are all one slip from `mountPoint`.
fn folded(word: &str) -> String {
    word.chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word() {
        let allowed = ["memory", "mountPoint", "name"];
        assert_eq!(nearest("memroy", &allowed), Some("memory"));
        assert_eq!(nearest("mount_point", &allowed), Some("mountPoint"));
    }

    #[test]
    fn another_word_finds_none() {
        assert_eq!(nearest("volumes", &["memory", "name", "args"]), None);
        assert_eq!(nearest(&"memory".repeat(20), &["memory"]), None);
    }
}
