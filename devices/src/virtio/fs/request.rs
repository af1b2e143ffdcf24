//! A request, as far as it was read: its header and what follows it, every length checked.

use rustix::io::Errno;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::name::Name;
use super::wire::InHeader;

/// A request of the guest.
pub struct Request<'a> {
    /// How it begins.
    pub header: InHeader,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    /// Takes a request apart of which `bytes` were read; `total_bytes` is how many the guest
    /// gave. They differ for a WRITE, say, whose data nothing here looks at.
    ///
    /// # Errors
    /// `EINVAL`, and the header to answer with: there is no whole header, or it claims more
    /// bytes than the guest gave.
    pub fn new(bytes: &'a [u8], total_bytes: usize) -> Result<Self, (InHeader, Errno)> {
        let Ok((header, _)) = InHeader::read_from_prefix(bytes) else {
            return Err((partial_header(bytes), Errno::INVAL));
        };
        let claimed = header.len as usize;
        let end = claimed.min(bytes.len());
        match bytes.get(size_of::<InHeader>()..end) {
            Some(body) if claimed <= total_bytes => Ok(Self { header, body }),
            _ => Err((header, Errno::INVAL)),
        }
    }

    /// The structure that follows the header.
    ///
    /// # Errors
    /// `EINVAL`: the request is shorter.
    pub fn arguments<T: FromBytes>(&self) -> Result<T, Errno> {
        T::read_from_prefix(self.body)
            .map(|(arguments, _)| arguments)
            .map_err(|_| Errno::INVAL)
    }

    /// The `count` structures that follow an `H` after the header.
    ///
    /// # Errors
    /// `EINVAL`: the request is shorter.
    pub fn list<H, T: FromBytes>(&self, count: u32) -> Result<impl Iterator<Item = T>, Errno> {
        let bytes = (count as usize).saturating_mul(size_of::<T>());
        let list = self.body.get(size_of::<H>()..).ok_or(Errno::INVAL)?;
        let list = list.get(..bytes).ok_or(Errno::INVAL)?;
        let items = list.chunks_exact(size_of::<T>());
        Ok(items.filter_map(|bytes| T::read_from_bytes(bytes).ok()))
    }

    /// The name that is all there is after the header: bytes, one NUL, the end.
    ///
    /// # Errors
    /// `EINVAL`, `ENAMETOOLONG`.
    pub fn name(&self) -> Result<Name<'a>, Errno> {
        self.name_after::<()>()
    }

    /// The name that is all there is after an `H`.
    ///
    /// # Errors
    /// As [`Request::name`].
    pub fn name_after<H>(&self) -> Result<Name<'a>, Errno> {
        match self.text_after::<H>()?.split_last() {
            Some((0, name)) => Name::new(name),
            _ => Err(Errno::INVAL),
        }
    }

    /// Two strings after an `H`, each with its NUL, and nothing more.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn two_after<H>(&self) -> Result<(&'a [u8], &'a [u8]), Errno> {
        let text = self.text_after::<H>()?;
        let (first, rest) = split_at_nul(text).ok_or(Errno::INVAL)?;
        match split_at_nul(rest) {
            Some((second, [])) => Ok((first, second)),
            _ => Err(Errno::INVAL),
        }
    }

    /// The string after an `H`, where bytes may follow its NUL.
    ///
    /// # Errors
    /// `EINVAL`: there is no NUL in what was read.
    pub fn first_after<H>(&self) -> Result<&'a [u8], Errno> {
        let text = self.body.get(size_of::<H>()..).ok_or(Errno::INVAL)?;
        split_at_nul(text)
            .map(|(first, _)| first)
            .ok_or(Errno::INVAL)
    }

    /// Bytes of the request after an `H` and `more`, whether they were read or not.
    pub fn bytes_after<H>(&self, more: usize) -> usize {
        let before = size_of::<InHeader>().saturating_add(size_of::<H>());
        let claimed = self.header.len as usize;
        claimed.saturating_sub(before.saturating_add(more))
    }

    /// What follows an `H`, without the extensions at the end.
    fn text_after<H>(&self) -> Result<&'a [u8], Errno> {
        let extensions = usize::from(self.header.total_extlen).saturating_mul(8);
        let end = self.body.len().checked_sub(extensions);
        let text = end.and_then(|end| self.body.get(size_of::<H>()..end));
        text.ok_or(Errno::INVAL)
    }
}

fn split_at_nul(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| *byte == 0)?;
    let (first, rest) = text.split_at_checked(end)?;
    Some((first, rest.get(1..)?))
}

/// What there is of a header, then zeros: the guest may still learn which request it was. A part
/// of an opcode, or of the number to answer to, would be another one's.
fn partial_header(bytes: &[u8]) -> InHeader {
    let mut header = InHeader::new_zeroed();
    for (to, from) in (header.as_mut_bytes().chunks_exact_mut(8)).zip(bytes.chunks_exact(8)) {
        to.copy_from_slice(from);
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_an_opcode_is_none() {
        let header = |bytes: &[u8]| Request::new(bytes, bytes.len()).err().unwrap().0;
        let whole = [9, 0, 0, 0, 42, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(header(&whole[..5]).opcode, 0);
        assert_eq!(header(&whole[..8]).opcode, 42);
        assert_eq!(header(&whole[..15]).unique, 0);
        assert_eq!(header(&whole).unique, 7);
    }
}
