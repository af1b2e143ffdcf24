//! Which other file a program needs to be executed: the `#!` line's, or the loader of an ELF file.
//!
//! The one thing to know: it is only looked up to word an error, so whatever is odd is no answer.
//! execve(2); ELF-64 object file format, program header `PT_INTERP`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A loader's name stands within the first page in the files of every linker seen.
const LOOK_AT: u64 = 4096;
const PT_INTERP: u32 = 3;

/// The interpreter of the file at `path`, if it names one.
pub(super) fn of(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    File::open(path)
        .ok()?
        .take(LOOK_AT)
        .read_to_end(&mut head)
        .ok()?;
    let name = match head.strip_prefix(b"#!") {
        Some(line) => line
            .split(|byte| matches!(byte, b'\n' | b' ' | b'\t'))
            .find(|word| !word.is_empty())?,
        None => elf_loader(&head)?,
    };
    Some(String::from_utf8_lossy(name).into_owned())
}

fn elf_loader(head: &[u8]) -> Option<&[u8]> {
    // ELFCLASS64, ELFDATA2LSB.
    if head.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let table = usize::try_from(number(head, 32, 8)?).ok()?;
    let entry_size = number(head, 54, 2)? as usize;
    let count = number(head, 56, 2)? as usize;
    (0..count)
        .filter_map(|index| head.get(table.checked_add(index * entry_size)?..))
        .find(|header| number(header, 0, 4) == Some(u64::from(PT_INTERP)))
        .and_then(|header| {
            let offset = usize::try_from(number(header, 8, 8)?).ok()?;
            let rest = head.get(offset..)?;
            rest.split(|byte| *byte == 0).next()
        })
}

/// A little-endian number of `size` bytes.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + size)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_of_a_dynamic_program_is_found() {
        let loader = of(Path::new("/bin/sh")).unwrap();
        assert!(loader.contains("/ld-linux"), "{loader}");
    }

    #[test]
    fn the_word_behind_the_shebang_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        std::fs::write(&script, "#! /no/such/python -u\nprint()\n").unwrap();
        assert_eq!(of(&script).unwrap(), "/no/such/python");
    }

    #[test]
    fn a_damaged_header_is_no_answer() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let bytes = [&b"\x7fELF\x02\x01"[..], &[0xff; 100]].concat();
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(of(&file), None);
    }
}
