//! What names a container image: where it is, and which of those that are there.

use std::path::Path;

/// What stands between a path and what is chosen there: a name, or a number.
const SEPARATORS: [char; 2] = [':', '@'];

/// The file or folder that `image` names, and which image in it: `web.tar:shop/web:1` is the one
/// called `shop/web:1` of web.tar, and `web.tar@0` the first of it. What is chosen comes with what
/// separates it. A path that is there as a whole is one.
pub fn split_image(image: &str) -> (&Path, Option<&str>) {
    let is_there = |path: &str| path == "-" || Path::new(path).exists();
    let mut ends = image.rmatch_indices(SEPARATORS).map(|(end, _)| end);
    let end = ends.find(|end| is_there(&image[..*end]));
    match end.filter(|_| !is_there(image)) {
        Some(end) => (Path::new(&image[..end]), Some(&image[end..])),
        None => (Path::new(image), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_path_that_is_there_is_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::create_dir(at("a:b")).unwrap();
        for name in ["web.tar", "a", "a:b/c@1.tar"] {
            std::fs::write(at(name), "").unwrap();
        }
        for (name, path, chosen) in [
            ("web.tar", "web.tar", None),
            ("web.tar:shop/web:1", "web.tar", Some(":shop/web:1")),
            ("web.tar@0", "web.tar", Some("@0")),
            ("a:b", "a:b", None),
            ("a:c", "a", Some(":c")),
            ("a:b/c@1.tar:web@2", "a:b/c@1.tar", Some(":web@2")),
            ("none.tar:web", "none.tar:web", None),
        ] {
            let whole = at(name);
            let expected = at(path);
            assert_eq!(
                split_image(&whole),
                (Path::new(&expected), chosen),
                "{name}"
            );
        }
        assert_eq!(split_image("-:web"), (Path::new("-"), Some(":web")));
    }
}
