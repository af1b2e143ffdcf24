//! What images are called: where one is, which of several there, and what a machine of it is called.

use std::path::Path;

use anyhow::Result;
use image::Choice;
use vmm::app::split_image;

/// What names of packed archives end with.
const PACKED: [&str; 8] = [
    ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.xz", ".txz", ".tar.bz2", ".tbz2",
];

/// The name of a machine whose image's file has none that can be one.
const NAME: &str = "image";

/// Characters of a machine's name.
const NAME_CHARACTERS_MAX: usize = 63;

/// What of the name of an image says where it is.
pub fn path_of(name: &Path) -> &Path {
    name.to_str().map_or(name, |text| split_image(text).0)
}

/// Where an image is, and which of several there.
pub fn placed(name: &Path) -> Result<(&Path, Option<Choice>)> {
    let chosen = name.to_str().and_then(|text| split_image(text).1);
    let choice = chosen.map(str::parse).transpose();
    Ok((path_of(name), choice.map_err(anyhow::Error::msg)?))
}

/// Whether a file has the name of an archive, whatever it is.
pub fn is_called_archive(path: &Path) -> bool {
    let name = path.to_string_lossy().to_lowercase();
    let mut ends = PACKED.iter().chain(&[".tar"]);
    ends.any(|end| name.ends_with(end))
}

/// A machine's name from that of its image, where one of several is named as `shop/web:1` is, else of the
/// file: `My_App-1.2.tar.gz` is `my-app-1-2`.
pub fn name_of(path: &Path, choice: Option<&Choice>) -> String {
    if let Some(Choice::Name(name)) = choice
        && let Some((own, _tag)) = name
            .rsplit('/')
            .next()
            .and_then(|last| last.split_once(':'))
    {
        return machine_name(own);
    }
    let path = path.canonicalize().unwrap_or_else(|_| path.into());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_lowercase();
    let ends = PACKED.iter().chain(&[".tar", ".oci", ".docker"]);
    let name = ends.fold(&*name, |name, end| name.strip_suffix(end).unwrap_or(name));
    machine_name(name)
}

/// As much of a name as can be a machine's.
fn machine_name(name: &str) -> String {
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let name: String = name
        .chars()
        .map(|c| if is_good(c) { c } else { '-' })
        .collect();
    let name: String = name
        .trim_matches('-')
        .chars()
        .take(NAME_CHARACTERS_MAX)
        .collect();
    match name.trim_end_matches('-') {
        "" => NAME.into(),
        name => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_is_the_machines_as_far_as_it_can_be() {
        for (path, name) in [
            ("/x/web.tar", "web"),
            ("My_App-1.2.tar.gz", "my-app-1-2"),
            ("web.oci.tar.bz2", "web"),
            ("web.txz", "web"),
            ("torture.docker.tar", "torture"),
            ("---.tar", "image"),
            ("über.tar", "ber"),
        ] {
            assert_eq!(name_of(Path::new(path), None), name);
        }
        let long = "a".repeat(99);
        assert_eq!(name_of(Path::new(&long), None).len(), NAME_CHARACTERS_MAX);
    }

    #[test]
    fn of_several_images_the_machine_is_called_as_the_one() {
        for (choice, name) in [
            (":shop/web:1", "web"),
            (":registry:5000/my_db:2.1", "my-db"),
            (":1.2", "both"),
            ("@0", "both"),
        ] {
            let choice: Choice = choice.parse().unwrap();
            assert_eq!(name_of(Path::new("both.tar"), Some(&choice)), name);
        }
    }
}
